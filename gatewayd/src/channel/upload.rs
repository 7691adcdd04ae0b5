//! A request's body on its way into a channel, at the pace of both ends.
//!
//! Driven by whoever waits for the answer's head, and from then on by a task of its own: an agent that reads its answer
//! slowly must not hold up its own upload. It refuses to go on where the agent's body broke off: what was sent then must
//! not look whole, so the channel has to end. Made by [`super::Channel`].

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::Body;
use strongroom_protocol::channel::frames::Kind;

use super::Dead;
use super::link::Link;
use crate::forward::replay::Replay;

/// A body that is being sent.
#[derive(Debug)]
pub struct Upload {
    link: Rc<Link>,
    body: Option<Replay>,
}

impl Upload {
    /// Nothing is sent yet; no body at all where it is empty.
    #[must_use]
    pub fn new(link: Rc<Link>, body: Replay) -> Self {
        Self { link, body: (!body.is_end_stream()).then_some(body) }
    }

    /// keyd wants a body that waited.
    pub fn go_on(&self) {
        if let Some(body) = &self.body {
            body.go_on();
        }
    }

    /// Sends as much as can be sent; ready when all of it was.
    ///
    /// # Errors
    /// [`Dead`] where the body broke off.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Dead>> {
        loop {
            let Some(body) = &mut self.body else {
                ready!(self.link.poll_flush(cx));
                self.link.rest();
                return Poll::Ready(Ok(()));
            };
            if self.link.is_full() {
                ready!(self.link.poll_flush(cx));
            }
            let Poll::Ready(frame) = Pin::new(&mut *body).poll_frame(cx) else {
                let _ = self.link.poll_flush(cx);
                return Poll::Pending;
            };
            let data = frame.transpose().map_err(|_| Dead)?.map(|frame| frame.into_data().unwrap_or_default());
            let ends = data.is_none() || body.is_end_stream();
            self.link.push(Kind::Data, data.unwrap_or_default())?;
            if ends {
                self.body = None;
                self.link.push(Kind::End, Bytes::new())?;
            }
        }
    }
}
