//! A string in a JSON document (RFC 8259), found by its pointer (RFC 6901) without building the document.
//!
//! One pass, no recursion, a bounded depth. Strict: what is not JSON to the letter is refused, and so is a member that
//! comes twice anywhere on the way to the place, for of those two servers read two things. It refuses to say anything
//! of the rest of the document. Called by `body`.

use std::borrow::Cow;
use std::ops::Range;

/// Where a pointer leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// To nothing.
    Nowhere,
    /// To something that is no string.
    NoString,
    /// To a string.
    String {
        /// Where it stands, quotes included.
        span: Range<usize>,
        /// What it means.
        decoded: String,
    },
}

/// Follows the pointer, which is a well-formed one with at least one step.
///
/// # Errors
/// [`Fault`].
pub fn locate(text: &str, pointer: &str) -> Result<Place, Fault> {
    let steps = pointer.split('/').skip(1).map(unescaped).collect();
    let mut scanner = Scanner { bytes: text.as_bytes(), at: 0, open: Vec::new(), steps, place: Place::Nowhere };
    scanner.run()?;
    Ok(scanner.place)
}

/// Why a document is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It is no JSON.
    Malformed,
    /// It is nested deeper than [`DEEPEST`].
    TooDeep,
    /// A member on the way comes twice.
    Twice,
}

/// Bytes that a string takes, quotes included.
#[must_use]
pub fn quoted_length(text: &str) -> usize {
    2 + text.chars().map(|character| short_escape(character).map_or(character.len_utf8(), <[u8]>::len)).sum::<usize>()
}

/// Appends a string. `out` has room for [`quoted_length`] already where the text is a key: a buffer that grows leaves
/// copies behind.
pub fn quote_into(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    for character in text.chars() {
        match short_escape(character) {
            Some(escape) => out.extend_from_slice(escape),
            None => out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    out.push(b'"');
}

/// No key has a control character that JSON does not leave alone; such a one would become a question mark in a diamond.
fn short_escape(character: char) -> Option<&'static [u8]> {
    match character {
        '"' => Some(b"\\\""),
        '\\' => Some(b"\\\\"),
        '\0'..='\x1f' => Some(b"\\ufffd"),
        _ => None,
    }
}

/// An array or object that is not closed yet.
struct Open {
    is_object: bool,
    /// How many steps of the pointer lead here, where they do.
    way: Option<usize>,
    /// Of an array: the element that is next.
    index: usize,
    /// Of an object on the way: the member that the next step names was there.
    seen: bool,
}

struct Scanner<'a> {
    bytes: &'a [u8],
    at: usize,
    open: Vec<Open>,
    steps: Vec<Cow<'a, str>>,
    place: Place,
}

