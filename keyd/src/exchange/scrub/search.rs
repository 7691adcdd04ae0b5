//! Finds every form of every key in a text, in one pass for any number of them.
//!
//! Only runs that are long enough are looked at (`shape`). In a run, the fingerprint of the last few symbols
//! (`fingerprint`) is looked up at each place; where it is a form's, the form is compared with what stands there
//! (`form`). So the time that a text takes depends on the keys only where the text holds one, or nearly. A key
//! without a stretch of plain symbols that is long enough, because every few bytes are `%` or `\` or beyond ASCII,
//! cannot have that: it is compared at each place. Called by `stream` and `head`.

use std::ops::Range;

use memchr::memchr2;

use super::escape::{self, readings, step};
use super::fingerprint::{LONGEST_WINDOW, Words};
use super::form::{Case, Form};
use super::shape::{Class, runs};

/// The forms, ready to be looked for.
pub struct Search {
    forms: Vec<Form>,
    class: &'static Class,
    /// Symbols of the shortest form.
    shortest: usize,
    prints: Option<Prints>,
    /// Forms without a fingerprint.
    bare: Vec<usize>,
}

struct Prints {
    words: Words,
    /// Symbols under each fingerprint.
    window: usize,
    /// By number.
    marks: Vec<Mark>,
    sieve: Sieve,
}

/// A form's fingerprint, and the symbol behind the last that it covers.
struct Mark {
    number: u64,
    form: usize,
    end: usize,
}

impl Search {
    /// For these forms.
    #[must_use]
    pub fn new(forms: Vec<Form>, class: &'static Class) -> Self {
        let shortest = forms.iter().map(Form::len).min().unwrap_or(0);
        let window = forms.iter().filter_map(Form::window).min();
        let prints = window.and_then(|window| Prints::new(&forms, window));
        let marked = |form| prints.as_ref().is_some_and(|prints| prints.marks.iter().any(|mark| mark.form == form));
        let bare = (0..forms.len()).filter(|form| !marked(*form)).collect();
        Self { forms, class, shortest, prints, bare }
    }

    /// What is looked for.
    #[must_use]
    pub fn forms(&self) -> &[Form] {
        &self.forms
    }

    /// Calls `found` with each stretch of the text that holds a key, in no order; they may overlap. The first `known`
    /// bytes were searched before: what certainly lies in them is not compared again.
    pub fn each(&self, text: &[u8], case: Case, known: usize, mut found: impl FnMut(Range<usize>)) {
        if self.forms.is_empty() {
            return;
        }
        for run in runs(text, self.class, self.shortest) {
            let part = &text[run.clone()];
            let mut found = |range: Range<usize>| found(run.start + range.start..run.start + range.end);
            let known = known.saturating_sub(run.start);
            // With an edge behind it.
            let longest = |symbols: usize| (symbols + 1) * escape::LONGEST;
            let escapes = memchr2(b'\\', b'%', part).is_some();
            if let Some(prints) = &self.prints {
                let mut marked = |number, place| {
                    for mark in prints.marked(number) {
                        let form = &self.forms[mark.form];
                        if place + longest(form.len() - mark.end) >= known {
                            form.around(part, place, mark.end, case, escapes).map(&mut found);
                        }
                    }
                };
                if escapes { prints.escaped(part, &mut marked) } else { prints.plain(part, &mut marked) }
            }
            for form in self.bare.iter().map(|form| &self.forms[*form]) {
                let begins = |at: &usize| readings(part, *at).any(|reading| form.has(0, reading.bytes()[0], case));
                let places = known.saturating_sub(longest(form.len()))..part.len();
                places.filter(begins).filter_map(|at| form.around(part, at, 0, case, escapes)).for_each(&mut found);
            }
        }
    }
}

impl Prints {
    fn new(forms: &[Form], window: usize) -> Option<Self> {
        let words = Words::of_process()?;
        let mark = |(index, form): (usize, &Form)| {
            let anchor = form.anchor(window)?;
            let end = anchor + window;
            let number = (anchor..end).fold(0, |number, at| words.append(number, form.symbol(at)));
            Some(Mark { number, form: index, end })
        };
        let mut marks: Vec<Mark> = forms.iter().enumerate().filter_map(mark).collect();
        marks.sort_unstable_by_key(|mark| mark.number);
        let sieve = Sieve::of(marks.iter().map(|mark| mark.number));
        Some(Self { words, window, marks, sieve })
    }

    fn marked(&self, number: u64) -> impl Iterator<Item = &Mark> {
        let first = self.marks.partition_point(|mark| mark.number < number);
        self.marks[first..].iter().take_while(move |mark| mark.number == number)
    }

    /// Over a run in which every byte means itself.
    fn plain(&self, run: &[u8], marked: &mut impl FnMut(u64, usize)) {
        let Some((head, _)) = run.split_at_checked(self.window - 1) else { return };
        let mut number = head.iter().fold(0, |number, symbol| self.words.append(number, *symbol));
        let mut done = 0;
        while let Some(more) = self.next(run, done, &mut number) {
            marked(number, done + more + self.window);
            number = self.words.forget(number, run[done + more], self.ago() - 1);
            done += more + 1;
        }
    }

