//! Channels that wait for their next request, and the count of all channels.
//!
//! keyd binds a channel to one agent and its credentials, so requests share a channel only where they go to the same
//! authority with the same values in every field that can hold a placeholder, the same placeholders in the target, and
//! in one protocol; placeholders are kept as a salted digest. A channel on which keyd has refused all so far is bound to
//! nobody: it may take any request to its authority.
//! The least recently used idle channel makes room for a new one. It refuses more channels than the limit, and than
//! [`super::shares`] adds for agents and upstreams that have few.
//! Asked by the forwarding of each request; swept by `serve`.

use std::cell::RefCell;
use std::collections::HashMap;
use std::time::Duration;

use http::header::{CONTENT_TYPE, HeaderMap, HeaderName};
use ring::digest::{Context, SHA256, SHA256_OUTPUT_LEN};
use ring::rand::{SecureRandom, SystemRandom};
use strongroom_protocol::{Authority, channel, placeholder};
use tokio::time::Instant;

use crate::channel::Channel;
use crate::shares::{Share, Shares};
use crate::visitor::Party;

/// Idle channels, by what they may be used for.
pub struct Pool<T = Channel> {
    idle: RefCell<HashMap<Key, Vec<Idle<T>>>>,
    open: Shares<Holder>,
    salt: [u8; 32],
}

/// What a channel may be used for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Key {
    authority: Authority,
    /// Nothing where anybody may use it.
    placeholders: Option<[u8; SHA256_OUTPUT_LEN]>,
    /// gRPC takes HTTP/2 upstream, whatever others take.
    is_grpc: bool,
}

/// The right to have one channel; given back when dropped.
pub type Permit = Share<Holder>;

/// Whose a channel is, for the count of all.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Holder {
    /// Who asks, as far as this process knows.
    Party(Party),
    /// Where it leads: one that does not answer must not hold them all.
    Upstream(Authority),
}

struct Idle<T> {
    channel: T,
    since: Instant,
}

/// What the pool needs to know of a channel.
pub trait Pooled {
    /// Whether the other end has closed.
    fn is_closed(&self) -> bool;
}

impl Pooled for Channel {
    fn is_closed(&self) -> bool {
        !self.is_usable()
    }
}

impl Key {
    /// Of a channel to the same authority that is bound to nobody, and has chosen no protocol.
    #[must_use]
    pub fn of_anybody(self) -> Self {
        Self { placeholders: None, is_grpc: false, ..self }
    }
}

impl<T: Pooled> Pool<T> {
    /// An empty pool.
    #[must_use]
    pub fn new(random: &SystemRandom) -> Self {
        let mut salt = [0; 32];
        // The salt keeps placeholders' digests useless in a memory dump; keyd's binding is what separates agents.
        let _ = random.fill(&mut salt);
        Self { idle: RefCell::default(), open: Shares::default(), salt }
    }

