//! One pass from left to right over a text of unknown form.
//!
//! The text may be prose, a query, a form, a cookie, JSON, JSON inside of a string at any depth, a Debug dump
//! or a mix of these. The scan keeps only where the last word and the last quoted text stand; so nesting needs
//! no stack. Every look ahead either ends at the next replacement or is remembered, which keeps it linear.

use std::borrow::Cow;
use std::ops::Range;

use super::FILTERED;
use super::credential::{
    after_backslashes, bare_run, credential_at, is_scheme, next_bare, trim_end, without_punctuation,
};
use super::names::{Names, is_query_only, takes_whole_line};
use super::symbol::{Symbol, decode, symbol_at, wide_char_at};

/// Filters `text`. In a query some more names are sensitive than elsewhere.
pub(super) fn scan<'t>(names: &Names, text: &'t str, is_query: bool) -> Cow<'t, str> {
    Scan {
        names,
        text,
        bytes: text.as_bytes(),
        is_query,
        out: String::new(),
        done: 0,
        no_at_sign_before: 0,
        no_dot_before: 0,
    }
    .run()
}

struct Scan<'n, 't> {
    names: &'n Names,
    text: &'t str,
    bytes: &'t [u8],
    is_query: bool,
    out: String,
    /// Up to here the text stands in `out`.
    done: usize,
    /// No `@` stands between the last place that was looked at for one and here.
    no_at_sign_before: usize,
    /// The same for the dot that a JSON Web Token needs.
    no_dot_before: usize,
}

/// A quotation mark with what makes it differ from those inside and outside of it.
#[derive(Clone, Copy)]
struct Quote {
    byte: u8,
    backslashes: usize,
    depth: u8,
}

/// What may turn out to be the name before a separator.
#[derive(Default)]
struct Candidate {
    /// The last word, and whether something else has followed it.
    word: Option<Range<usize>>,
    word_ended: bool,
    /// Where the word before it began, if a single space is between them.
    word_before: Option<usize>,
    /// The last quoted text with its closing mark.
    quoted: Option<(Range<usize>, KeyQuote)>,
}

/// The mark that closes a quoted name, and where it stands.
type KeyQuote = (Quote, Range<usize>);

