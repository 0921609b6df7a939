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
        b'%' => percent(bytes, at).map(|first| full_width(bytes, at, first)),
        b'\\' if bytes.get(at + 1) == Some(&b'u') => unicode_escape(bytes, at),
        FULL_WIDTH => Some(full_width(
            bytes,
            at,
            Symbol {
                byte,
                len: 1,
                depth: 0,
            },
        )),
        _ => None,
    };
    Some(encoded.unwrap_or(Symbol {
        byte,
        len: 1,
        depth: 0,
    }))
}

/// The character at `at` if it is beyond ASCII, and how many bytes of the text it takes.
pub(super) fn wide_char_at(bytes: &[u8], at: usize) -> Option<(char, usize)> {
    let (mut encoded, mut ends) = ([0; 4], [0; 4]);
    let mut next = at;
    let mut read = 0;
    for (byte, end) in encoded.iter_mut().zip(&mut ends) {
        let Some(symbol) = symbol_at(bytes, next).filter(|symbol| !symbol.byte.is_ascii()) else {
            break;
        };
        next += symbol.len;
        (*byte, *end) = (symbol.byte, next - at);
        read += 1;
    }
    let (found, len) = first_char(encoded.get(..read)?)?;
    Some((found, *ends.get(len.checked_sub(1)?)?))
}

/// The character that the UTF-8 in `bytes` begins with, and its length.
pub(super) fn first_char(bytes: &[u8]) -> Option<(char, usize)> {
    let chunk = bytes.utf8_chunks().next()?;
    let found = chunk.valid().chars().next()?;
    Some((found, found.len_utf8()))
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

/// The first byte of the full-width forms in UTF-8.
const FULL_WIDTH: u8 = 0xef;

/// The full-width colon and equals sign are what they look like. `first` is the byte at `at`.
fn full_width(bytes: &[u8], at: usize, first: Symbol) -> Symbol {
    let byte_at = |at: usize| match bytes.get(at) {
        Some(b'%') => percent(bytes, at).map(|symbol| (symbol.byte, symbol.len)),
        byte => byte.map(|byte| (*byte, 1)),
    };
    let folded = || {
        let (second, second_len) = byte_at(at + first.len)?;
        let (third, third_len) = byte_at(at + first.len + second_len)?;
        let byte = match (second, third) {
            (0xbc, 0x9a) => b':',
            (0xbc, 0x9d) => b'=',
            _ => return None,
        };
        let len = first.len + second_len + third_len;
        Some(Symbol { byte, len, ..first })
    };
    if first.byte == FULL_WIDTH {
        folded().unwrap_or(first)
    } else {
        first
    }
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
            ("\u{ff1a}", b':', 3, 0),
            ("%EF%BC%9D", b'=', 9, 1),
            ("\u{ff02}", 0xef, 1, 0),
        ] {
            assert_eq!(
                symbol_at(text.as_bytes(), 0),
                Some(Symbol { byte, len, depth }),
                "{text}"
            );
        }
        assert_eq!(symbol_at(b"", 0), None);
        assert_eq!(decode(b"%74ok\\u0065n"), b"token");
        let wide = |text: &str| wide_char_at(text.as_bytes(), 0);
        assert_eq!(wide("\u{a0}x"), Some(('\u{a0}', 2)));
        assert_eq!(wide("%C2%A0x"), Some(('\u{a0}', 6)));
        assert_eq!((wide("x"), wide("%C2x"), wide("%A0")), (None, None, None));
    }
}
