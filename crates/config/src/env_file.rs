//! `.env` files: `KEY=VALUE` a line.

/// What is wrong with one line; it never shows the line.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct EnvFault {
    pub(crate) line: usize,
    pub(crate) message: &'static str,
}

/// The pairs in their order, and the lines that cannot be read.
///
/// - An empty line and a line that begins with `#` say nothing; `export ` before the key is skipped.
/// - A value without quotes ends at ` #`, white space around it goes.
/// - `'…'` is taken as it stands. `"…"` knows `\n`, `\r`, `\t`, `\"`, `\\` and `\$`. Both may hold line ends.
/// - `${…}` means nothing here.
pub(crate) fn parse(text: &str) -> (Vec<(String, String)>, Vec<EnvFault>) {
    let mut pairs = Vec::new();
    let mut faults = Vec::new();
    let mut rest = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut line = 1;
    while !rest.is_empty() {
        let start = line;
        let (result, after) = entry(rest);
        let consumed = rest.len() - after.len();
        line += rest
            .get(..consumed)
            .unwrap_or_default()
            .matches('\n')
            .count();
        rest = after;
        match result {
            Ok(Some(pair)) => pairs.push(pair),
            Ok(None) => {}
            Err(message) => faults.push(EnvFault {
                line: start,
                message,
            }),
        }
    }
    (pairs, faults)
}

type Entry = Result<Option<(String, String)>, &'static str>;

fn entry(rest: &str) -> (Entry, &str) {
    let (first, after_line) = split_line(rest);
    let trimmed = first.trim();
    if trimmed.is_empty() || trimmed.starts_with('#') {
        return (Ok(None), after_line);
    }
    let Some((key, _)) = first.split_once('=') else {
        return (Err("expected KEY=VALUE"), after_line);
    };
    let value_from = rest.get(key.len() + 1..).unwrap_or_default();
    let key = key.trim();
    let key = key
        .strip_prefix("export")
        .filter(|rest| rest.starts_with([' ', '\t']))
        .map_or(key, str::trim);
    let good_key = key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        && key.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    let value = value_from.trim_start_matches([' ', '\t']);
    let quote = value.chars().next().filter(|c| matches!(c, '\'' | '"'));
    let (value, after) = match quote {
        None => {
            let (line, after) = split_line(value_from);
            (Ok(unquoted(line)), after)
        }
        Some(quote) => quoted(value.get(1..).unwrap_or_default(), quote),
    };
    if !good_key {
        return (
            Err("the name before = must be made of letters, digits and _"),
            after,
        );
    }
    (value.map(|value| Some((key.to_owned(), value))), after)
}

fn split_line(text: &str) -> (&str, &str) {
    let (line, after) = text.split_once('\n').unwrap_or((text, ""));
    (line.strip_suffix('\r').unwrap_or(line), after)
}

fn unquoted(line: &str) -> String {
    let end = line
        .char_indices()
        .zip(std::iter::once(' ').chain(line.chars()))
        .find_map(|((at, c), before)| (c == '#' && before.is_whitespace()).then_some(at))
        .unwrap_or(line.len());
    line.get(..end).unwrap_or(line).trim().to_owned()
}

fn quoted(text: &str, quote: char) -> (Result<String, &'static str>, &str) {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        if c == quote {
            let (tail, after) = split_line(text.get(at + 1..).unwrap_or_default());
            let tail = tail.trim();
            if !tail.is_empty() && !tail.starts_with('#') {
                return (Err("there is something after the closing quote"), after);
            }
            return (Ok(value), after);
        }
        if c != '\\' || quote == '\'' {
            value.push(c);
            continue;
        }
        match chars.next().map(|(_, escaped)| escaped) {
            Some('n') => value.push('\n'),
            Some('r') => value.push('\r'),
            Some('t') => value.push('\t'),
            Some(escaped @ ('"' | '\\' | '$')) => value.push(escaped),
            Some(other) => {
                value.push('\\');
                value.push(other);
            }
            None => value.push('\\'),
        }
    }
    let (_, after) = split_line(text);
    (Err("a quote is opened and never closed"), after)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_form() {
        for (text, key, value) in [
            ("A=1", "A", "1"),
            ("A=1\r\n", "A", "1"),
            ("  A = 1  ", "A", "1"),
            ("export A=1", "A", "1"),
            ("A=", "A", ""),
            ("A= # none", "A", ""),
            ("A=#none", "A", ""),
            ("A=a#b", "A", "a#b"),
            ("A=a #b", "A", "a"),
            ("A=a=b==", "A", "a=b=="),
            ("A='a #b'", "A", "a #b"),
            ("A='a\\n'", "A", "a\\n"),
            ("A=\"a\\n\\t\\\"\\\\\\$\\x\" # c", "A", "a\n\t\"\\$\\x"),
            ("A=\"line 1\nline 2\"\n", "A", "line 1\nline 2"),
            ("A=${B}", "A", "${B}"),
            ("\u{feff}A=1", "A", "1"),
            ("exported=1", "exported", "1"),
        ] {
            let (pairs, faults) = parse(text);
            assert_eq!(pairs, [(key.to_owned(), value.to_owned())], "{text:?}");
            assert!(faults.is_empty(), "{text:?}");
        }
        assert_eq!(parse("\n# c\n   \n"), (vec![], vec![]));
    }

    #[test]
    fn faults_name_their_line_and_the_rest_is_read() {
        let (pairs, faults) = parse("A=1\nnonsense\nB=\"x\ny\"\n9=x\nC='a' b\nD=4\nE=\"open\nF=6");
        let names: Vec<_> = pairs.iter().map(|(k, _)| k.as_str()).collect();
        assert_eq!(names, ["A", "B", "D", "F"]);
        let lines: Vec<_> = faults.iter().map(|f| f.line).collect();
        assert_eq!(lines, [2, 5, 6, 8]);
    }

    proptest! {
        #[test]
        fn no_text_panics_and_every_line_is_passed(text in any::<String>()) {
            let _ = parse(&text);
        }

        #[test]
        fn a_plain_value_comes_back(value in "[a-zA-Z0-9+/=:@.-]{0,40}") {
            let (pairs, faults) = parse(&format!("KEY={value}\n"));
            prop_assert!(faults.is_empty());
            prop_assert_eq!(&pairs[0].1, &value);
        }
    }
}
