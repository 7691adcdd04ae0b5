//! What keyd gave, and gets back however it ends: replies that nobody waits for any more, and tunnels.
//!
//! A request that is dropped in the middle of a question must leave nothing behind in keyd: a session is closed, a tunnel
//! is ended, whether its reply came too late or was never looked at. It refuses to wait: keyd is told by a task of its own.
//! Made by the key client for each reply.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

use strongroom_protocol::exchange::{GatewayMessage, KeydMessage, TunnelFailure};
use tokio::sync::Notify;
use tokio::task::spawn_local;

use super::packet_socket::PacketSocket;

/// The tunnels that keyd may cut.
pub type Cuts = Rc<RefCell<HashMap<u64, Rc<Notify>>>>;

/// Says something that gets no reply; where keyd has gone there is nobody to tell.
pub fn tell(socket: &Option<Rc<PacketSocket>>, message: GatewayMessage) {
    if let Some(socket) = socket.clone() {
        spawn_local(async move {
            let _ = socket.send(&message, &[]).await;
        });
    }
}

/// A reply on its way to whoever asked.
pub struct Given {
    message: Option<KeydMessage>,
    socket: Option<Rc<PacketSocket>>,
    cuts: Cuts,
}

impl Given {
    /// Of this connection to keyd.
    #[must_use]
    pub fn new(message: KeydMessage, socket: Option<Rc<PacketSocket>>, cuts: &Cuts) -> Self {
        if let KeydMessage::Tunnel { question } = message {
            // From now on keyd may cut it, whenever the asker gets to see it.
            cuts.borrow_mut().insert(question, Rc::default());
        }
        Self { message: Some(message), socket, cuts: cuts.clone() }
    }

    /// The asker has it.
    #[must_use]
    pub fn take(mut self) -> Option<KeydMessage> {
        self.message.take()
    }
}

impl Drop for Given {
    fn drop(&mut self) {
        match self.message.take() {
            Some(KeydMessage::SessionOpened { session }) => {
                tell(&self.socket, GatewayMessage::CloseSession { session });
            }
            Some(KeydMessage::Tunnel { question }) => {
                drop(Tunnel::new(question, self.socket.clone(), &self.cuts));
            }
            _ => {}
        }
    }
}

/// A tunnel that keyd has on record. Its end is told when it is dropped.
pub struct Tunnel {
    number: u64,
    cut: Rc<Notify>,
    socket: Option<Rc<PacketSocket>>,
    cuts: Cuts,
    moved: Cell<(u64, u64)>,
    failure: Cell<Option<TunnelFailure>>,
}

impl Tunnel {
    /// Of this number.
    #[must_use]
    pub fn new(number: u64, socket: Option<Rc<PacketSocket>>, cuts: &Cuts) -> Self {
        let cut = cuts.borrow_mut().entry(number).or_default().clone();
        Self { number, cut, socket, cuts: cuts.clone(), moved: Cell::default(), failure: Cell::default() }
    }

    /// Comes back when keyd wants it to end.
    pub async fn cut(&self) {
        self.cut.notified().await;
    }

    /// Bytes from the agent and to it, so far.
    pub fn moved(&self, bytes_in: u64, bytes_out: u64) {
        self.moved.set((bytes_in, bytes_out));
    }

    /// It never began, or was not allowed to go on.
    pub fn failed(&self, failure: TunnelFailure) {
        self.failure.set(Some(failure));
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        self.cuts.borrow_mut().remove(&self.number);
        let ((bytes_in, bytes_out), failure) = (self.moved.get(), self.failure.get());
        tell(&self.socket, GatewayMessage::EndTunnel { tunnel: self.number, bytes_in, bytes_out, failure });
    }
}
