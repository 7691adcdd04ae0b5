//! Which exchanges are under way, so that taking access away can cut them.
//!
//! Every exchange holds a [`Ticket`] from admission to its last byte. Cutting one before its answer began makes it
//! answer with the reason; after that its channel is dropped whole, which resets both connections. Rotating a key cuts
//! nothing. Called by `forward` (tickets) and `admin/` (cuts).

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use strongroom_protocol::Refusal;
use tokio_util::sync::CancellationToken;

use crate::policy::decide::Binding;

/// All exchanges under way.
#[derive(Default)]
pub struct Running {
    next: Cell<u64>,
    exchanges: RefCell<HashMap<u64, Rc<Exchange>>>,
    /// Most of them since memory was last given back.
    peak: Cell<usize>,
}

/// What is known of one.
pub struct Exchange {
    binding: Binding,
    grants: Vec<u64>,
    session: Option<u64>,
    deadline: Deadline,
    reason: Cell<Option<Refusal>>,
    answering: Cell<bool>,
    /// Waits for an answer, or for being cut.
    waiting: Cell<Option<Waker>>,
    /// Ends the channel.
    channel: CancellationToken,
}

/// Keeps an exchange in the list until dropped.
pub struct Ticket {
    id: u64,
    exchange: Rc<Exchange>,
    running: Rc<Running>,
}

impl Running {
    /// Enters an exchange. `session` is the agent's connection, where one is known; `channel` is the token whose
    /// cancelling drops its channel.
    #[must_use]
    pub fn enter(
        self: &Rc<Self>,
        binding: Binding,
        grants: Vec<u64>,
        session: Option<u64>,
        channel: CancellationToken,
        deadline: Deadline,
    ) -> Ticket {
        let id = self.next.get();
        self.next.set(id + 1);
        let exchange = Rc::new(Exchange {
            binding,
            grants,
            session,
            deadline,
            reason: Cell::new(None),
            answering: Cell::new(false),
            waiting: Cell::new(None),
            channel,
        });
        self.exchanges.borrow_mut().insert(id, Rc::clone(&exchange));
        self.peak.set(self.peak.get().max(self.count()));
        Ticket { id, exchange, running: Rc::clone(self) }
    }

    /// Cuts every exchange of which `which` says so.
    pub fn cut(&self, reason: Refusal, which: impl Fn(&Exchange) -> bool) {
        let chosen: Vec<_> = self.exchanges.borrow().values().filter(|exchange| which(exchange)).cloned().collect();
        for exchange in chosen {
            exchange.cut(reason);
        }
    }

    /// Cuts what has had its time. One look a second at all of them costs less than a timer for each.
    /// `wall` is in seconds of the Unix epoch.
    pub fn cut_late(&self, now: Instant, wall: u64) {
        let late = |exchange: &Rc<Exchange>| Some((exchange.deadline.passed(now, wall)?, Rc::clone(exchange)));
        let chosen: Vec<_> = self.exchanges.borrow().values().filter_map(late).collect();
        for (reason, exchange) in chosen {
            exchange.cut(reason);
        }
    }

    /// Whether there were many and now are few, which it says once: what they held is free.
    #[must_use]
    pub fn has_fallen(&self) -> bool {
        let (peak, count) = (self.peak.get(), self.count());
        let has_fallen = peak >= MANY && count < peak / 4;
        if has_fallen {
            self.peak.set(count);
        }
        has_fallen
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.exchanges.borrow().len()
    }
}

/// When an exchange has had its time: its grant expires, or none lasts that long.
///
/// A grant expires by whichever clock is there first. The one that nobody sets stands still while the machine sleeps, and
/// the wall clock may be set back.
#[derive(Debug, Clone, Copy)]
pub struct Deadline {
    at: Instant,
    refusal: Refusal,
    expires: Option<u64>,
}

impl Deadline {
    /// Counted from now; `expires` and `now` are in seconds of the Unix epoch.
    #[must_use]
    pub fn of(expires: Option<u64>, now: u64) -> Self {
        let left = expires.map(|at| Duration::from_secs(at.saturating_sub(now)));
        match left.filter(|left| *left < LONGEST_EXCHANGE) {
            Some(left) => Self { at: Instant::now() + left, refusal: Refusal::Expired, expires },
            None => Self { at: Instant::now() + LONGEST_EXCHANGE, refusal: Refusal::UpstreamTimeout, expires },
        }
    }

    /// Why it is over, where it is.
    fn passed(&self, now: Instant, wall: u64) -> Option<Refusal> {
        if self.expires.is_some_and(|at| at <= wall) {
            return Some(Refusal::Expired);
        }
        (self.at <= now).then_some(self.refusal)
    }
}

impl Exchange {
    /// Whether the agent is this one.
    #[must_use]
    pub fn is_of_agent(&self, agent: u64) -> bool {
        self.binding.agent == agent
    }

    /// Whether it came over this connection of an agent's.
    #[must_use]
    pub fn is_of_session(&self, session: u64) -> bool {
        self.session == Some(session)
    }

    /// Whether this grant is used.
    #[must_use]
    pub fn uses_grant(&self, grant: u64) -> bool {
        self.grants.contains(&grant)
    }

