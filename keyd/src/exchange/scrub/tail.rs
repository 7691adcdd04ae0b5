//! The beginning of a key at the very end of a body: an answer that was cut off, cleanly, in the middle of one.
//!
//! It is masked where it is the public prefix and at least [`TELLING`] bytes more, and at most [`MOST_LEFT`] bytes are
//! missing. Of long keys the beginning may be known (a JWT's header): were it masked as soon as some bytes fit, each
//! further byte could be guessed by itself. So a tail has to hold many unknown bytes at once. The same for the other
//! forms, in their own measure. An escape that is cut off, base64 padding and a last character that holds fewer bits
//! belong to the tail. A form is looked at where the fingerprint fits of the last symbols that a tail must have, and
//! that comparison takes the same time whatever it finds. Called by `stream`.

use std::hint::black_box;

use super::escape::step;
use super::fingerprint::{LONGEST_WINDOW, Words};
use super::form::{Case, Form, Kind};

/// How a form begins, as far as that is needed to know a tail.
pub struct Beginning {
    /// Symbols of the shortest tail.
    least: usize,
    /// The fingerprint of the last of these; none where there are none to be had.
    number: Option<u64>,
}

impl Beginning {
    /// Of a form, of whose key so many bytes are public.
    #[must_use]
    pub fn new(form: &Form, prefix: usize) -> Self {
        let scale = |bytes: usize| match form.kind() {
            Kind::Plain => bytes,
            Kind::Hex => 2 * bytes,
            Kind::Base64(_) => (8 * bytes).div_ceil(6),
        };
        let least = scale(prefix + TELLING).max(form.len().saturating_sub(scale(MOST_LEFT)));
        let words = Words::of_process().filter(|_| least < form.len());
        let append = |words: Words, number, at| words.append(number, form.symbol(at));
        let number = words.map(|words| (least - LONGEST_WINDOW..least).fold(0, |number, at| append(words, number, at)));
        Self { least, number }
    }

    fn may_end(&self, symbols: &Symbols, end: usize) -> bool {
        match (self.number, &symbols.numbers) {
            (Some(own), Some(numbers)) => numbers[end] == own,
            _ => true,
        }
    }
}

/// Where the tail begins that this text ends in and that is the beginning of the form.
#[must_use]
pub fn tail(text: &Text, form: &Form, beginning: &Beginning) -> Option<usize> {
    let least = beginning.least;
    let in_reading = |(symbols, end): (&Symbols, usize)| {
        let lengths = (least..form.len().min(end + 1)).rev();
        let mut fitting = lengths.filter(|length| beginning.may_end(symbols, end - length + least));
        fitting.find_map(|length| symbols.start_of(form, end, length))
    };
    text.ends(matches!(form.kind(), Kind::Base64(_))).filter_map(in_reading).min()
}

/// The end of a text, in every way that a tail is looked for in it.
pub struct Text {
    /// As it stands, and with escapes read.
    readings: Vec<Symbols>,
}

/// Symbols, and where in the text each begins.
struct Symbols {
    symbols: Vec<u8>,
    starts: Vec<usize>,
    /// Of each place, the fingerprint of the last symbols before it; of the first places it means nothing.
    numbers: Option<Vec<u64>>,
}

impl Text {
    /// Reads the end of a body.
    #[must_use]
    pub fn new(text: &[u8]) -> Self {
        let plain = Symbols::new(text.to_vec(), (0..text.len()).collect());
        let escaped = text.iter().any(|byte| matches!(byte, b'\\' | b'%'));
        let readings = if escaped { vec![plain, Symbols::unescaped(text)] } else { vec![plain] };
        Self { readings }
    }

    /// The places that a form may end at: behind all symbols, and in base64 before padding, or before that and one more.
    fn ends(&self, base64: bool) -> impl Iterator<Item = (&Symbols, usize)> {
        self.readings.iter().flat_map(move |reading| {
            let all = reading.symbols.len();
            let padding = reading.symbols.iter().rev().take(2).take_while(|symbol| **symbol == b'=').count();
            let bare = all - padding;
            let ends = [Some(all), base64.then_some(bare), base64.then(|| bare.saturating_sub(1))];
            ends.into_iter().flatten().map(move |end| (reading, end))
        })
    }
}

impl Symbols {
    fn new(symbols: Vec<u8>, starts: Vec<usize>) -> Self {
        let numbers = Words::of_process().map(|words| numbers(words, &symbols));
        Self { symbols, starts, numbers }
    }

    fn unescaped(text: &[u8]) -> Self {
        let (mut symbols, mut starts, mut at) = (Vec::new(), Vec::new(), 0);
        while at < text.len() {
            if is_cut_off(&text[at..]) {
                break;
            }
            let (length, symbol) = step(text, at);
            symbols.push(symbol.unwrap_or(text[at]));
            starts.push(at);
            at += length;
        }
        Self::new(symbols, starts)
    }