impl Scanner<'_> {
    fn run(&mut self) -> Result<(), Fault> {
        // How many steps lead to the value that comes next.
        let mut way = Some(0);
        loop {
            let opened = self.value(way)?;
            if opened && !self.closes_at_once() {
                way = self.member()?;
                continue;
            }
            // After a value: go on, or close what it ended.
            loop {
                self.skip_space();
                let Some(open) = self.open.last() else {
                    return if self.at == self.bytes.len() { Ok(()) } else { Err(Fault::Malformed) };
                };
                match (self.bytes.get(self.at), open.is_object) {
                    (Some(b','), _) => break,
                    (Some(b'}'), true) | (Some(b']'), false) => {
                        self.open.pop();
                        self.at += 1;
                    }
                    _ => return Err(Fault::Malformed),
                }
            }
            self.at += 1;
            way = self.member()?;
        }
    }

    /// Reads a value, or opens one; says whether it opened one.
    fn value(&mut self, way: Option<usize>) -> Result<bool, Fault> {
        self.skip_space();
        let is_place = way == Some(self.steps.len());
        let start = self.at;
        match self.bytes.get(start) {
            Some(b'"') => {
                self.string()?;
                if is_place {
                    let span = start..self.at;
                    self.place = Place::String { decoded: self.decoded(&span)?.into_owned(), span };
                }
                return Ok(false);
            }
            Some(bracket @ (b'{' | b'[')) => {
                if self.open.len() == DEEPEST {
                    return Err(Fault::TooDeep);
                }
                let way = way.filter(|_| !is_place);
                self.open.push(Open { is_object: *bracket == b'{', way, index: 0, seen: false });
                self.at += 1;
            }
            Some(b't') => self.word(b"true")?,
            Some(b'f') => self.word(b"false")?,
            Some(b'n') => self.word(b"null")?,
            Some(b'-' | b'0'..=b'9') => self.number()?,
            _ => return Err(Fault::Malformed),
        }
        if is_place {
            self.place = Place::NoString;
        }
        Ok(matches!(self.bytes[start], b'{' | b'['))
    }

    fn closes_at_once(&mut self) -> bool {
        self.skip_space();
        let closes = match (self.bytes.get(self.at), self.open.last()) {
            (Some(b'}'), Some(open)) => open.is_object,
            (Some(b']'), Some(open)) => !open.is_object,
            _ => false,
        };
        if closes {
            self.open.pop();
            self.at += 1;
        }
        closes
    }

    /// Reads up to the next value of what is open, and gives how many steps lead to it.
    fn member(&mut self) -> Result<Option<usize>, Fault> {
        let Some(&Open { is_object, way, index, .. }) = self.open.last() else { return Err(Fault::Malformed) };
        if is_object {
            return self.named_member(way);
        }
        if let Some(open) = self.open.last_mut() {
            open.index += 1;
        }
        Ok(way.filter(|&way| self.steps[way] == index.to_string()).map(|way| way + 1))
    }

    fn named_member(&mut self, way: Option<usize>) -> Result<Option<usize>, Fault> {
        self.skip_space();
        let start = self.at;
        if self.bytes.get(start) != Some(&b'"') {
            return Err(Fault::Malformed);
        }
        self.string()?;
        let end = self.at;
        self.skip_space();
        if self.bytes.get(self.at) != Some(&b':') {
            return Err(Fault::Malformed);
        }
        self.at += 1;
        let Some(way) = way else { return Ok(None) };
        let name = self.decoded(&(start..end))?;
        let step = &*self.steps[way];
        let exact = name == step;
        // Some servers look members up without regard to case: then these are the same one.
        if exact || is_same_but_for_case(&name, step) {
            drop(name);
            let Some(open) = self.open.last_mut() else { return Err(Fault::Malformed) };
            if open.seen {
                return Err(Fault::Twice);
            }
            open.seen = true;
        }
        Ok(exact.then_some(way + 1))
    }

    /// Reads a string that begins here.
    fn string(&mut self) -> Result<(), Fault> {
        self.at += 1;
        loop {
            match self.bytes.get(self.at) {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(());
                }
                Some(b'\\') => self.escape()?,
                Some(0x20..) => self.at += 1,
                _ => return Err(Fault::Malformed),
            }
        }
    }

    fn escape(&mut self) -> Result<(), Fault> {
        match self.bytes.get(self.at + 1) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => {
                self.at += 2;
                Ok(())
            }
            Some(b'u') => {
                let (_, length) = unit(self.bytes, self.at).ok_or(Fault::Malformed)?;
                self.at += length;
                Ok(())
            }
            _ => Err(Fault::Malformed),
        }
    }

    /// What the string of this span means; it was read already.
    fn decoded(&self, span: &Range<usize>) -> Result<Cow<'_, str>, Fault> {
        let inner = self.bytes.get(span.start + 1..span.end - 1).ok_or(Fault::Malformed)?;
        let text = std::str::from_utf8(inner).map_err(|_| Fault::Malformed)?;
        if !inner.contains(&b'\\') {
            return Ok(Cow::Borrowed(text));
        }
        let mut out = String::with_capacity(text.len());
        let mut at = 0;
        while let Some(next) = memchr::memchr(b'\\', &inner[at..]).map(|length| at + length) {
            out.push_str(&text[at..next]);
            let (character, length) = match inner.get(next + 1) {
                Some(b'u') => unit(inner, next).ok_or(Fault::Malformed)?,
                Some(b'b') => ('\x08', 2),
                Some(b'f') => ('\x0c', 2),
                Some(b'n') => ('\n', 2),
                Some(b'r') => ('\r', 2),
                Some(b't') => ('\t', 2),
                Some(other) => (char::from(*other), 2),
                None => return Err(Fault::Malformed),
            };
            out.push(character);
            at = next + length;
        }
        out.push_str(&text[at..]);
        Ok(Cow::Owned(out))
    }

    fn word(&mut self, word: &[u8]) -> Result<(), Fault> {
        if !self.bytes[self.at..].starts_with(word) {
            return Err(Fault::Malformed);
        }
        self.at += word.len();
        Ok(())
    }

    fn number(&mut self) -> Result<(), Fault> {
        self.skip_one(b"-");
        match self.bytes.get(self.at) {
            Some(b'0') => self.at += 1,
            Some(b'1'..=b'9') => self.digits()?,
            _ => return Err(Fault::Malformed),
        }
        if self.skip_one(b".") {
            self.digits()?;
        }
        if self.skip_one(b"eE") {
            self.skip_one(b"+-");
            self.digits()?;
        }
        Ok(())
    }

    fn digits(&mut self) -> Result<(), Fault> {
        let count = self.bytes[self.at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        self.at += count;
        if count > 0 { Ok(()) } else { Err(Fault::Malformed) }
    }

    fn skip_one(&mut self, any: &[u8]) -> bool {
        let is = self.bytes.get(self.at).is_some_and(|byte| any.contains(byte));
        self.at += usize::from(is);
        is
    }

    fn skip_space(&mut self) {
        while self.bytes.get(self.at).is_some_and(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }
}

/// The character of the `\u` at this place, and how many bytes it takes: two escapes where it is a surrogate pair. Half
/// a pair is nothing that UTF-8 has.
fn unit(bytes: &[u8], at: usize) -> Option<(char, usize)> {
    let four = |at: usize| {
        let digits = bytes.get(at..at + 6)?.strip_prefix(b"\\u")?;
        digits.iter().try_fold(0, |value, byte| Some(value * 16 + char::from(*byte).to_digit(16)?))
    };
    let first = four(at)?;
    if !(0xd800..0xdc00).contains(&first) {
        return Some((char::from_u32(first)?, 6));
    }
    let second = four(at + 6).filter(|second| (0xdc00..0xe000).contains(second))?;
    Some((char::from_u32(0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00))?, 12))
}

/// Whether two names differ in case alone, for servers that fold the two characters beyond ASCII that become ASCII: the
/// Kelvin sign and the long s (Unicode, CaseFolding.txt).
fn is_same_but_for_case(one: &str, other: &str) -> bool {
    let folded = |text: &str| text.replace('\u{212a}', "k").replace('\u{17f}', "s");
    one.eq_ignore_ascii_case(other)
        || !(one.is_ascii() && other.is_ascii()) && folded(one).eq_ignore_ascii_case(&folded(other))
}

/// A step of a pointer, without `~0` and `~1`.
fn unescaped(step: &str) -> Cow<'_, str> {
    if step.contains('~') { Cow::Owned(step.replace("~1", "/").replace("~0", "~")) } else { Cow::Borrowed(step) }
}

/// Arrays and objects inside each other.
pub const DEEPEST: usize = 100;

#[cfg(test)]
#[path = "json_tests.rs"]
mod tests;
