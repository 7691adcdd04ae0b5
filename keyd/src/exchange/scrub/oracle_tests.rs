//! What a guesser sees: somebody who has chosen bytes echoed beside a key, cuts where they like, and measures what
//! comes out when. And a scrubber that does give keys away, to show that these tests would notice.

use std::rc::Rc;

use bytes::Bytes;
use proptest::prelude::*;
use proptest::sample::Index;

use super::form::{Form, KINDS, standard};
use super::patterns::Patterns;
use super::patterns::fixture::patterns;
use super::reference;
use super::stream::Stream;
use super::whole_tests::{KEYS, all_forms};
use crate::secret::Secret;

/// Something that takes chunks and gives what may go out.
trait Scrubber {
    fn push(&mut self, chunk: &[u8]) -> Vec<u8>;
    fn finish(self) -> Vec<u8>;
}

impl Scrubber for Stream {
    fn push(&mut self, chunk: &[u8]) -> Vec<u8> {
        Stream::push(self, Bytes::copy_from_slice(chunk)).concat()
    }

    fn finish(self) -> Vec<u8> {
        Stream::finish(self).0.to_vec()
    }
}

/// Holds back only what is the beginning of a form: no delay that could be spared, and an oracle.
struct Leaky {
    forms: Rc<Vec<Vec<u8>>>,
    held: Vec<u8>,
}

impl Leaky {
    fn new(key: &[u8]) -> Self {
        let key = Rc::new(Secret::copy_from(key).expect("room"));
        let forms = KINDS.map(|kind| Form::new(Rc::clone(&key), kind));
        let spelled = forms.iter().map(|form| (0..form.len()).map(|at| form.symbol(at)).collect());
        Self { forms: Rc::new(spelled.collect()), held: Vec::new() }
    }
}

impl Scrubber for Leaky {
    fn push(&mut self, chunk: &[u8]) -> Vec<u8> {
        self.held.extend_from_slice(chunk);
        for form in self.forms.iter() {
            while let Some(at) = self.held.windows(form.len()).position(|part| part == form) {
                self.held[at..at + form.len()].fill(b'*');
            }
        }
        let live =
            |length: &usize| self.forms.iter().any(|form| form.starts_with(&self.held[self.held.len() - length..]));
        let hold = (0..=self.held.len()).rev().find(live).unwrap_or(0);
        self.held.drain(..self.held.len() - hold).collect()
    }

    fn finish(mut self) -> Vec<u8> {
        std::mem::take(&mut self.held)
    }
}

/// What is seen of a text in chunks: how much came out after each, and which bytes of it were masked.
fn seen(mut scrubber: impl Scrubber, chunks: &[&[u8]], ends: bool) -> (Vec<usize>, Vec<bool>) {
    let mut lengths = Vec::new();
    let mut out = Vec::new();
    for chunk in chunks {
        out.extend(scrubber.push(chunk));
        lengths.push(out.len());
    }
    if ends {
        out.extend(scrubber.finish());
    }
    let masked = out.iter().zip(chunks.concat()).map(|(out, given)| *out != given).collect();
    (lengths, masked)
}

/// The guess run: at each place of a form every way to go on is tried. Gives the places where one looks different.
fn guess_run<S: Scrubber>(key: &[u8], form: &[u8], ends: bool, make: &dyn Fn() -> S) -> Vec<usize> {
    // A key that ends in what looks like an escape may be whole a little before its form is.
    let odd = |bytes: &[u8]| bytes.iter().any(|byte| b"\\%".contains(byte));
    // And in place of its last symbols an escape that is one, or is cut off, makes a tail, where what is none is too long.
    let without = match (ends, odd(key), odd(form)) {
        (true, _, true) => SYMBOL * SYMBOL,
        (true, _, false) => SYMBOL,
        (false, true, _) => 16,
        (false, false, _) => 0,
    };
    let last = form.len().saturating_sub(without);
    (0..last).filter(|known| [&b""[..], b" "].iter().any(|rest| is_told(form, *known, rest, ends, make))).collect()
}