    /// Whether this credential is used.
    #[must_use]
    pub fn uses_credential(&self, credential: u64) -> bool {
        self.binding.credentials.contains(&credential)
    }

    fn cut(&self, reason: Refusal) {
        self.reason.set(Some(reason));
        if let Some(waker) = self.waiting.take() {
            waker.wake();
        }
        if self.answering.get() {
            self.channel.cancel();
        }
    }
}

impl Ticket {
    /// Resolves when the exchange is cut, with the reason. One may wait at a time.
    pub async fn cut(&self) -> Refusal {
        poll_fn(|cx| match self.exchange.reason.get() {
            Some(reason) => Poll::Ready(reason),
            None => {
                self.exchange.waiting.set(Some(cx.waker().clone()));
                Poll::Pending
            }
        })
        .await
    }

    /// Why it was cut, where it was.
    #[must_use]
    pub fn reason(&self) -> Option<Refusal> {
        self.exchange.reason.get()
    }

    /// The answer's head goes out now: from here a cut drops the channel.
    pub fn answering(&self) {
        self.exchange.answering.set(true);
        if self.exchange.reason.get().is_some() {
            self.exchange.channel.cancel();
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.running.exchanges.borrow_mut().remove(&self.id);
    }
}

/// No exchange lasts longer, whatever gatewayd says.
const LONGEST_EXCHANGE: Duration = Duration::from_secs(2 * 3600);

/// Fewer leave little behind.
const MANY: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn enter(running: &Rc<Running>, agent: u64) -> (Ticket, CancellationToken) {
        let channel = CancellationToken::new();
        let binding = Binding { agent, credentials: vec![9] };
        let deadline = Deadline::of(Some(1000 + agent), 1000);
        (running.enter(binding, vec![5], Some(agent), channel.clone(), deadline), channel)
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_cut_before_the_answer_gives_the_reason_and_after_it_drops_the_channel() {
        let running = Rc::new(Running::default());
        let (waiting, waiting_channel) = enter(&running, 1);
        let (answering, answering_channel) = enter(&running, 1);
        let (_other, other_channel) = enter(&running, 2);
        answering.answering();
        running.cut(Refusal::Revoked, |exchange| exchange.is_of_agent(1));
        assert_eq!(waiting.cut().await, Refusal::Revoked);
        assert!(!waiting_channel.is_cancelled() && answering_channel.is_cancelled() && !other_channel.is_cancelled());
        waiting.answering();
        assert!(waiting_channel.is_cancelled(), "an answer that begins after the cut goes nowhere");
        drop((waiting, answering));
        assert_eq!(running.count(), 1);
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_fall_from_a_peak_is_said_once() {
        let running = Rc::new(Running::default());
        let mut tickets: Vec<_> = (0..MANY).map(|_| enter(&running, 1)).collect();
        assert!(!running.has_fallen());
        tickets.truncate(MANY / 4);
        assert!(!running.has_fallen());
        tickets.pop();
        assert!(running.has_fallen() && !running.has_fallen());
        tickets.extend((1..MANY).map(|_| enter(&running, 1)));
        tickets.clear();
        assert!(running.has_fallen(), "another peak");
    }

    #[tokio::test(flavor = "current_thread")]
    async fn what_has_had_its_time_is_cut_and_nothing_else() {
        let running = Rc::new(Running::default());
        let ((soon, _), (later, _)) = (enter(&running, 1), enter(&running, 100));
        running.cut_late(Instant::now(), 1000);
        assert_eq!((soon.reason(), later.reason()), (None, None));
        running.cut_late(Instant::now() + Duration::from_secs(1), 1000);
        assert_eq!((soon.cut().await, later.reason()), (Refusal::Expired, None));
        running.cut_late(Instant::now() + LONGEST_EXCHANGE, 1000);
        assert_eq!(later.cut().await, Refusal::Expired);
        assert_eq!(Deadline::of(Some(u64::MAX / 2), 0).refusal, Refusal::UpstreamTimeout);
        assert_eq!(Deadline::of(None, 0).refusal, Refusal::UpstreamTimeout);
    }

    /// The machine slept, or the wall clock was put right: no second of the other clock went by.
    #[tokio::test(flavor = "current_thread")]
    async fn a_grant_that_expired_by_the_wall_clock_is_cut_whatever_the_other_clock_says() {
        let running = Rc::new(Running::default());
        let ((soon, _), (later, _), (last, _)) =
            (enter(&running, 60), enter(&running, 61), enter(&running, LONGEST_EXCHANGE.as_secs() * 2));
        running.cut_late(Instant::now(), 1059);
        assert_eq!((soon.reason(), later.reason()), (None, None));
        running.cut_late(Instant::now(), 1060);
        assert_eq!((soon.reason(), later.reason(), last.reason()), (Some(Refusal::Expired), None, None));
        running.cut_late(Instant::now(), 1000 + LONGEST_EXCHANGE.as_secs() * 2);
        assert_eq!(last.reason(), Some(Refusal::Expired), "also where none would have lasted so long");
        running.cut_late(Instant::now() + Duration::from_secs(61), 0);
        assert_eq!(later.reason(), Some(Refusal::Expired));
        let unlimited = Deadline::of(None, 1000);
        assert_eq!(unlimited.passed(Instant::now(), u64::MAX), None, "nothing expires");
    }
}
