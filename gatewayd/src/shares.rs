//! Places that many want, such as connections and channels: so many for anybody, and a few more for those who have few.
//!
//! Whoever takes all that one may take leaves the others those few: an eighth on top, of which no key gets more than a half,
//! be the others with it as many as they like. A place is counted for each of its keys, and one of them that has few is
//! enough to ask for one on top. It refuses to know what a place is.
//! Asked by the crowd, by user, and by the pool, by agent and upstream.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::hash::Hash;
use std::rc::Rc;

/// Who has how many.
#[derive(Debug)]
pub struct Shares<K>(Rc<Counts<K>>);

#[derive(Debug)]
struct Counts<K> {
    all: Cell<usize>,
    each: RefCell<HashMap<K, Count>>,
}

#[derive(Debug, Default)]
struct Count {
    all: usize,
    on_top: usize,
}

/// A place; free again when dropped.
#[derive(Debug)]
pub struct Share<K: Eq + Hash> {
    counts: Rc<Counts<K>>,
    keys: Vec<K>,
    is_on_top: bool,
}

impl<K> Default for Shares<K> {
    fn default() -> Self {
        Self(Rc::new(Counts { all: Cell::default(), each: RefCell::default() }))
    }
}

impl<K: Clone + Eq + Hash> Shares<K> {
    /// A place for these keys, which differ; none where `most` are taken and each of them has its part of the rest.
    #[must_use]
    pub fn take(&self, keys: &[K], most: usize) -> Option<Share<K>> {
        let (counts, spare) = (&self.0, most / SPARE);
        let (all, mut each) = (counts.all.get(), counts.each.borrow_mut());
        let is_on_top = all >= most;
        let mut known = keys.iter().map(|key| each.get(key).map_or((0, 0), |count| (count.all, count.on_top)));
        let has_few = known.clone().any(|(all, _)| all < spare / 2);
        if is_on_top && (all >= most + spare || !has_few || known.any(|(_, on_top)| on_top >= spare / 2)) {
            return None;
        }
        counts.all.set(all + 1);
        for key in keys {
            let count = each.entry(key.clone()).or_default();
            count.all += 1;
            count.on_top += usize::from(is_on_top);
        }
        Some(Share { counts: Rc::clone(counts), keys: keys.to_vec(), is_on_top })
    }

    /// How many are taken.
    #[must_use]
    pub fn taken(&self) -> usize {
        self.0.all.get()
    }
}

impl<K: Eq + Hash> Drop for Share<K> {
    fn drop(&mut self) {
        self.counts.all.set(self.counts.all.get() - 1);
        let mut each = self.counts.each.borrow_mut();
        for key in &self.keys {
            if let Some(count) = each.get_mut(key) {
                count.all -= 1;
                count.on_top -= usize::from(self.is_on_top);
                if count.all == 0 {
                    each.remove(key);
                }
            }
        }
    }
}

/// The part of all that is added for those who have few.
pub const SPARE: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    /// As many as there are.
    fn take_all(shares: &Shares<&'static str>, keys: &[&'static str]) -> Vec<Share<&'static str>> {
        std::iter::from_fn(|| shares.take(keys, 80)).collect()
    }

    #[test]
    fn whoever_has_all_leaves_some_to_others() {
        let shares = Shares::default();
        let greedy = take_all(&shares, &["greedy"]);
        assert_eq!(greedy.len(), 80);
        let one = take_all(&shares, &["one"]);
        let other = take_all(&shares, &["other"]);
        assert_eq!((one.len(), other.len()), (5, 5));
        assert!(shares.take(&["third"], 80).is_none(), "there is an end");
        drop(one);
        assert!(shares.take(&["greedy"], 80).is_none() && shares.take(&["third"], 80).is_some());
        drop((greedy, other));
        assert_eq!(shares.taken(), 0);
        assert!(shares.0.each.borrow().is_empty());
    }

    #[test]
    fn one_key_that_has_few_is_enough() {
        let shares = Shares::default();
        let _dead = take_all(&shares, &["agent", "dead host"]);
        assert!(shares.take(&["agent", "dead host"], 80).is_none());
        let healthy = take_all(&shares, &["agent", "healthy host"]);
        assert_eq!(healthy.len(), 5);
        assert!(shares.take(&["agent", "another host"], 80).is_none(), "an agent gets no more by asking elsewhere");
        assert_eq!(take_all(&shares, &["other agent", "dead host"]).len(), 5);
    }

    #[test]
    fn small_numbers_are_what_they_say() {
        let shares = Shares::default();
        let all: Vec<_> = (0..7).filter_map(|_| shares.take(&["one"], 7)).collect();
        assert_eq!(all.len(), 7);
        assert!(shares.take(&["other"], 7).is_none());
    }
}
