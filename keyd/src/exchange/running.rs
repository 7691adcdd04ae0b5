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

use strongroom_protocol::Refusal;
use tokio_util::sync::CancellationToken;

use crate::policy::decide::Binding;

/// All exchanges under way.
#[derive(Default)]
pub struct Running {
    next: Cell<u64>,
    exchanges: RefCell<HashMap<u64, Rc<Exchange>>>,
}

/// What is known of one.
pub struct Exchange {
    binding: Binding,
    grants: Vec<u64>,
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
    /// Enters an exchange. `channel` is the token whose cancelling drops its channel.
    #[must_use]
    pub fn enter(self: &Rc<Self>, binding: Binding, grants: Vec<u64>, channel: CancellationToken) -> Ticket {
        let id = self.next.get();
        self.next.set(id + 1);
        let exchange = Rc::new(Exchange {
            binding,
            grants,
            reason: Cell::new(None),
            answering: Cell::new(false),
            waiting: Cell::new(None),
            channel,
        });
        self.exchanges.borrow_mut().insert(id, Rc::clone(&exchange));
        Ticket { id, exchange, running: Rc::clone(self) }
    }

    /// Cuts every exchange of which `which` says so.
    pub fn cut(&self, reason: Refusal, which: impl Fn(&Exchange) -> bool) {
        let chosen: Vec<_> = self.exchanges.borrow().values().filter(|exchange| which(exchange)).cloned().collect();
        for exchange in chosen {
            exchange.cut(reason);
        }
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.exchanges.borrow().len()
    }
}

impl Exchange {
    /// Whether the agent is this one.
    #[must_use]
    pub fn is_of_agent(&self, agent: u64) -> bool {
        self.binding.agent == agent
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

    /// Cuts this exchange: its time is over.
    pub fn expire(&self, reason: Refusal) {
        self.exchange.cut(reason);
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.running.exchanges.borrow_mut().remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn enter(running: &Rc<Running>, agent: u64) -> (Ticket, CancellationToken) {
        let channel = CancellationToken::new();
        let binding = Binding { agent, credentials: vec![9] };
        (running.enter(binding, vec![5], channel.clone()), channel)
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
}
