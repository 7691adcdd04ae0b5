//! Keeps what was made ready for an agent and an authority, for as long as the vault does not change.
//!
//! It lives and dies with one unlocked generation of the vault, so nothing is looked for that is no longer there, and
//! locking lets go of the keys. It refuses to grow without end: where it is full it begins anew. Held by `state.rs`.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use strongroom_protocol::Authority;

use super::patterns::Patterns;
use crate::policy::live::Live;

/// Patterns by authority and agent.
#[derive(Default)]
pub struct Cache(RefCell<HashMap<Authority, HashMap<u64, Rc<Patterns>>>>);

impl Cache {
    /// The patterns of this generation for them.
    #[must_use]
    pub fn patterns(&self, live: &Rc<Live>, authority: &Authority, agent: u64) -> Rc<Patterns> {
        let mut all = self.0.borrow_mut();
        if let Some(known) = all.get(authority).and_then(|agents| agents.get(&agent)) {
            return Rc::clone(known);
        }
        if all.values().map(HashMap::len).sum::<usize>() >= MOST {
            all.clear();
        }
        let patterns = Rc::new(Patterns::new(live, authority, agent));
        all.entry(authority.clone()).or_default().insert(agent, Rc::clone(&patterns));
        patterns
    }
}

/// Each is some five kilobytes and a little for each key.
const MOST: usize = 512;
