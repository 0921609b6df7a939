//! Which values are secrets, and who else can read the files that hold them.

use crate::files::Readers;
use crate::node::{Path, Scalar, Segment, Typed};

/// Names of keys whose values are secrets, in lower case and without `_` and `-`.
const NAMES: [&str; 12] = [
    "apikey",
    "awsaccesskeyid",
    "awssecretaccesskey",
    "awssessiontoken",
    "clientsecret",
    "headers",
    "passphrase",
    "password",
    "secret",
    "tokens",
    "vertexserviceaccountjson",
    "privatekey",
];

/// Whether the value at `path` must never be shown: by the name of its key or of one around it, or because
/// it is a URL with a user in it.
pub(crate) fn is_secret(path: &Path, scalar: &Scalar) -> bool {
    if matches!(scalar.typed, Typed::Bool(_) | Typed::Null) {
        return false;
    }
    let named = path.0.iter().any(|segment| match segment {
        Segment::Index(_) => false,
        Segment::Key(key) => {
            let key: String = key
                .chars()
                .filter(|c| !matches!(c, '_' | '-'))
                .flat_map(char::to_lowercase)
                .collect();
            NAMES.contains(&key.as_str())
        }
    });
    // `remove_source_headers` and the like hold names; only maps called `headers` hold values.
    named || has_user(scalar.text())
}

/// Whether a secret is one that has no business in the file: a header such as `X-Team` has.
pub(crate) fn belongs_elsewhere(path: &Path) -> bool {
    let keys: Vec<String> = path
        .0
        .iter()
        .filter_map(|segment| match segment {
            Segment::Key(key) => Some(key.to_ascii_lowercase()),
            Segment::Index(_) => None,
        })
        .collect();
    match keys.as_slice() {
        [.., above, name] if above == "headers" => {
            ["auth", "cookie", "key", "password", "secret", "token"]
                .iter()
                .any(|word| name.contains(word))
        }
        _ => true,
    }
}

/// `scheme://user:password@host`
fn has_user(text: &str) -> bool {
    text.split_once("://").is_some_and(|(_, rest)| {
        rest.split(['/', '?', '#'])
            .next()
            .is_some_and(|authority| authority.contains('@'))
    })
}

/// A warning about a file with secrets in it, if others than its owner can read or write it.
pub(crate) fn exposed(readers: Readers) -> Option<String> {
    let does = |reads: bool| if reads { "read" } else { "write" };
    match readers {
        Readers::Owner => None,
        Readers::Group(mode) => Some(format!(
            "holds secrets and its group can {} it (mode {mode:o}); chmod 600 keeps them to the owner",
            does(mode & 0o040 != 0)
        )),
        Readers::Everybody(mode) => Some(format!(
            "holds secrets and everybody on this machine can {} it (mode {mode:o}); chmod 600 keeps them to the owner",
            does(mode & 0o004 != 0)
        )),
    }
}
