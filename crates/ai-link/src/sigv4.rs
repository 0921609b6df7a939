//! Signs requests for AWS (Signature Version 4, with the header `Authorization`).

use std::fmt;
use std::fmt::Write as _;
use std::time::SystemTime;

use hmac::{Hmac, KeyInit, Mac};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, percent_encode};
use proactions_edge::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};

/// RFC 3986's unreserved characters stay, everything else is encoded.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// As [`ENCODED`], for a path.
const IN_PATH: &AsciiSet = &ENCODED.remove(b'/');

/// `text` as one segment of a path: neither `/` nor `:` of it stays.
pub(crate) fn segment(text: &str) -> String {
    percent_encode(text.as_bytes(), ENCODED).to_string()
}

/// The keys of an account, and what they are used for.
#[derive(Clone)]
pub(crate) struct Signer {
    access_key: SecretString,
    secret_key: SecretString,
    session_token: Option<SecretString>,
    region: String,
    service: &'static str,
}

/// What is signed: the request as it will be sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Signable<'a> {
    pub(crate) method: &'a str,
    pub(crate) path: &'a str,
    pub(crate) query: &'a str,
    /// Names in lower case; among them `host`.
    pub(crate) headers: &'a [(&'a str, &'a str)],
    pub(crate) body: &'a [u8],
}

/// The header fields that a signature adds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Signed {
    pub(crate) authorization: String,
    /// `x-amz-date`
    pub(crate) date: String,
}

impl Signer {
    pub(crate) fn new(
        access_key: SecretString,
        secret_key: SecretString,
        session_token: Option<SecretString>,
        region: String,
        service: &'static str,
    ) -> Self {
        Self {
            access_key,
            secret_key,
            session_token,
            region,
            service,
        }
    }

    /// The value of `x-amz-security-token`, which is signed too.
    pub(crate) fn session_token(&self) -> Option<&str> {
        self.session_token.as_ref().map(ExposeSecret::expose_secret)
    }

    /// Signs a request; `None` for a time out of the calendar.
    pub(crate) fn sign(&self, request: Signable<'_>, now: SystemTime) -> Option<Signed> {
        let now = jiff::Timestamp::try_from(now).ok()?;
        let date = now.strftime("%Y%m%dT%H%M%SZ").to_string();
        let day = date.get(..8)?;
        let (canonical, signed_headers) = self.canonical(request, &date);
        let scope = format!("{day}/{}/{}/aws4_request", self.region, self.service);
        let to_sign = format!(
            "AWS4-HMAC-SHA256\n{date}\n{scope}\n{}",
            hex(&Sha256::digest(canonical.as_bytes()))
        );
        let mut key = format!("AWS4{}", self.secret_key.expose_secret()).into_bytes();
        for part in [day, &self.region, self.service, "aws4_request", &to_sign] {
            key = hmac(&key, part.as_bytes())?;
        }
        Some(Signed {
            authorization: format!(
                "AWS4-HMAC-SHA256 Credential={}/{scope}, SignedHeaders={signed_headers}, Signature={}",
                self.access_key.expose_secret(),
                hex(&key)
            ),
            date,
        })
    }

    /// The canonical request, and the names of the fields in it.
    fn canonical(&self, request: Signable<'_>, date: &str) -> (String, String) {
        let mut headers = request.headers.to_vec();
        headers.push(("x-amz-date", date));
        if let Some(token) = self.session_token() {
            headers.push(("x-amz-security-token", token));
        }
        // Stable: several fields of one name stay in their order.
        headers.sort_by_key(|(name, _)| *name);
        let mut canonical = format!(
            "{}\n{}\n{}\n",
            request.method,
            canonical_path(request.path),
            canonical_query(request.query)
        );
        let mut names = String::new();
        let mut last = None;
        for (name, value) in headers {
            if last == Some(name) {
                canonical.push(',');
            } else {
                if last.is_some() {
                    canonical.push('\n');
                    names.push(';');
                }
                canonical.push_str(name);
                canonical.push(':');
                names.push_str(name);
            }
            last = Some(name);
            for (index, word) in value.split_ascii_whitespace().enumerate() {
                if index > 0 {
                    canonical.push(' ');
                }
                canonical.push_str(word);
            }
        }
        canonical.push_str("\n\n");
        canonical.push_str(&names);
        canonical.push('\n');
        canonical.push_str(&hex(&Sha256::digest(request.body)));
        (canonical, names)
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signer")
            .field("region", &self.region)
            .finish_non_exhaustive()
    }
}

fn hmac(key: &[u8], data: &[u8]) -> Option<Vec<u8>> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).ok()?;
    mac.update(data);
    Some(mac.finalize().into_bytes().to_vec())
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// The path without empty and dot segments, encoded once more: all services but S3 want it so.
fn canonical_path(path: &str) -> String {
    let mut segments: Vec<&str> = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => {
                segments.pop();
            }
            segment => segments.push(segment),
        }
    }
    let mut plain = String::with_capacity(path.len() + 1);
    for segment in &segments {
        plain.push('/');
        plain.push_str(segment);
    }
    let folder = ["/", "/.", "/.."].iter().any(|end| path.ends_with(end));
    if plain.is_empty() || folder {
        plain.push('/');
    }
    percent_encode(plain.as_bytes(), IN_PATH).to_string()
}

fn canonical_query(query: &str) -> String {
    let encoded = |text: &str| {
        let bytes: Vec<u8> = percent_decode_str(text).collect();
        percent_encode(&bytes, ENCODED).to_string()
    };
    let mut pairs: Vec<(String, String)> = query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (encoded(name), encoded(value))
        })
        .collect();
    pairs.sort_unstable();
    let pairs: Vec<String> = pairs.iter().map(|(n, v)| format!("{n}={v}")).collect();
    pairs.join("&")
}

#[cfg(test)]
#[path = "sigv4_tests.rs"]
mod tests;