    /// The key of a request: its authority, its values of `fields`, which are sorted, the placeholders in its target, and
    /// what is known of who sent it.
    /// An absent field differs from an empty one, and two values differ from one that joins them.
    #[must_use]
    pub fn key<'a>(
        &self,
        authority: &Authority,
        fields: &[HeaderName],
        headers: &HeaderMap,
        target: &str,
        identity: impl Iterator<Item = &'a [u8]>,
    ) -> Key {
        let mut digest = Context::new(&SHA256);
        digest.update(&self.salt);
        for name in fields {
            let values = headers.get_all(name);
            digest.update(name.as_str().as_bytes());
            digest.update(&[0]);
            digest.update(&values.iter().count().to_le_bytes());
            for value in values {
                digest.update(&value.len().to_le_bytes());
                digest.update(value.as_bytes());
            }
        }
        // No field's name is empty, so what follows is told from fields.
        for tail in placeholder::tails(target) {
            digest.update(&[0]);
            digest.update(tail.as_bytes());
        }
        for part in identity {
            digest.update(&part.len().to_le_bytes());
            digest.update(part);
        }
        let mut bytes = [0; SHA256_OUTPUT_LEN];
        bytes.copy_from_slice(digest.finish().as_ref());
        let is_grpc = headers.get(CONTENT_TYPE).is_some_and(|value| channel::is_grpc(value.as_bytes()));
        Key { authority: authority.clone(), placeholders: Some(bytes), is_grpc }
    }

    /// The channel used last, if one is alive; else one that is bound to nobody.
    #[must_use]
    pub fn take(&self, key: &Key) -> Option<T> {
        self.take_own(key).or_else(|| self.take_own(&key.clone().of_anybody()))
    }

    /// The same, of those of this key alone.
    #[must_use]
    pub fn take_own(&self, key: &Key) -> Option<T> {
        let mut idle = self.idle.borrow_mut();
        let channels = idle.get_mut(key)?;
        let found = std::iter::from_fn(|| channels.pop()).map(|idle| idle.channel).find(|channel| !channel.is_closed());
        if channels.is_empty() {
            idle.remove(key);
        }
        found
    }

    /// Keeps a channel for its next request; closes it, or an older one, where `most` wait already.
    pub fn put(&self, key: Key, channel: T, most: usize) {
        if channel.is_closed() {
            return;
        }
        let mut idle = self.idle.borrow_mut();
        let channels = idle.entry(key).or_default();
        channels.push(Idle { channel, since: Instant::now() });
        let surplus = channels.len().saturating_sub(most);
        channels.drain(..surplus);
        idle.retain(|_, channels| !channels.is_empty());
    }

    /// The right to open a channel there; where `most` are open the one that has been idle longest is closed. Who has few,
    /// and what has few, is given some more than `most`.
    #[must_use]
    pub fn reserve(&self, party: Party, upstream: &Authority, most: usize) -> Option<Permit> {
        if self.open.taken() >= most {
            self.sweep(Duration::MAX);
        }
        while self.open.taken() >= most && self.close_oldest() {}
        self.open.take(&[Holder::Party(party), Holder::Upstream(upstream.clone())], most)
    }

    /// Closes what has been idle for `longest`, and forgets what is closed.
    pub fn sweep(&self, longest: Duration) {
        self.sweep_at(Instant::now(), longest);
    }

    fn sweep_at(&self, now: Instant, longest: Duration) {
        self.idle.borrow_mut().retain(|_, channels| {
            channels.retain(|idle| !idle.channel.is_closed() && now.duration_since(idle.since) < longest);
            !channels.is_empty()
        });
    }

    /// Closes every idle channel.
    pub fn clear(&self) {
        self.idle.borrow_mut().clear();
    }

    /// Says whether there was one.
    fn close_oldest(&self) -> bool {
        let mut idle = self.idle.borrow_mut();
        // Each list is in order of time: its first is its oldest.
        let oldest = idle
            .iter()
            .filter_map(|(key, channels)| Some((channels.first()?.since, key.clone())))
            .min_by_key(|(since, _)| *since);
        let Some((_, key)) = oldest else { return false };
        if let Some(channels) = idle.get_mut(&key) {
            channels.remove(0);
            if channels.is_empty() {
                idle.remove(&key);
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::rc::Rc;

    use super::*;

    struct Fake {
        number: u32,
        closed: Rc<Cell<bool>>,
        _permit: Option<Permit>,
    }

    impl Pooled for Fake {
        fn is_closed(&self) -> bool {
            self.closed.get()
        }
    }

    fn fake(number: u32) -> Fake {
        Fake { number, closed: Rc::default(), _permit: None }
    }

    fn pool() -> Pool<Fake> {
        Pool::new(&SystemRandom::new())
    }

    fn key(pool: &Pool<Fake>, authority: &str, fields: &[(&'static str, &str)]) -> Key {
        key_for(pool, authority, fields, "/v1?x=1")
    }

    fn key_for(pool: &Pool<Fake>, authority: &str, fields: &[(&'static str, &str)], target: &str) -> Key {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, value.parse().unwrap());
        }
        let watched = [HeaderName::from_static("authorization"), HeaderName::from_static("x-api-key")];
        pool.key(&authority.parse().unwrap(), &watched, &headers, target, std::iter::empty())
    }

    #[test]
    fn placeholders_in_the_target_keep_requests_apart_and_nothing_else_of_it_does() {
        let pool = pool();
        let [one, other] = ['a', 'b'].map(|letter| format!("strongroom-{}", String::from(letter).repeat(40)));
        let key = |target: &str| key_for(&pool, "a.example", &[], target);
        assert_eq!(key(&format!("/v1?key={one}")), key(&format!("/v2/x?key={one}&y=2")));
        assert_ne!(key(&format!("/v1?key={one}")), key(&format!("/v1?key={other}")));
        assert_ne!(key(&format!("/bot{one}/x")), key(&format!("/bot{one}/{other}")));
        assert_ne!(key(&format!("/bot{one}/x")), key("/botx/x"));
        assert_eq!(key("/v1"), key("/v2?a=strongroom-short"));
    }

    #[test]
    fn only_equal_placeholders_at_one_authority_share_a_channel() {
        let pool = pool();
        let one = key(&pool, "a.example", &[("authorization", "Bearer p"), ("x-other", "1")]);
        assert_eq!(one, key(&pool, "a.example:443", &[("x-other", "2"), ("authorization", "Bearer p")]));
        assert_eq!(one, key(&pool, "a.example", &[("authorization", "Bearer p"), ("content-type", "text/plain")]));
        for (authority, fields) in [
            ("b.example", &[("authorization", "Bearer p")][..]),
            ("a.example:8443", &[("authorization", "Bearer p")]),
            ("a.example", &[("authorization", "Bearer q")]),
            ("a.example", &[("x-api-key", "Bearer p")]),
            ("a.example", &[("authorization", "Bearer p"), ("authorization", "Bearer p")]),
            ("a.example", &[("authorization", "Bearer p"), ("x-api-key", "")]),
            ("a.example", &[("authorization", "Bearer p"), ("content-type", "application/grpc+proto")]),
            ("a.example", &[]),
        ] {
            assert_ne!(one, key(&pool, authority, fields), "{authority} {fields:?}");
        }
        assert_ne!(one, key(&self::pool(), "a.example", &[("authorization", "Bearer p")]), "each process has its salt");
    }

    #[test]
    fn the_freshest_living_channel_is_taken() {
        let pool = pool();
        let key = key(&pool, "a.example", &[]);
        let dead = fake(3);
        let closed = dead.closed.clone();
        for channel in [fake(1), fake(2), dead] {
            pool.put(key.clone(), channel, 8);
        }
        closed.set(true);
        assert_eq!(pool.take(&key).unwrap().number, 2);
        assert_eq!(pool.take(&key).unwrap().number, 1);
        assert!(pool.take(&key).is_none());
        assert!(pool.idle.borrow().is_empty());
    }

    #[test]
    fn a_channel_of_nobody_is_for_anybody_at_its_authority_who_has_none() {
        let pool = pool();
        let [one, other] = ["p", "q"].map(|letter| key(&pool, "a.example", &[("authorization", letter)]));
        let elsewhere = key(&pool, "b.example", &[("authorization", "p")]);
        let grpc = key(&pool, "a.example", &[("content-type", "application/grpc")]);
        pool.put(one.clone(), fake(1), 8);
        pool.put(one.clone().of_anybody(), fake(2), 8);
        assert!(pool.take(&elsewhere).is_none());
        assert_eq!(pool.take(&one).unwrap().number, 1, "its own comes first");
        assert_eq!(pool.take(&other).unwrap().number, 2);
        assert!(pool.take(&one).is_none());
        pool.put(other.of_anybody(), fake(3), 8);
        assert_eq!(pool.take(&grpc).unwrap().number, 3, "no protocol was agreed on");
    }

    #[test]
    fn each_key_keeps_so_many() {
        let pool = pool();
        let key = key(&pool, "a.example", &[]);
        for number in 0..5 {
            pool.put(key.clone(), fake(number), 2);
        }
        assert_eq!([pool.take(&key).unwrap().number, pool.take(&key).unwrap().number], [4, 3]);
        assert!(pool.take(&key).is_none());
        pool.put(key.clone(), fake(1), 0);
        assert!(pool.take(&key).is_none());
    }

    #[test]
    fn the_longest_idle_channel_makes_room_and_busy_ones_do_not() {
        let pool = pool();
        let (old, new) = (key(&pool, "old.example", &[]), key(&pool, "new.example", &[]));
        let upstream = "a.example".parse().unwrap();
        let reserve = || pool.reserve(Party::default(), &upstream, 2);
        for (number, key) in [(1, &old), (2, &new)] {
            let permit = reserve();
            assert!(permit.is_some());
            pool.put(key.clone(), Fake { _permit: permit, ..fake(number) }, 8);
        }
        let third = reserve();
        assert!(third.is_some());
        assert!(pool.take(&old).is_none());
        let busy = pool.take(&new).unwrap();
        assert!(reserve().is_none());
        drop(busy);
        assert!(reserve().is_some());
        drop(third);
        assert_eq!(pool.open.taken(), 0);
    }

    #[test]
    fn idle_channels_make_room_however_many_there_are() {
        let pool = pool();
        let upstreams = ["a.example", "b.example"].map(|name| name.parse().unwrap());
        let open = |upstream| pool.reserve(Party::default(), upstream, 16);
        let all: Vec<_> = std::iter::repeat_with(|| open(&upstreams[0])).map_while(|permit| permit).collect();
        let more = open(&upstreams[1]);
        assert!(all.len() == 16 && more.is_some(), "one on top");
        let keys = ["p", "q"].map(|letter| key(&pool, "a.example", &[("authorization", letter)]));
        for (number, permit) in all.into_iter().chain(more).enumerate() {
            pool.put(keys[number % 2].clone(), Fake { _permit: Some(permit), ..fake(0) }, 16);
        }
        assert!(open(&upstreams[0]).is_some(), "nobody uses any of them");
        assert_eq!(pool.open.taken(), 15);
    }

    #[test]
    fn idle_channels_are_swept_after_their_time() {
        let pool = pool();
        let key = key(&pool, "a.example", &[]);
        let limit = Duration::from_secs(10);
        pool.put(key.clone(), fake(1), 8);
        pool.sweep(limit);
        assert_eq!(pool.take(&key).unwrap().number, 1);
        pool.put(key.clone(), fake(2), 8);
        pool.sweep_at(Instant::now() + limit, limit);
        assert!(pool.take(&key).is_none());
        pool.put(key.clone(), fake(3), 8);
        pool.clear();
        assert!(pool.take(&key).is_none());
    }
}