fn is_told<S: Scrubber>(form: &[u8], known: usize, rest: &[u8], ends: bool, make: &dyn Fn() -> S) -> bool {
    // Where a form is all escapes one guess in nine has to do, beside the right one.
    let few = form.len() > 50;
    let guesses = GUESSES.iter().enumerate().filter(|(at, guess)| !few || at % 9 == 0 || **guess == form[known]);
    // The last byte makes it whole, and that is seen.
    let is_whole = |guess: u8| known + 1 == form.len() && standard(guess).eq_ignore_ascii_case(&standard(form[known]));
    let mut looks = guesses.filter(|(_, guess)| !is_whole(**guess)).map(|(_, guess)| {
        let text = [b"guess: ", &form[..known], &[*guess], rest].concat();
        let at = text.len() - rest.len();
        [&[&text[..]][..], &[&text[..at - 1], &text[at - 1..]], &[&text[..at], &text[at..]]]
            .map(|chunks| seen(make(), chunks, ends))
    });
    let first = looks.next();
    looks.any(|other| first.as_ref().is_some_and(|first| *first != other))
}

const GUESSES: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/-_.~=%\\";

#[test]
fn a_guesser_learns_nothing_about_the_next_byte() {
    for key in [KEYS[0], KEYS[2], KEYS[3], KNOWN] {
        let patterns = Rc::new(patterns(&[key.as_bytes()], "sk-"));
        for (name, form) in all_forms(key) {
            let told = |ends| guess_run(key.as_bytes(), &form, ends, &|| Stream::new(Rc::clone(&patterns)));
            assert_eq!(told(false), Vec::<usize>::new(), "{key} {name}");
            // At a clean end the last symbol of the shortest tail is told.
            let told = told(true);
            let (Some(first), Some(last)) = (told.first(), told.last()) else {
                // The twin is nearer to the end than this one was looked at.
                assert!(form.iter().any(|byte| b"\\%".contains(byte)), "{key} {name}");
                continue;
            };
            assert!(last - first < SYMBOL, "{key} {name}: {told:?}");
            let half = key.len().min(2 * 16 + 3) / 2;
            assert!(*first + 4 >= half, "{key} {name}: {told:?}");
        }
    }
}

/// A symbol may be written with so many bytes.
const SYMBOL: usize = 6;

/// Of which the beginning is the same in all keys of one account: only its end is a secret.
const KNOWN: &str = "sk-176536724812-1987469832345-Zt0aQmPz81LkVbNcXy72RsTu";

#[test]
fn a_scrubber_that_holds_back_live_beginnings_is_found_out() {
    let key = KEYS[0].as_bytes();
    for form in [key.to_vec(), reference::hex(key), reference::base64_interior(key, 1)] {
        let told = guess_run(key, &form, false, &|| Leaky::new(key));
        assert!(told.len() + 2 > form.len(), "{told:?}");
    }
}

#[test]
fn how_much_goes_out_depends_on_classes_alone_for_every_beginning_of_every_form() {
    for key in KEYS {
        let patterns = Rc::new(patterns(&[key.as_bytes()], "sk-"));
        for (name, form) in all_forms(key) {
            let other = vec![b'x'; form.len()];
            for known in 0..form.len() {
                for cut in [known / 3, known.saturating_sub(1), known] {
                    let lengths = |form: &[u8]| {
                        let text = [b"text ", &form[..known]].concat();
                        seen(Stream::new(Rc::clone(&patterns)), &[&text[..5 + cut], &text[5 + cut..], b" "], true).0
                    };
                    assert_eq!(lengths(&form), lengths(&other), "{key} {name} after {known} bytes");
                }
            }
        }
    }
}

/// What stands beside a key decides what is masked beside it, and the key does not.
#[test]
fn two_keys_of_one_shape_leave_the_same_traces() {
    let keys = ["sk-test-4f8a9b2c1d0e7f6a5b4c3d2e", "kb-zzzz-Qm3mZq9mXp7mLw5mVr1mYt8m"];
    let beside = [
        "", "A", "AB", "/", "\\", "\\u00", "\\u004", "%", "%4", "=", "-_", "sk-", "sk-test-", "4f8a", "*", " ", "\\\\",
        "%25",
    ];
    for before in beside {
        for behind in beside {
            for form in 0..all_forms(keys[0]).len() {
                let traces = keys.map(|key| {
                    let patterns = Rc::new(patterns(&[key.as_bytes()], "sk-"));
                    let (name, form) = all_forms(key).swap_remove(form);
                    let text = [b"said: ", before.as_bytes(), &form, behind.as_bytes(), b" end"].concat();
                    let cuts = [text.len() / 2, 6 + before.len() + form.len()];
                    let traces =
                        cuts.map(|cut| seen(Stream::new(Rc::clone(&patterns)), &[&text[..cut], &text[cut..]], true));
                    (name, traces)
                });
                assert_eq!(traces[0], traces[1], "between {before:?} and {behind:?}");
            }
        }
    }
}

