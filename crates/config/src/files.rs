//! Reading small text files, and what their permissions say.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;

/// The file as text; the error completes a sentence that begins with the file's name.
pub(crate) fn read_text(path: &Path, limit: u64) -> Result<String, String> {
    if path.as_os_str().is_empty() {
        return Err("has no name".to_owned());
    }
    let file = File::open(path).map_err(|error| describe(&error))?;
    let metadata = file.metadata().map_err(|error| describe(&error))?;
    // A pipe is fine (process substitution, some secret managers), a directory is a mistake in a mount.
    if metadata.is_dir() {
        return Err("is a directory; expected a file".to_owned());
    }
    let mut bytes = Vec::new();
    file.take(limit + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| describe(&error))?;
    if bytes.len() as u64 > limit {
        return Err(format!("is larger than {limit} bytes"));
    }
    String::from_utf8(bytes).map_err(|error| {
        let valid = error.as_bytes().get(..error.utf8_error().valid_up_to());
        let lines = valid.unwrap_or_default().iter().filter(|b| **b == b'\n');
        format!("is not UTF-8 text (line {})", lines.count() + 1)
    })
}

fn describe(error: &std::io::Error) -> String {
    match error.kind() {
        ErrorKind::NotFound => "does not exist".to_owned(),
        ErrorKind::PermissionDenied => {
            "cannot be read: permission denied; give it to the user that runs the hub".to_owned()
        }
        kind => format!("cannot be read: {kind}"),
    }
}

/// Who else than the owner can read or write a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Readers {
    Owner,
    Group(u32),
    Everybody(u32),
}

/// Who can read or write the file; [`Readers::Owner`] also where the system has no modes.
pub(crate) fn readers(path: &Path) -> Readers {
    #[cfg(unix)]
    if let Ok(metadata) = std::fs::metadata(path) {
        use std::os::unix::fs::PermissionsExt;
        let mode = metadata.permissions().mode() & 0o777;
        if mode & 0o006 != 0 {
            return Readers::Everybody(mode);
        }
        if mode & 0o060 != 0 {
            return Readers::Group(mode);
        }
    }
    #[cfg(not(unix))]
    let _ = path;
    Readers::Owner
}