    /// How many places on the sieve holds a number back. Alone in a function, so that the loop has all registers.
    #[inline(never)]
    fn next(&self, run: &[u8], from: usize, number: &mut u64) -> Option<usize> {
        let (words, sieve, ago) = (self.words, &self.sieve, self.ago() - 1);
        let (begins, ends) = (&run[from..], run.get(from + self.window - 1..)?);
        let mut carried = *number;
        for (at, (begin, end)) in begins.iter().zip(ends).enumerate() {
            let whole = words.append(carried, *end);
            if sieve.may_hold(whole) {
                *number = whole;
                return Some(at);
            }
            carried = words.forget(whole, *begin, ago);
        }
        None
    }

    /// Over a run with escapes, each a symbol.
    fn escaped(&self, run: &[u8], marked: &mut impl FnMut(u64, usize)) {
        let ago = self.ago();
        let mut last = [0; LONGEST_WINDOW];
        let (mut number, mut count, mut at) = (0, 0, 0);
        while at < run.len() {
            let (length, symbol) = step(run, at);
            at += length;
            let Some(symbol) = symbol else {
                (number, count) = (0, 0);
                continue;
            };
            number = self.words.append(number, symbol);
            if count >= self.window {
                number = self.words.forget(number, last[(count - self.window) % LONGEST_WINDOW], ago);
            }
            last[count % LONGEST_WINDOW] = symbol;
            count += 1;
            if count >= self.window && self.sieve.may_hold(number) {
                marked(number, at);
            }
        }
    }

    fn ago(&self) -> u32 {
        u32::try_from(self.window).expect("a window is at most 16")
    }
}

/// Tells in one look that a number is none of some; it may be wrong the other way.
struct Sieve {
    words: Box<[u64; SIEVE_WORDS]>,
}

impl Sieve {
    fn of(numbers: impl Iterator<Item = u64>) -> Self {
        let mut words = Box::new([0; SIEVE_WORDS]);
        for number in numbers {
            words[Self::word(number)] |= 1 << (number % 64);
        }
        Self { words }
    }

    fn may_hold(&self, number: u64) -> bool {
        self.words[Self::word(number)] >> (number % 64) & 1 != 0
    }

    fn word(number: u64) -> usize {
        usize::try_from(number >> 32).unwrap_or(0) % SIEVE_WORDS
    }
}

/// 4 KiB: with the five forms of 40 keys one place in 160 is looked at more closely.
const SIEVE_WORDS: usize = 512;

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::super::form::{KINDS, Kind};
    use super::super::shape::Shape;
    use super::*;
    use crate::secret::Secret;

    const KEY: &[u8] = b"sk-test-4f8a9b2c1d0e7f6a5b4c3d2e";

    fn search(key: &[u8]) -> Search {
        let key = Rc::new(Secret::copy_from(key).expect("room"));
        let class = Shape::of([&key[..]].into_iter()).class();
        Search::new(KINDS.map(|kind| Form::new(Rc::clone(&key), kind)).into(), class)
    }

    /// How often a text is looked at more closely.
    fn looks(search: &Search, text: &[u8]) -> usize {
        let prints = search.prints.as_ref().expect("a key with a fingerprint");
        let mut looks = 0;
        let mut marked = |number, _| looks += prints.marked(number).count();
        prints.plain(text, &mut marked);
        prints.escaped(text, &mut marked);
        looks
    }

    #[test]
    fn nothing_is_compared_that_could_be_guessed_byte_by_byte() {
        let search = search(KEY);
        for form in search.forms() {
            let all: Vec<u8> = (0..form.len()).map(|at| form.symbol(at)).collect();
            for known in 0..form.len() {
                // All that is known, each way to go on, and then as the rest of the key is certainly not.
                for guess in *b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-_+/" {
                    if known + 1 == form.len() && form.has(known, guess.to_ascii_lowercase(), Case::Lost) {
                        continue;
                    }
                    let text = [&all[..known], &[guess], &[b'.'; 16]].concat();
                    assert_eq!(looks(&search, &text), 0, "{:?} after {known} bytes", form.kind());
                }
            }
            assert!(looks(&search, &all) >= 1, "{:?}: the positive twin", form.kind());
        }
    }

    #[test]
    fn what_was_searched_is_not_compared_again_and_its_edge_is() {
        for key in [KEY, b"p%ss\\w0rd%ss\\w0rd%ss"] {
            let search = search(key);
            let text = key.repeat(40);
            let found = |known| {
                let mut count = 0;
                search.each(&text, Case::Kept, known, |_| count += 1);
                count
            };
            assert_eq!(found(0), 40);
            let again = found(text.len());
            assert!((1..30).contains(&again), "{again}");
            assert!(found(text.len() / 2) >= 20);
        }
    }

    #[test]
    fn every_form_of_an_ordinary_key_has_a_fingerprint() {
        for key in
            [KEY, b"0123456789abcdef", b"wJalr/XUtnFE+MI/K7MDENG+bPxRfiCY==", "with-a-calm-stretch-and-%\\".as_bytes()]
        {
            let search = search(key);
            assert_eq!(search.bare, [0; 0]);
            assert_eq!(search.prints.map(|prints| prints.marks.len()), Some(5));
        }
        assert_eq!(search(b"p%ss\\w0rd%ss\\w0rd%ss").bare, [0], "the positive twin");
    }

    #[test]
    fn a_fingerprint_is_as_near_to_the_end_as_it_can_be() {
        let search = search(KEY);
        let marks = &search.prints.as_ref().expect("fingerprints").marks;
        for mark in marks {
            assert_eq!(mark.end, search.forms[mark.form].len());
        }
        assert_eq!(search.forms[0].kind(), Kind::Plain);
    }
}
