//! The beginning of a key at the very end of a body: an answer that was cut off, cleanly, in the middle of one.
//!
//! It is masked from where it begins to the end of the body, as soon as it holds what is public of the key and
//! [`TELLING`] bytes more (half of the rest, where that is less), whatever follows up to the length of the whole key. Were
//! what follows compared too, each further byte could be guessed by itself: who knows the beginning would have one more
//! echoed at the end, and see the mask where it is right. So the mask tells the last of those bytes to whoever knows all
//! before it, and nothing of the others. The same for the other forms, in their own measure. An escape that is cut off and
//! base64 padding belong to the tail. A form is looked at where the fingerprint fits of the last symbols that a tail must
//! have, and that comparison takes the same time whatever it finds. Called by `stream`, by way of `patterns`.

use std::hint::black_box;

use super::escape::step;
use super::fingerprint::{LONGEST_WINDOW, Words};
use super::form::{Case, Form, Kind};

/// How a form begins, as far as that is needed to know a tail.
pub struct Beginning {
    /// Symbols of the shortest tail, and all that are compared.
    least: usize,
    /// The fingerprint of the last of these; none where they are too few for one.
    number: Option<u64>,
}

impl Beginning {
    /// Of a form, of whose key so many bytes make a tail.
    #[must_use]
    pub fn new(form: &Form, bytes: usize) -> Self {
        let least = match form.kind() {
            Kind::Plain => bytes,
            Kind::Hex => 2 * bytes,
            Kind::Base64(_) => (8 * bytes).div_ceil(6),
        };
        let words = Words::of_process().filter(|_| (LONGEST_WINDOW..form.len()).contains(&least));
        let append = |words: Words, number, at| words.append(number, form.symbol(at));
        let number = words.map(|words| (least - LONGEST_WINDOW..least).fold(0, |number, at| append(words, number, at)));
        Self { least, number }
    }

    /// Whether a text of so many bytes can hold it: no form has fewer symbols than the key has bytes.
    #[must_use]
    pub fn fits_in(&self, bytes: usize) -> bool {
        self.least <= bytes
    }

    fn may_end(&self, symbols: &Symbols, end: usize) -> bool {
        match (self.number, &symbols.numbers) {
            (Some(own), Some(numbers)) => numbers[end] == own,
            _ => true,
        }
    }
}

/// How many of its bytes make the shortest tail of a key with this declared prefix.
///
/// Of a signed token in its compact form (RFC 7515, section 7.1) all but the signature counts as public: what it claims is
/// no secret, and begins alike in all that one issuer signs.
#[must_use]
pub fn shortest(key: &[u8], prefix: &[u8]) -> usize {
    let declared = if key.starts_with(prefix) { prefix.len() } else { 0 };
    let mut dots = key.iter().enumerate().filter(|(_, byte)| **byte == b'.').map(|(at, _)| at);
    let public = match (dots.next(), dots.next(), dots.next()) {
        (Some(_), Some(last), None) if key.starts_with(JSON_OBJECT) => declared.max(last + 1),
        _ => declared,
    };
    public + TELLING.min((key.len() - public) / 2)
}

/// Where the tail begins that this text ends in.
#[must_use]
pub fn tail(text: &Text, form: &Form, beginning: &Beginning) -> Option<usize> {
    let least = beginning.least;
    let in_reading = |(symbols, end): (&Symbols, usize)| {
        let lengths = (least..form.len().min(end + 1)).rev();
        let mut ends = lengths.map(|length| end - length + least).filter(|end| beginning.may_end(symbols, *end));
        ends.find_map(|end| symbols.start_of(form, end, least))
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
/// Bytes of a long key beyond what is public of it that tell too much at the end of a cut-off body.
const TELLING: usize = 16;
/// `{"` in base64.
const JSON_OBJECT: &[u8] = b"eyJ";

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::super::form::KINDS;
    use super::super::reference::{base64_interior, hex};
    use super::*;
    use crate::secret::Secret;

    const KEY: &[u8] = b"sk-test-4f8a9b2c1d0e7f6a5b4c3d2e1f0a9b8c7d6e5f4a";
    const PREFIX: &[u8] = b"sk-test-";

    /// Where the tail of this text begins.
    fn found(text: &[u8]) -> Option<usize> {
        let key = Rc::new(Secret::copy_from(KEY).expect("room"));
        let text = Text::new(text);
        KINDS.iter().filter_map(|kind| of_form(&text, &Form::new(Rc::clone(&key), *kind), KEY)).min()
    }

    fn of_form(text: &Text, form: &Form, key: &[u8]) -> Option<usize> {
        tail(text, form, &Beginning::new(form, shortest(key, PREFIX)))
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
        let whole = base64_interior(KEY, 0);
        for (length, rest) in [(40, "A=="), (40, "A"), (40, "="), (40, "=="), (whole.len() - 1, "A==")] {
            assert_eq!(found(&[b"a ", &whole[..length], rest.as_bytes()].concat()), Some(2), "{rest}");
        }
    }

    #[test]
    fn what_follows_a_telling_beginning_is_not_looked_at() {
        for known in 24..KEY.len() {
            for rest in 0..=KEY.len() {
                let text = [b"a ", &KEY[..known], &vec![b'+'; rest][..]].concat();
                let expected = (known + rest < KEY.len()).then_some(2);
                assert_eq!(found(&text), expected, "{known} bytes and {rest} others");
            }
        }
    }

    #[test]
    fn a_long_key_is_found_as_soon_as_a_short_one_and_of_a_shorter_one_half_is_enough() {
        let of = |key: &[u8]| shortest(key, PREFIX);
        assert_eq!(of(&[KEY, KEY].concat()), 24);
        assert_eq!(of(b"Zt0aQmPz81LkVbNc"), 8);
        assert_eq!(of(b"sk-test-Zt0aQmPz81LkVbNc"), 16);
        for length in 6..16 {
            let key = b"Zt0aQmPz81LkVbNc";
            let form = Form::new(Rc::new(Secret::copy_from(key).expect("room")), Kind::Plain);
            let text = Text::new(&[b"a ", &key[..length]].concat());
            assert_eq!(of_form(&text, &form, key), (length >= 8).then_some(2), "{length}");
        }
    }

    #[test]
    fn of_a_signed_token_all_but_the_signature_is_public() {
        let token = b"eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJtZSJ9.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
        assert_eq!(shortest(token, b""), token.len() - 43 + 16);
        for other in [&b"eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJtZSJ9"[..], b"dBjftJeZ.4CVP-mB92K27.uhbUJU1p1r_wW1gFWFOEjXk"] {
            assert!(shortest(other, b"") <= 16);
        }
        let unsigned = b"eyJhbGciOiJub25lIn0.eyJzdWIiOiJtZSJ9.";
        assert_eq!(shortest(unsigned, b""), unsigned.len());
    }
}