impl<'t> Scan<'_, 't> {
    fn run(mut self) -> Cow<'t, str> {
        let mut at = 0;
        let mut candidate = Candidate::default();
        let mut after_quote = 0;
        let mut backslashes = 0;
        let mut backslashes_from = 0;
        let mut in_word = false;
        while let Some(symbol) = symbol_at(self.bytes, at) {
            let next = at + symbol.len;
            if (!in_word || symbol.byte == b'-')
                && let Some(found) = credential_at(self.text, at, &mut self.no_dot_before)
            {
                at = found.end;
                self.replace(found, "");
                candidate = Candidate::default();
                (in_word, backslashes) = (true, 0);
                continue;
            }
            let is_escape = backslashes % 2 == 1 && matches!(symbol.byte, b'n' | b'r' | b't');
            match symbol.byte {
                b'\\' => {
                    if backslashes == 0 {
                        backslashes_from = at;
                    }
                    backslashes += 1;
                    in_word = false;
                    candidate.end_word();
                    at = next;
                    continue;
                }
                b'"' | b'\'' => {
                    let from = if backslashes > 0 {
                        backslashes_from
                    } else {
                        at
                    };
                    let quote = Quote {
                        byte: symbol.byte,
                        backslashes,
                        depth: symbol.depth,
                    };
                    candidate = Candidate {
                        quoted: Some((after_quote..from.max(after_quote), (quote, from..next))),
                        ..Candidate::default()
                    };
                    after_quote = next;
                }
                b'=' | b':' | b'>' => {
                    let end = self.separator(at, symbol, &candidate);
                    candidate = Candidate::default();
                    after_quote = after_quote.max(end);
                    (in_word, backslashes) = (false, 0);
                    at = end;
                    continue;
                }
                byte if is_word_byte(byte) => {
                    candidate.extend(at..next);
                    // The letter of `\n` may be that, or begin a word after a lone backslash: both are tried.
                    if is_escape {
                        candidate.word_before = Some(next);
                    }
                }
                b' ' | b'\t' | b'\r' | b'\n' => candidate.end_word(),
                b',' => {
                    let end = self.pair(next, symbol, &candidate);
                    candidate = Candidate::default();
                    after_quote = after_quote.max(end);
                    (in_word, backslashes) = (false, 0);
                    at = end;
                    continue;
                }
                _ => candidate = Candidate::default(),
            }
            in_word = symbol.byte.is_ascii_alphanumeric() && !is_escape;
            backslashes = 0;
            at = next;
        }
        if self.done == 0 {
            return Cow::Borrowed(self.text);
        }
        self.out
            .push_str(self.text.get(self.done..).unwrap_or_default());
        Cow::Owned(self.out)
    }

    /// Deals with the separator at `at` and returns where to go on.
    fn separator(&mut self, at: usize, symbol: Symbol, candidate: &Candidate) -> usize {
        let next = at + symbol.len;
        if symbol.byte == b':' && self.bytes.get(next) == Some(&b':') && symbol.depth == 0 {
            return next + 1;
        }
        if let Some((name, quote)) = self.sensitive_name(at, symbol, candidate) {
            return self.value(next, symbol, &name, quote.as_ref());
        }
        if symbol.byte == b':'
            && let Some(userinfo) = self.userinfo(next, symbol.depth)
        {
            let end = userinfo.end;
            self.replace(userinfo, "");
            return end;
        }
        next
    }

    /// Deals with a comma that may stand between a name and its value, as in `("apiKey", "…")`; returns where to
    /// go on.
    fn pair(&mut self, next: usize, comma: Symbol, candidate: &Candidate) -> usize {
        let opens_pair = |name: &Range<usize>, (quote, mark): &KeyQuote| {
            let opening = name.start.checked_sub(mark.len());
            let before = opening.and_then(|at| self.bytes.get(at.checked_sub(1)?));
            quote.byte == b'"' && matches!(before, Some(b'(' | b'['))
        };
        let is_pair = candidate
            .quoted
            .as_ref()
            .is_some_and(|(name, key_quote)| opens_pair(name, key_quote));
        if !is_pair {
            return next;
        }
        match self.sensitive_name(next, comma, candidate) {
            Some((name, quote)) => self.value(next, comma, &name, quote.as_ref()),
            None => next,
        }
    }

    /// The candidate, decoded, if it is a sensitive name; with its quotation mark, if it has one.
    fn sensitive_name(
        &self,
        at: usize,
        separator: Symbol,
        candidate: &Candidate,
    ) -> Option<(Vec<u8>, Option<KeyQuote>)> {
        if let Some((range, key_quote)) = &candidate.quoted {
            let name = decode(self.bytes.get(range.clone())?);
            return self
                .names
                .matches(&name)
                .then(|| (name, Some(key_quote.clone())));
        }
        let word = candidate.word.clone()?;
        if separator.byte == b'>' && (word.end != at || !self.opens_tag(word.start)) {
            return None;
        }
        let raw = self.bytes.get(word.clone())?;
        let sensitive = self.is_sensitive(raw)
            || (self.is_query && separator.byte == b'=' && unescaped(raw, is_query_only))
            || candidate.word_before.is_some_and(|start| {
                self.bytes.get(start..word.end).is_some_and(|phrase| {
                    if start > word.start {
                        self.is_sensitive(phrase)
                    } else {
                        self.names.ends_with_compound(&decode(phrase))
                    }
                })
            });
        sensitive.then(|| (decode(raw), None))
    }

    fn is_sensitive(&self, raw: &[u8]) -> bool {
        unescaped(raw, |name| self.names.matches(name))
    }

    fn opens_tag(&self, word: usize) -> bool {
        let before = self.bytes.get(..word).unwrap_or_default();
        TAG_OPENINGS.iter().any(|opening| {
            let from = before.len().checked_sub(opening.len());
            let end = from.and_then(|from| before.get(from..));
            end.is_some_and(|end| end.eq_ignore_ascii_case(opening))
        })
    }

    /// Replaces the value that follows a separator and returns where it ends.
    fn value(
        &mut self,
        from: usize,
        separator: Symbol,
        name: &[u8],
        key_quote: Option<&KeyQuote>,
    ) -> usize {
        let mut start = from;
        while let Some(symbol) = symbol_at(self.bytes, start) {
            let skipped = matches!(symbol.byte, b' ' | b'\t' | b'=' | b'>')
                || (symbol.byte == b'+' && separator.depth > 0)
                || (matches!(symbol.byte, b'\r' | b'\n') && key_quote.is_some());
            if !skipped {
                break;
            }
            start += symbol.len;
        }
        let is_parameter = separator.byte == b'=' && key_quote.is_none();
        if is_parameter && self.is_query {
            let end = self.parameter_end(start, separator.depth);
            self.replace(start..end, "");
            return end;
        }
        // A quotation mark that is encoded more often than the `=` before it is a part of the value.
        let opening = self.opening_quote(start);
        let opening = opening.filter(|(mark, _)| !is_parameter || mark.depth <= separator.depth);
        if let Some((opening, inside)) = opening {
            let (end, after) = self.closing_quote(inside, opening);
            if key_quote.is_none() && self.lies_between_texts(inside..end) {
                // The mark is the end of the text in which the name stands, and the value is empty.
                return start;
            }
            let rest = if is_parameter {
                self.goes_on_at(after)
            } else {
                after
            };
            if rest > after {
                self.replace(start..rest, "");
            } else {
                self.replace(inside..end, "");
            }
            return rest;
        }
        if let Some(quoted) = self.typographic(start) {
            let end = quoted.end;
            self.replace(quoted, "");
            return end;
        }
        let outer = key_quote.map(|(quote, _)| *quote);
        let mut value = self.bare_value(start, separator.depth, outer);
        if separator.byte == b':' && key_quote.is_none() && takes_whole_line(name) {
            value.end = value.end.max(self.line(start).end);
        }
        let mark = match (key_quote, separator.byte) {
            (Some((quote, mark)), b':' | b',') if quote.byte == b'"' => {
                self.text.get(mark.clone()).unwrap_or_default()
            }
            _ => "",
        };
        let end = value.end;
        self.replace(value, mark);
        end
    }

    /// Whether this is what stands between two texts of JSON: it begins with a comma or a closing bracket, and there are
    /// only brackets, numbers, literals and white space.
    fn lies_between_texts(&self, range: Range<usize>) -> bool {
        let mut at = range.start;
        let mut begun = false;
        let mut escaped = false;
        while at < range.end
            && let Some(symbol) = symbol_at(self.bytes, at)
        {
            at += symbol.len;
            let after_backslash = std::mem::replace(&mut escaped, symbol.byte == b'\\');
            match symbol.byte {
                b' ' | b'\t' | b'\r' | b'\n' | b'\\' => {}
                // A line break as it is written within a text.
                b'n' | b'r' | b't' if after_backslash => {}
                b',' | b'}' | b']' => begun = true,
                b'{' | b'[' | b':' | b'0'..=b'9' if begun => {}
                byte if begun && b"truefalsnE+-.".contains(&byte) => {}
                _ => return false,
            }
        }
        begun
    }

    /// Where a parameter of a query ends, whatever it holds.
    fn parameter_end(&self, start: usize, depth: u8) -> usize {
        let mut at = start;
        while let Some(symbol) = symbol_at(self.bytes, at) {
            let ends = match symbol.byte {
                b'&' => symbol.depth <= depth,
                byte => byte <= b' ' && symbol.depth == 0,
            };
            if ends {
                break;
            }
            at += symbol.len;
        }
        at
    }

    /// Where a value ends that goes on right behind a quotation in it, as in `'a'b`.
    fn goes_on_at(&self, after: usize) -> usize {
        let next = self.bytes.get(after);
        if next.is_some_and(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'%' | b'\'')) {
            bare_run(self.bytes, after, 0).end
        } else {
            after
        }
    }

    /// The text in the typographic quotation marks that open at `start`, on the same line.
    fn typographic(&self, start: usize) -> Option<Range<usize>> {
        let (opening, len) = wide_char_at(self.bytes, start)?;
        if !is_typographic_quote(opening) {
            return None;
        }
        let inside = start + len;
        let mut at = inside;
        while let Some(symbol) = symbol_at(self.bytes, at) {
            let closes = |(mark, _)| is_typographic_quote(mark);
            if matches!(symbol.byte, b'\r' | b'\n' | b'"')
                || wide_char_at(self.bytes, at).is_some_and(closes)
            {
                break;
            }
            at += symbol.len;
        }
        Some(inside..at)
    }

    /// The opening quotation mark at `at`, escaped or not, and where the text inside begins.
    fn opening_quote(&self, at: usize) -> Option<(Quote, usize)> {
        let mut at = at;
        let mut backslashes = 0;
        loop {
            let symbol = symbol_at(self.bytes, at)?;
            at += symbol.len;
            match symbol.byte {
                b'\\' => backslashes += 1,
                byte @ (b'"' | b'\'') => {
                    let quote = Quote {
                        byte,
                        backslashes,
                        depth: symbol.depth,
                    };
                    return Some((quote, at));
                }
                _ => return None,
            }
        }
    }

    /// Where the text inside of a quotation ends, and where what follows the closing mark begins.
    ///
    /// A mark closes if it is escaped as often as the opening one; one that is escaped less often, or less
    /// often percent-encoded, ends the text around the quotation and so this one, too.
    fn closing_quote(&self, from: usize, opening: Quote) -> (usize, usize) {
        let period = 2 * (opening.backslashes + 1);
        let mut at = from;
        let mut backslashes = 0;
        let mut backslashes_from = from;
        while let Some(symbol) = symbol_at(self.bytes, at) {
            if symbol.byte == b'\\' {
                if backslashes == 0 {
                    backslashes_from = at;
                }
                backslashes += 1;
            } else {
                if symbol.byte == opening.byte && symbol.depth <= opening.depth {
                    let end = if backslashes > 0 {
                        backslashes_from
                    } else {
                        at
                    };
                    if symbol.depth < opening.depth || backslashes < opening.backslashes {
                        return (end, end);
                    }
                    if backslashes % period == opening.backslashes {
                        // Only as many backslashes belong to this mark as to the opening one.
                        let each = (at - end).checked_div(backslashes).unwrap_or(0);
                        return (at - each * opening.backslashes, at + symbol.len);
                    }
                }
                backslashes = 0;
            }
            at += symbol.len;
        }
        (self.bytes.len(), self.bytes.len())
    }

    /// The rest of the line, or of the quotation that it stands in.
    fn line(&self, start: usize) -> Range<usize> {
        let mut at = start;
        while let Some(byte) = self.bytes.get(at) {
            let follows_equals = at.checked_sub(1).and_then(|at| self.bytes.get(at)) == Some(&b'=');
            let next = match byte {
                // A parameter in quotation marks, and not the end of the text around the line.
                b'"' if follows_equals => self.opening_quote(at).and_then(|(quote, inside)| {
                    let (end, after) = self.closing_quote(inside, quote);
                    (!self.lies_between_texts(inside..end)).then_some(after)
                }),
                b'\r' | b'\n' | b'"' => None,
                b'\\' => after_backslashes(self.bytes, at),
                _ => Some(at + 1),
            };
            let Some(next) = next else {
                break;
            };
            at = next;
        }
        start..at
    }

    /// A value without quotation marks: up to the next delimiter, over whatever is in brackets, and over the
    /// credentials that follow the name of an authentication scheme.
    fn bare_value(&self, start: usize, depth: u8, outer: Option<Quote>) -> Range<usize> {
        let mut at = start;
        let mut hard_end = start;
        while let Some(symbol) = symbol_at(self.bytes, at) {
            let run = self.bytes.get(start..at).unwrap_or_default();
            if matches!(symbol.byte, b'{' | b'[' | b'(') && run.len() <= MAX_TYPE_NAME {
                at = self.balanced(at, outer);
                hard_end = at;
                continue;
            }
            if symbol.byte == b'"' && matches!(run, b"b" | b"r" | b"br" | b"u" | b"f") {
                let opening = Quote {
                    byte: b'"',
                    backslashes: 0,
                    depth: symbol.depth,
                };
                let inside = at + symbol.len;
                let (end, after) = self.closing_quote(inside, opening);
                if !self.lies_between_texts(inside..end) {
                    at = after;
                    hard_end = at;
                    continue;
                }
            }
            let Some(next) = next_bare(self.bytes, at, depth) else {
                break;
            };
            at = next;
        }
        let run = self.bytes.get(start..at).unwrap_or_default();
        if hard_end == start && is_scheme(trim_end(run, b":")) {
            let mut rest = at;
            while matches!(self.bytes.get(rest), Some(b' ' | b'\t')) {
                rest += 1;
            }
            let credentials = bare_run(self.bytes, rest, depth);
            if !credentials.is_empty() {
                return start..credentials.end;
            }
        }
        let trimmed = start + without_punctuation(run).len();
        start..trimmed.max(hard_end)
    }

    /// Where the bracket that opens at `at` is closed; the end of the text if it is not.
    fn balanced(&self, at: usize, outer: Option<Quote>) -> usize {
        let mut at = at;
        let mut open = 0_usize;
        let mut backslashes = 0;
        while let Some(symbol) = symbol_at(self.bytes, at) {
            at += symbol.len;
            match symbol.byte {
                b'\\' => {
                    backslashes += 1;
                    continue;
                }
                b'{' | b'[' | b'(' => open += 1,
                b'}' | b']' | b')' => {
                    open = open.saturating_sub(1);
                    if open == 0 {
                        return at;
                    }
                }
                b'"' => {
                    let quote = Quote {
                        byte: b'"',
                        backslashes,
                        depth: symbol.depth,
                    };
                    let ends_outer = outer.is_some_and(|outer| {
                        outer.byte == b'"'
                            && (backslashes < outer.backslashes || symbol.depth < outer.depth)
                    });
                    if ends_outer {
                        return at - symbol.len - backslashes;
                    }
                    at = self.closing_quote(at, quote).1;
                }
                _ => {}
            }
            backslashes = 0;
        }
        self.bytes.len()
    }

    /// The user and password of the URL whose scheme's colon ends at `from`.
    fn userinfo(&mut self, from: usize, depth: u8) -> Option<Range<usize>> {
        let start = self.two_slashes(from)?;
        if start < self.no_at_sign_before {
            return None;
        }
        let mut at = start;
        let mut last_at_sign = None;
        let mut port = None;
        let mut in_authority = true;
        while let Some(symbol) = symbol_at(self.bytes, at) {
            match symbol.byte {
                0..=b' ' | b'"' | b'<' | b'>' | b'`' => break,
                b'&' if depth > symbol.depth => break,
                b'/' | b'?' | b'#' if in_authority => {
                    // A password may hold these when nobody encoded it. Then no number follows the colon.
                    let is_port = port.is_none_or(|from: usize| {
                        self.bytes
                            .get(from..at)
                            .is_some_and(|digits| digits.iter().all(u8::is_ascii_digit))
                    });
                    if last_at_sign.is_some() || is_port {
                        return last_at_sign.map(|end| start..end);
                    }
                    in_authority = false;
                }
                b'@' => last_at_sign = Some(at),
                b':' => port = Some(at + symbol.len),
                _ => {}
            }
            at += symbol.len;
        }
        if last_at_sign.is_none() {
            self.no_at_sign_before = at;
        }
        last_at_sign.map(|end| start..end)
    }

    /// Where the text after `//` begins, if that stands at `from`; the slashes may be escaped.
    fn two_slashes(&self, from: usize) -> Option<usize> {
        let mut at = from;
        let mut slashes = 0;
        while slashes < 2 {
            let symbol = symbol_at(self.bytes, at)?;
            match symbol.byte {
                b'/' => slashes += 1,
                b'\\' => {}
                _ => return None,
            }
            at += symbol.len;
        }
        Some(at)
    }

    fn replace(&mut self, range: Range<usize>, mark: &str) {
        let Some(old) = self.text.get(range.clone()) else {
            return;
        };
        if old.is_empty() || range.start < self.done || (mark.is_empty() && old == FILTERED) {
            return;
        }
        self.out
            .push_str(self.text.get(self.done..range.start).unwrap_or_default());
        self.out.push_str(mark);
        self.out.push_str(FILTERED);
        self.out.push_str(mark);
        self.done = range.end;
    }
}

