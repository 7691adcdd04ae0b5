//! Placeholders that came from the wrong agent, counted for `status`: somebody has what belongs to another.
//!
//! Each is in the audit log too; here are the sums since keyd started. It refuses to grow: beyond the limit new pairs of
//! agents are not counted. Counted by `exchange/record.rs`, shown by `admin/`.

use std::cell::RefCell;
use std::collections::BTreeMap;

use strongroom_protocol::Name;
use strongroom_protocol::admin::{MOST_MISMATCHES, Mismatch};

/// Sums by whose placeholder it was and who sent it.
#[derive(Debug, Default)]
pub struct Mismatches(RefCell<BTreeMap<Pair, Sum>>);

/// Whose placeholder it was, and who sent it.
type Pair = (Name, Option<Name>);

/// How often, and when last.
type Sum = (u64, u64);

impl Mismatches {
    /// One more; `now` is in seconds of the Unix epoch.
    pub fn count(&self, agent: Name, by: Option<Name>, now: u64) {
        let mut sums = self.0.borrow_mut();
        if sums.len() >= MOST_MISMATCHES && !sums.contains_key(&(agent.clone(), by.clone())) {
            return;
        }
        let (count, last) = sums.entry((agent, by)).or_default();
        *count += 1;
        *last = now;
    }

    /// For `status`.
    #[must_use]
    pub fn list(&self) -> Vec<Mismatch> {
        let sums = self.0.borrow();
        let items = sums.iter().map(|((agent, by), (count, last))| Mismatch {
            agent: agent.clone(),
            by: by.clone(),
            count: *count,
            last: *last,
        });
        items.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_counted_and_never_more_than_the_limit() {
        let name = |text: &str| text.parse::<Name>().expect("a name");
        let sums = Mismatches::default();
        sums.count(name("a"), None, 1);
        sums.count(name("a"), Some(name("b")), 2);
        sums.count(name("a"), Some(name("b")), 3);
        let list = sums.list();
        assert_eq!((list.len(), list[1].count, list[1].last), (2, 2, 3));
        (0..100).for_each(|number| sums.count(name(&format!("x{number}")), None, 4));
        sums.count(name("a"), None, 5);
        assert_eq!((sums.list().len(), sums.list()[0].count), (MOST_MISMATCHES, 2));
    }
}
