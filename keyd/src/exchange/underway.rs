//! A use that is on record, from the request with the key to the first byte of the answer.
//!
//! send → wait for the head, or for a cut → scrub the head → stream. It refuses answers that cannot be searched, and follows
//! no redirect: a 3xx is an answer like any other. Whatever becomes of it is written down by its [`Ending`]. Called by
//! `forward`.

use std::rc::Rc;

use http::{HeaderValue, Request, Response, Version, header};
use http_body::Body;
use hyper::body::Incoming;
use strongroom_protocol::Refusal;

use super::admit::{self, Admitted};
use super::answer::passage::Passage;
use super::answer::{self, Answer, Streaming};
use super::channel::{Channel, UpstreamState};
use super::connection::{Connection, exchange_refusal, is_of_the_body, is_unprocessed};
use super::download::Download;
use super::record::Ending;
use super::refuse::No;
use super::running::Ticket;
use super::scrub::patterns::Patterns;
use super::upload::Upload;

/// What the request goes through, and what is to be known of it.
pub struct Underway<'a> {
    /// Where it came from.
    pub channel: &'a Rc<Channel>,
    /// What was decided.
    pub admitted: Admitted,
    /// Its second line in the log.
    pub ending: Ending,
    /// Ready for it.
    pub upstream: Connection,
    /// By which it is cut.
    pub ticket: Ticket,
    /// The channel's connection served another request before.
    pub served_before: bool,
    /// It does no harm to do it twice.
    pub is_repeatable: bool,
    /// It asks for a head alone.
    pub is_head: bool,
}

impl Underway<'_> {
    /// Sends the request, which has the key in it, and gives the answer as the agent may see it.
    ///
    /// # Errors
    /// Why there is none; it is on record.
    pub async fn run(mut self, request: Request<Upload>) -> Result<Response<Answer>, No> {
        let before = (self.upstream.received(), self.upstream.sent());
        let response = self.upstream.send(request);
        // The cut first: with access a purge takes away what an answer would be searched for.
        let response = tokio::select! {
            biased;
            reason = self.ticket.cut() => {
                self.ending.cut(reason);
                return Err(No::closing(reason));
            }
            response = response => response,
        };
        match response {
            Ok(response) => self.answer(response),
            Err(error) => Err(self.failed(&error, before)),
        }
    }

    /// `before` are the bytes that had come and gone on the connection.
    fn failed(mut self, error: &hyper::Error, before: (u64, u64)) -> No {
        // The agent's body broke off, or was not what was announced.
        if is_of_the_body(error) {
            self.ending.hung_up();
            return No::closing(Refusal::BadRequest);
        }
        let refusal = exchange_refusal(error);
        self.ending.refused(refusal);
        *self.channel.upstream.borrow_mut() = UpstreamState::Gone;
        // Once: on a connection that is new it would have no end, with two lines of the log and a handshake each time.
        if self.served_before && is_unprocessed(error) {
            admit::give_back(self.channel, &self.admitted);
        }
        // Where nothing went out, nobody has it. Where it did, and nothing came back, the upstream may have it.
        let is_unsent = self.upstream.sent() == before.1;
        let is_silent = self.upstream.received() == before.0 && refusal == Refusal::UpstreamUnreachable;
        if self.served_before && is_silent {
            self.channel.upstream_left();
        }
        let may_repeat = is_silent && (is_unsent || self.is_repeatable) || is_unprocessed(error);
        match (self.served_before, is_unprocessed(error)) {
            (true, _) if may_repeat => No::stale(),
            // A new connection is worth one more try, where the upstream says itself that it has not looked.
            (false, true) => No::redial(refusal),
            _ => No::closing(refusal),
        }
    }

    fn answer(mut self, mut response: Response<Incoming>) -> Result<Response<Answer>, No> {
        let (channel, state) = (self.channel, &self.channel.state);
        let is_last = is_last(&response);
        self.ending.status(response.status());
        // A key that was added while the upstream thought may be in this answer too.
        let newest = state.live().unwrap_or_else(|| Rc::clone(&self.admitted.live));
        let agent = self.admitted.allowed.binding.agent;
        let patterns = state.patterns(&newest, &channel.authority, agent);
        let one_length = answer::head::one_length(response.headers_mut());
        let checked = one_length.and_then(|()| answer::head::check(&response, self.is_head)).and_then(|shape| {
            let passage = Passage::new(&shape, Rc::clone(&patterns), &state.decoding.of(&channel.authority));
            Ok((shape, passage.map_err(|_| Refusal::Overloaded)?))
        });
        let (shape, passage) = match checked {
            Ok(checked) => checked,
            Err(refusal) => {
                self.ending.refused(refusal);
                return Err(No::closing(refusal));
            }
        };
        let masked = answer::head::scrub(&mut response, &shape, &patterns, self.admitted.leave);
        self.ending.scrubbed(masked);
        if is_last {
            // gatewayd is not to offer the channel another request.
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        let unread = self.upstream.unread();
        *channel.upstream.borrow_mut() = UpstreamState::Ready(self.upstream);
        self.ticket.answering();
        let (head, body) = response.into_parts();
        let body = Download::new(body, unread);
        self.ending.hold(self.ticket);
        let source = Rc::clone(channel);
        let newest = move |known: &Rc<Patterns>| {
            let live = source.state.live()?;
            (!known.are_of(&live)).then(|| source.state.patterns(&live, &source.authority, agent))
        };
        let answer = Answer::Streaming(Box::new(Streaming::new(body, passage, patterns, newest, self.ending)));
        Ok(Response::from_parts(head, answer))
    }
}

/// Whether the upstream says that its connection ends with this answer (RFC 9112, 9.3 and 6.3).
fn is_last<B: Body>(response: &Response<B>) -> bool {
    let fields = response.headers();
    let says = |word: &str| {
        let values = fields.get_all(header::CONNECTION).iter().filter_map(|value| value.to_str().ok());
        values.flat_map(|value| value.split(',')).any(|option| option.trim().eq_ignore_ascii_case(word))
    };
    let has_length = [header::CONTENT_LENGTH, header::TRANSFER_ENCODING].iter().any(|name| fields.contains_key(name));
    let ends_with_it = !has_length && !response.body().is_end_stream();
    match response.version() {
        Version::HTTP_11 => says("close") || ends_with_it,
        Version::HTTP_10 => !says("keep-alive") || ends_with_it,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{Empty, Full};

    use super::*;

    #[test]
    fn the_last_answer_of_a_connection_is_known() {
        let last = |version, fields: &[(&str, &str)]| {
            let answer = fields
                .iter()
                .fold(Response::builder().version(version), |answer, (name, value)| answer.header(*name, *value));
            is_last(&answer.body(Full::<bytes::Bytes>::from("x")).unwrap())
        };
        let (length, close) = (("content-length", "1"), ("connection", "x, Close"));
        assert!(
            last(Version::HTTP_11, &[length, close]) && !last(Version::HTTP_11, &[length, ("connection", "closed")])
        );
        assert!(last(Version::HTTP_11, &[]), "its end is the connection's");
        assert!(!last(Version::HTTP_11, &[("transfer-encoding", "chunked")]));
        assert!(last(Version::HTTP_10, &[length]) && !last(Version::HTTP_10, &[length, ("connection", "keep-alive")]));
        assert!(last(Version::HTTP_10, &[("connection", "keep-alive")]), "the same");
        assert!(!last(Version::HTTP_2, &[close]));
        assert!(!is_last(&Response::new(Empty::<bytes::Bytes>::new())));
    }
}