    /// Where the last `length` symbols before `end` begin, if they are the form's first ones.
    fn start_of(&self, form: &Form, end: usize, length: usize) -> Option<usize> {
        let first = end.checked_sub(length)?;
        let same = |(at, symbol): (usize, &u8)| form.has(at, *symbol, Case::Kept);
        let all = self.symbols[first..end].iter().enumerate().fold(true, |all, one| black_box(all & same(one)));
        let edge = usize::from(matches!(form.kind(), Kind::Base64(1 | 2)));
        let start = first.checked_sub(edge).filter(|at| self.is_edge(*at)).unwrap_or(first);
        all.then(|| self.starts[start])
    }

    fn is_edge(&self, at: usize) -> bool {
        let symbol = self.symbols[at];
        symbol.is_ascii_alphanumeric() || b"+/-_".contains(&symbol)
    }
}

/// The fingerprint of the symbols before each place, and of the place behind the last.
fn numbers(words: Words, symbols: &[u8]) -> Vec<u64> {
    let mut numbers = Vec::with_capacity(symbols.len() + 1);
    let mut number = 0;
    numbers.push(number);
    for (at, symbol) in symbols.iter().enumerate() {
        number = words.append(number, *symbol);
        if let Some(first) = at.checked_sub(LONGEST_WINDOW) {
            number = words.forget(number, symbols[first], AGO);
        }
        numbers.push(number);
    }
    numbers
}

/// Whether a text ends in the middle of the escape that it begins with.
fn is_cut_off(text: &[u8]) -> bool {
    let digits = |digits: &[u8], most: usize| digits.len() < most && digits.iter().all(u8::is_ascii_hexdigit);
    match text {
        [b'%', rest @ ..] => digits(rest, 2),
        [b'\\'] => true,
        [b'\\', b'u', rest @ ..] => digits(rest, 4),
        _ => false,
    }
}

/// After so many symbols one leaves the fingerprint.
const AGO: u32 = LONGEST_WINDOW as u32;
/// Bytes of a key that may be missing from a tail that is masked.
const MOST_LEFT: usize = 24;
/// Bytes of a key beyond its public prefix that tell too much at the end of a cut-off body.
pub const TELLING: usize = 16;

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::super::form::KINDS;
    use super::super::reference::{base64_interior, hex};
    use super::*;
    use crate::secret::Secret;

    const KEY: &[u8] = b"sk-test-4f8a9b2c1d0e7f6a5b4c3d2e1f0a9b8c7d6e5f4a";
    const PREFIX: usize = 8;

    /// Where the tail of this text begins.
    fn found(text: &[u8]) -> Option<usize> {
        let key = Rc::new(Secret::copy_from(KEY).expect("room"));
        let text = Text::new(text);
        KINDS.iter().filter_map(|kind| of_form(&text, &Form::new(Rc::clone(&key), *kind))).min()
    }

    fn of_form(text: &Text, form: &Form) -> Option<usize> {
        tail(text, form, &Beginning::new(form, PREFIX))
    }

    #[test]
    fn a_telling_beginning_is_found_in_every_form() {
        let forms: [(Vec<u8>, usize); 4] =
            [(KEY.to_vec(), 24), (hex(KEY), 48), (hex(KEY).to_ascii_uppercase(), 48), (base64_interior(KEY, 0), 32)];
        for (form, least) in forms {
            for length in 1..form.len() {
                let text = [b"a ", &form[..length]].concat();
                assert_eq!(found(&text), (length >= least).then_some(2), "{}", String::from_utf8_lossy(&text));
            }
        }
    }

    #[test]
    fn an_edge_before_it_belongs_to_it() {
        for before in [1, 2] {
            let form = base64_interior(KEY, before);
            assert_eq!(found(&[b"a X", &form[..40]].concat()), Some(2), "{before}");
            assert_eq!(found(&[b"a .", &form[..40]].concat()), Some(3), "{before}");
        }
    }

    #[test]
    fn what_was_cut_off_in_an_escape_or_padded_is_still_a_tail() {
        let cut = &KEY[..30];
        for rest in ["", "\\", "\\u", "\\u00", "\\u003", "%", "%3"] {
            assert_eq!(found(&[b"a ", cut, rest.as_bytes()].concat()), Some(2), "{rest}");
        }
        let escaped = cut.iter().flat_map(|byte| format!("%{byte:02x}").into_bytes()).collect::<Vec<_>>();
        assert_eq!(found(&[b"a ", &escaped[..]].concat()), Some(2));
        for (length, rest) in [(40, "A=="), (40, "A"), (40, "="), (40, "==")] {
            assert_eq!(
                found(&[b"a ", &base64_interior(KEY, 0)[..length], rest.as_bytes()].concat()),
                Some(2),
                "{rest}"
            );
        }
        assert_eq!(found(&[b"a ", cut, b"."].concat()), None, "the positive twin");
    }

    #[test]
    fn of_a_long_key_nearly_all_has_to_be_there() {
        let key = Rc::new(Secret::copy_from(&[KEY, KEY].concat()).expect("room"));
        let form = Form::new(key, Kind::Plain);
        let text = [b"a ", KEY, KEY].concat();
        assert_eq!(of_form(&Text::new(&text[..2 + 71]), &form), None);
        assert_eq!(of_form(&Text::new(&text[..2 + 72]), &form), Some(2));
    }
}