/// How a tag opens, percent-encoded or escaped or not.
const TAG_OPENINGS: &[&[u8]] = &[b"<", b"%3c", b"%253c", b"\\u003c"];

/// Brackets open a nested value only after a name that is not longer than this, as in `Some(…)`.
const MAX_TYPE_NAME: usize = 64;

impl Candidate {
    fn extend(&mut self, symbol: Range<usize>) {
        self.quoted = None;
        match &mut self.word {
            Some(word) if !self.word_ended => word.end = symbol.end,
            Some(word) => {
                self.word_before = (word.end + 1 == symbol.start).then_some(word.start);
                self.word = Some(symbol);
            }
            None => self.word = Some(symbol),
        }
        self.word_ended = false;
    }

    fn end_word(&mut self) {
        self.word_ended = true;
    }
}

/// What `judge` says of a name, decoded if it has to be.
fn unescaped(raw: &[u8], judge: impl Fn(&[u8]) -> bool) -> bool {
    if raw.contains(&b'%') || raw.contains(&b'\\') {
        judge(&decode(raw))
    } else {
        judge(raw)
    }
}

const fn is_typographic_quote(found: char) -> bool {
    matches!(
        found,
        '\u{ab}' | '\u{bb}' | '\u{2018}'..='\u{201f}' | '\u{2039}' | '\u{203a}' | '\u{300c}'..='\u{300f}'
            | '\u{ff02}' | '\u{ff07}'
    )
}

/// Whether the byte may stand in an unquoted name.
const fn is_word_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b'[' | b']' | b'$' | 0x80..)
}
