//! One character of a text that may be percent-encoded or escaped, read without decoding the text.

/// A character as the last reader of the text would see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Symbol {
    /// The character if it is ASCII, else one byte of it.
    pub(super) byte: u8,
    /// How many bytes of the text it takes.
    pub(super) len: usize,
    /// How often it is percent-encoded; 0 for a plain character.
    pub(super) depth: u8,
}

/// Percent signs that are encoded again are followed this far.
const MAX_DEPTH: u8 = 4;

/// The character at `at`.
pub(super) fn symbol_at(bytes: &[u8], at: usize) -> Option<Symbol> {
    let byte = *bytes.get(at)?;
    let encoded = match byte {
        b'%' => percent(bytes, at),
        b'\\' if bytes.get(at + 1) == Some(&b'u') => unicode_escape(bytes, at),
        _ => None,
    };
    Some(encoded.unwrap_or(Symbol {
        byte,
        len: 1,
        depth: 0,
    }))
}

/// The text of `bytes` with every escape undone.
pub(super) fn decode(bytes: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(symbol) = symbol_at(bytes, at) {
        decoded.push(symbol.byte);
        at += symbol.len;
    }
    decoded
}

fn percent(bytes: &[u8], at: usize) -> Option<Symbol> {
    let mut digits = at + 1;
    let mut depth = 1;
    let mut byte = hex_pair(bytes, digits)?;
    while byte == b'%' && depth < MAX_DEPTH {
        let Some(inner) = hex_pair(bytes, digits + 2) else {
            break;
        };
        byte = inner;
        digits += 2;
        depth += 1;
    }
    Some(Symbol {
        byte,
        len: digits + 2 - at,
        depth,
    })
}

fn unicode_escape(bytes: &[u8], at: usize) -> Option<Symbol> {
    let high = hex_pair(bytes, at + 2)?;
    let byte = hex_pair(bytes, at + 4)?;
    (high == 0 && byte.is_ascii()).then_some(Symbol {
        byte,
        len: 6,
        depth: 0,
    })
}

fn hex_pair(bytes: &[u8], at: usize) -> Option<u8> {
    let digit = |at: usize| char::from(*bytes.get(at)?).to_digit(16);
    u8::try_from(digit(at)? * 16 + digit(at + 1)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_read_through() {
        for (text, byte, len, depth) in [
            ("a", b'a', 1, 0),
            ("%3D", b'=', 3, 1),
            ("%253d", b'=', 5, 2),
            ("%25253D", b'=', 7, 3),
            ("%25", b'%', 3, 1),
            ("%zz", b'%', 1, 0),
            ("%", b'%', 1, 0),
            ("\\u0026", b'&', 6, 0),
            ("\\u2028", b'\\', 1, 0),
            ("\\n", b'\\', 1, 0),
        ] {
            assert_eq!(
                symbol_at(text.as_bytes(), 0),
                Some(Symbol { byte, len, depth }),
                "{text}"
            );
        }
        assert_eq!(symbol_at(b"", 0), None);
        assert_eq!(decode(b"%74ok\\u0065n"), b"token");
    }
}
