//! Which keys are looked for in an answer.
//!
//! Every version of every credential that names the authority, and of every credential that the agent's grants reach:
//! an agent may use one upstream to echo what it got from another. Weak keys are left out, for a mask over a guess
//! would tell that the guess was right. The keys themselves are not copied: each pattern shares the vault's record.
//! Made once a generation of the vault, see `cache`.

use std::ops::Range;
use std::rc::{Rc, Weak};

use strongroom_protocol::Authority;

use super::form::{Case, Form, KINDS};
use super::search::Search;
use super::shape::Shape;
use super::tail::{self, Beginning, Text};
use crate::policy::live::Live;
use crate::secret::Secret;

/// Keys to look for.
pub struct Patterns {
    of: Weak<Live>,
    search: Search,
    /// For each form, how it is known by its beginning.
    beginnings: Vec<Beginning>,
    shape: Shape,
}

impl Patterns {
    /// The keys that could come back from this authority to this agent.
    #[must_use]
    pub fn new(live: &Rc<Live>, authority: &Authority, agent: u64) -> Self {
        let named: Vec<u64> = live.credentials_naming(authority).map(|credential| credential.id).collect();
        let contents = live.contents();
        let granted = |id| contents.grants.iter().any(|grant| grant.agent == agent && grant.credential == id);
        let mut keys: Vec<(Rc<Secret>, usize)> = Vec::new();
        for credential in &contents.credentials {
            if !named.contains(&credential.id) && !granted(credential.id) {
                continue;
            }
            for version in credential.versions.iter().filter(|version| !version.weak) {
                let tail = tail::shortest(&version.value, credential.key_prefix.as_bytes());
                match keys.iter_mut().find(|(key, _)| key.matches(&version.value)) {
                    Some((_, known)) => *known = tail.max(*known),
                    None => keys.push((Rc::clone(&version.value), tail)),
                }
            }
        }
        let shape = Shape::of(keys.iter().map(|(key, _)| &key[..]));
        let forms: Vec<_> =
            keys.iter().flat_map(|(key, _)| KINDS.map(|kind| Form::new(Rc::clone(key), kind))).collect();
        let tails = keys.iter().flat_map(|(_, tail)| KINDS.map(|_| *tail));
        let beginnings = forms.iter().zip(tails).map(|(form, tail)| Beginning::new(form, tail)).collect();
        Self { of: Rc::downgrade(live), search: Search::new(forms, shape.class()), beginnings, shape }
    }

    /// Calls `found` with each stretch of the text that holds a key, in no order; they may overlap. Of those that lie in
    /// its first `known` bytes some are left out.
    pub fn each(&self, text: &[u8], case: Case, known: usize, found: impl FnMut(Range<usize>)) {
        self.search.each(text, case, known, found);
    }

    /// Where tails begin that the text ends in and that are the beginnings of keys.
    pub fn tails(&self, text: &[u8]) -> impl Iterator<Item = usize> {
        let text = self.may_have_a_tail(text.len()).then(|| Text::new(text));
        let forms = self.search.forms().iter().zip(&self.beginnings);
        forms.filter_map(move |(form, beginning)| tail::tail(text.as_ref()?, form, beginning))
    }

    /// Whether the beginning of a key may be found in a text of that length.
    #[must_use]
    pub fn may_have_a_tail(&self, length: usize) -> bool {
        self.beginnings.iter().any(|beginning| beginning.fits_in(length))
    }

    /// What is public of them.
    #[must_use]
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// Whether there is nothing to look for.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.search.forms().is_empty()
    }

    /// Whether these were made from this generation.
    #[must_use]
    pub fn are_of(&self, live: &Rc<Live>) -> bool {
        // The address is not used again as long as there is a weak reference.
        std::ptr::eq(self.of.as_ptr(), Rc::as_ptr(live))
    }
}

#[cfg(test)]
pub mod fixture {
    //! Patterns over given keys, for the tests of this folder.

    use super::*;
    use crate::policy::fixture;

    /// Patterns for one authority whose credential had these values.
    pub fn patterns(keys: &[&[u8]], prefix: &str) -> Patterns {
        let mut contents = fixture::contents();
        let id = fixture::credential(&mut contents, "one", "a.example", keys);
        if let Some(credential) = contents.credentials.iter_mut().find(|credential| credential.id == id) {
            prefix.clone_into(&mut credential.key_prefix);
        }
        let authority = "a.example".parse().expect("an authority");
        Patterns::new(&Rc::new(Live::new(contents)), &authority, 0)
    }
}