#[test]
fn what_is_held_is_let_go_by_no_more_and_no_less_than_a_byte_of_another_class() {
    let key = KEYS[0].as_bytes();
    let patterns = Rc::new(patterns(&[key], "sk-"));
    for byte in 0..=255u8 {
        let mut stream = Stream::new(Rc::clone(&patterns));
        assert_eq!(Scrubber::push(&mut stream, b"held-back"), b"");
        let holds = byte.is_ascii_alphanumeric() || b"-_.~+/=%\\".contains(&byte);
        assert_eq!(Scrubber::push(&mut stream, &[byte]).len(), if holds { 0 } else { 10 }, "{byte}");
    }
}

#[test]
fn an_abnormal_end_drops_what_is_held() {
    let key = KEYS[0].as_bytes();
    let patterns = Rc::new(patterns(&[key], "sk-"));
    for cut in 1..key.len() {
        let mut stream = Stream::new(Rc::clone(&patterns));
        let out = Scrubber::push(&mut stream, &[b"said: ", &key[..cut]].concat());
        assert_eq!(out, b"said: ");
        drop(stream);
    }
}

#[test]
fn keys_that_join_while_a_body_runs_are_masked_from_then_on() {
    let (old, new) = (KEYS[0].as_bytes(), b"sk-rotated-4f8a9b2c1d0e7f6a5b4c3d");
    let mut stream = Stream::new(Rc::new(patterns(&[old], "sk-")));
    let mut out = Scrubber::push(&mut stream, &[new, &b" "[..], &new[..10]].concat());
    stream.set_patterns(Rc::new(patterns(&[old, new], "sk-")));
    out.extend(Scrubber::push(&mut stream, &[&new[10..], b" ", old].concat()));
    out.extend(Scrubber::finish(stream));
    assert_eq!(out, [&new[..], b" ", &vec![b'*'; new.len()], b" ", &[b'*'; 32][..]].concat());
}

#[test]
fn a_body_of_any_size_is_walked_in_a_bucket_of_memory() {
    let patterns: Rc<Patterns> = Rc::new(patterns(&[KEYS[0].as_bytes()], "sk-"));
    let mut stream = Stream::new(Rc::clone(&patterns));
    let chunk = Bytes::from(vec![b'x'; 16 * 1024]);
    let mut out = 0;
    for _ in 0..64 * 64 {
        out += stream.push(chunk.clone()).concat().len();
        assert!(stream.held() <= 512);
    }
    assert_eq!(out + stream.held(), 64 * 1024 * 1024);
}

proptest! {
    #[test]
    fn the_lengths_that_go_out_are_those_of_any_text_of_the_same_classes(
        parts in proptest::collection::vec((0..KEYS.len(), any::<Index>(), any::<Index>(), "[ \"a:\\n]{0,3}"), 0..5),
        cuts in proptest::collection::vec(any::<Index>(), 0..6),
    ) {
        let key = KEYS[0];
        let patterns = Rc::new(patterns(&[key.as_bytes()], "sk-"));
        let text: Vec<u8> = parts.iter().flat_map(|(_, form, end, between)| {
            let forms = all_forms(key);
            let form = &forms[form.index(forms.len())].1;
            [&form[..=end.index(form.len())], between.as_bytes()].concat()
        }).collect();
        let class = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.~+/=%\\".contains(byte);
        let other: Vec<u8> = text.iter().map(|byte| if class(byte) { b'x' } else { b' ' }).collect();
        let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(text.len() + 1)).collect();
        at.extend([0, text.len()]);
        at.sort_unstable();
        let lengths = |text: &[u8]| {
            let chunks: Vec<&[u8]> = at.windows(2).map(|pair| &text[pair[0]..pair[1]]).collect();
            seen(Stream::new(Rc::clone(&patterns)), &chunks, true).0
        };
        prop_assert_eq!(lengths(&text), lengths(&other));
    }
}
