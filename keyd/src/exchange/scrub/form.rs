//! A key in one of the forms in which it may come back, read off the key itself: no copy is made of any.
//!
//! ```text
//!   Plain       the key
//!   Hex         two digits a byte
//!   Base64      three alignments: how many bytes of the group of three stand before the key
//!
//!        before  | key                        | behind             `Basic` is base64 of `user:key`
//!        u   :   | s    k    -    ...    3    |  "    }
//!       |----|----|----|----|  ...   |----|----|----|
//!             edge  symbols of the form    edge
//! ```
//!
//! An edge is a character that holds bits of the key and of what stands beside it; it is masked with the form. Plain
//! and Base64 are followed through escapes in any mixture, see `escape`. Called by `patterns`, `search` and `tail`.

use std::ops::Range;
use std::rc::Rc;

use super::escape::{self, Reading, is_calm, readings};
use super::fingerprint::{LONGEST_WINDOW, SHORTEST_WINDOW};
use crate::secret::Secret;

/// One form of one key, a sequence of symbols.
pub struct Form {
    key: Rc<Secret>,
    kind: Kind,
}

/// How the key is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// As it is.
    Plain,
    /// Two digits a byte.
    Hex,
    /// Six bits a character; so many bytes of the first group of three stand before the key.
    Base64(u8),
}

/// Whether letters kept their case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Case {
    /// They did.
    Kept,
    /// They are lower case, as in names of header fields.
    Lost,
}

/// Every kind.
pub const KINDS: [Kind; 5] = [Kind::Plain, Kind::Hex, Kind::Base64(0), Kind::Base64(1), Kind::Base64(2)];

impl Form {
    /// Of this key, which is shared.
    #[must_use]
    pub fn new(key: Rc<Secret>, kind: Kind) -> Self {
        Self { key, kind }
    }

    /// How it is written.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// How many symbols it has.
    #[must_use]
    pub fn len(&self) -> usize {
        match self.kind {
            Kind::Plain => self.key.len(),
            Kind::Hex => 2 * self.key.len(),
            Kind::Base64(before) => (8 * self.key.len() - skipped_bits(before)) / 6,
        }
    }

    /// One of its symbols.
    #[must_use]
    pub fn symbol(&self, at: usize) -> u8 {
        match self.kind {
            Kind::Plain => self.key[at],
            Kind::Hex => HEX[usize::from(self.key[at / 2] >> (4 * (1 - at % 2)) & 0xf)],
            Kind::Base64(before) => {
                let bit = skipped_bits(before) + 6 * at;
                let next = self.key.get(bit / 8 + 1).copied().unwrap_or(0);
                let pair = u16::from(self.key[bit / 8]) << 8 | u16::from(next);
                BASE64[usize::from(pair >> (10 - bit % 8) & 0x3f)]
            }
        }
    }

    /// Whether this symbol of a text is that symbol of the form.
    #[must_use]
    pub fn has(&self, at: usize, symbol: u8, case: Case) -> bool {
        let own = self.symbol(at);
        match (self.kind, case) {
            (Kind::Plain, Case::Kept) => symbol == own,
            (Kind::Base64(_), Case::Kept) => standard(symbol) == own,
            (Kind::Base64(_), Case::Lost) => standard(symbol).eq_ignore_ascii_case(&own),
            (Kind::Hex, _) | (Kind::Plain, Case::Lost) => symbol.eq_ignore_ascii_case(&own),
        }
    }

    /// Where the form has to be recognised in one pass: the first of `window` symbols before which others protect them
    /// from being swallowed by an escape. As near to the end as there is one, for of some keys the beginning is known.
    #[must_use]
    pub fn anchor(&self, window: usize) -> Option<usize> {
        let calm = |range: Range<usize>| range.into_iter().all(|at| is_calm(self.symbol(at)));
        let last = self.len().checked_sub(window)?;
        (escape::DEEPEST..=last).rev().find(|at| calm(at - escape::DEEPEST..at + window))
    }

    /// The longest window for which there is an anchor, if it is long enough to tell nothing to a guesser.
    #[must_use]
    pub fn window(&self) -> Option<usize> {
        (SHORTEST_WINDOW..=LONGEST_WINDOW).rev().find(|window| self.anchor(*window).is_some())
    }

    /// The stretch of a text that is the form, edges too, if its first `at` symbols stand before `place` and the rest
    /// behind it. Where there is more than one way to read it, all of them are in the stretch. `escapes` says whether there
    /// is any `\` or `%` in the text.
    #[must_use]
    pub fn around(&self, text: &[u8], place: usize, at: usize, case: Case, escapes: bool) -> Option<Range<usize>> {
        if !escapes {
            let first = place.checked_sub(at)?;
            let symbols = text.get(first..first + self.len())?;
            let same = symbols.iter().enumerate().rev().all(|(at, symbol)| self.has(at, *symbol, case));
            return same.then(|| self.edge_before(text, first)..self.edge_behind(text, first + self.len()));
        }
        let starts = self.walk(text, place, at, case, Direction::Back);
        if starts.is_empty() {
            return None;
        }
        let ends = self.walk(text, place, at, case, Direction::Forth);
        let start = starts.iter().map(|start| self.edge_before(text, *start)).min()?;
        let end = ends.iter().map(|end| self.edge_behind(text, *end)).max()?;
        Some(start..end)
    }

    /// The places to which the symbols from `at` on lead, in one direction.
    fn walk(&self, text: &[u8], place: usize, at: usize, case: Case, direction: Direction) -> Vec<usize> {
        // Almost always one place; more where a key's own bytes look like an escape.
        let mut fronts = vec![(at, place)];
        let mut reached = Vec::new();
        let last = if direction == Direction::Back { 0 } else { self.len() };
        while let Some(next) = fronts.iter().map(|(at, _)| *at).reduce(|one, other| direction.first(one, other)) {
            let here = fronts.extract_if(.., |(at, _)| *at == next).map(|(_, place)| place).collect::<Vec<_>>();
            if next == last {
                reached.extend(here);
                continue;
            }
            for place in here {
                for (reading, beyond) in direction.readings(text, place, self.escapes()) {
                    let count = reading.bytes().len();
                    let (from, to) = match direction {
                        Direction::Back if count <= next => (next - count, next - count),
                        Direction::Forth if next + count <= last => (next, next + count),
                        _ => continue,
                    };
                    let fits = (from..).zip(reading.bytes()).all(|(at, symbol)| self.has(at, *symbol, case));
                    if fits && !fronts.contains(&(to, beyond)) {
                        fronts.push((to, beyond));
                    }
                }
            }
        }
        reached
    }

    /// Hexadecimal digits are not escaped by anybody.
    fn escapes(&self) -> bool {
        self.kind != Kind::Hex
    }

    fn edge_before(&self, text: &[u8], start: usize) -> usize {
        match self.kind {
            Kind::Base64(1 | 2) => edge(Direction::Back, text, start).min().unwrap_or(start),
            _ => start,
        }
    }

    fn edge_behind(&self, text: &[u8], end: usize) -> usize {
        match self.kind {
            Kind::Base64(before) if !(8 * self.key.len() - skipped_bits(before)).is_multiple_of(6) => {
                edge(Direction::Forth, text, end).max().unwrap_or(end)
            }
            _ => end,
        }
    }
}

/// The far sides of base64 characters beside a place, escaped or not.
fn edge(direction: Direction, text: &[u8], place: usize) -> impl Iterator<Item = usize> {
    let fits = |reading: &Reading| matches!(reading.bytes(), [symbol] if BASE64.contains(&standard(*symbol)));
    direction.readings(text, place, true).filter(move |(reading, _)| fits(reading)).map(|(_, beyond)| beyond)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    Back,
    Forth,
}

impl Direction {
    /// What stands on this side of a place, in every way to read it, and the place beyond.
    fn readings(self, text: &[u8], place: usize, escapes: bool) -> impl Iterator<Item = (Reading, usize)> {
        let lengths = if escapes { &[1, 2, 3, 6, escape::LONGEST][..] } else { &[1] };
        lengths.iter().filter_map(move |length| self.start(place, *length).map(|start| (*length, start))).flat_map(
            move |(length, start)| {
                let beyond = if self == Self::Back { start } else { place + length };
                let fits = move |reading: &Reading| reading.length == length;
                readings(text, start).filter(fits).map(move |reading| (reading, beyond))
            },
        )
    }

    fn start(self, place: usize, length: usize) -> Option<usize> {
        if self == Self::Back { place.checked_sub(length) } else { Some(place) }
    }

    /// Which of two is to be looked at first, so that each is looked at once.
    fn first(self, one: usize, other: usize) -> usize {
        if self == Self::Back { one.max(other) } else { one.min(other) }
    }
}

/// URL-safe base64 as standard base64.
#[must_use]
pub fn standard(symbol: u8) -> u8 {
    match symbol {
        b'-' => b'+',
        b'_' => b'/',
        other => other,
    }
}

/// Bits of the key that are in the edge before the first symbol.
fn skipped_bits(before: u8) -> usize {
    match before {
        0 => 0,
        1 => 4,
        _ => 2,
    }
}

const HEX: &[u8; 16] = b"0123456789abcdef";
const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
