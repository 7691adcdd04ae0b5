//! Every use is on record before it happens, and again when it ends.
//!
//! [`About`] is what a record says of a request: no query, `{}` where a placeholder or a key stood, and percent-encoded
//! what would steer the terminal of whoever reads it. [`Ending`] writes the second line when it is dropped, however the
//! exchange ends. It refuses to let a use go on that could not be written. Called by `admit` and `forward`.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Instant;

use http::request::Parts;
use http::{HeaderValue, Method, StatusCode, Uri};
use ring::rand::{SecureRandom, SystemRandom};
use strongroom_protocol::{Authority, Name, Refusal, channel, terminal};

use super::admit::Admitted;
use super::running::Ticket;
use super::scrub::head::without_keys;
use crate::audit::AuditError;
use crate::audit::record::{Decision, Ended, Evidence, Failure, Record, Request};
use crate::gateway::sessions::Session;
use crate::policy::decide::{Allowed, Refused};
use crate::policy::identity::Identity;
use crate::policy::live::Live;
use crate::policy::path::Target;
use crate::policy::placeholder;
use crate::state::{State, now};

/// What a record says of a request.
pub struct About {
    /// gatewayd's id for it where that is one, else keyd's own.
    pub request_id: String,
    method: Method,
    authority: Authority,
    target: Uri,
    session: Option<Rc<Session>>,
    identity: RefCell<Identity>,
}

impl About {
    /// Of a request that came over a channel to this authority.
    #[must_use]
    pub fn new(authority: &Authority, parts: &Parts, session: Option<Rc<Session>>) -> Self {
        let given = parts.headers.get(channel::REQUEST_ID).map(HeaderValue::as_bytes);
        let given = given.filter(|id| channel::is_request_id(id)).and_then(|id| std::str::from_utf8(id).ok());
        Self {
            request_id: given.map_or_else(own_id, ToOwned::to_owned),
            method: parts.method.clone(),
            authority: authority.clone(),
            target: parts.uri.clone(),
            session,
            identity: RefCell::new(Identity::UNKNOWN),
        }
    }

    /// The agent's connection, told from every other.
    #[must_use]
    pub fn session(&self) -> Option<u64> {
        self.session.as_ref().map(|session| session.id())
    }

    /// Whether the agent has hung up.
    #[must_use]
    pub fn has_left(&self) -> bool {
        self.session.as_ref().is_some_and(|session| session.has_ended())
    }

    /// Who sent it, by the records as they are now; kept for the log.
    ///
    /// # Errors
    /// As [`Identity::of`].
    pub fn identify(&self, live: &Rc<Live>) -> Result<Identity, Refusal> {
        let identity = self.session.as_ref().map_or(Ok(Identity::UNKNOWN), |session| session.identity(live))?;
        self.identity.replace(identity.clone());
        Ok(identity)
    }

    /// The path of a request that was not judged well, where what stands in which position is not known.
    fn path(&self) -> String {
        let target = self.target.path_and_query().map_or("", |target| target.as_str());
        match Target::parse(target) {
            Ok(target) => placeholder::redacted(target.path()),
            Err(_) => placeholder::redacted(self.target.path()),
        }
    }

    /// Where evidence names several agents, it is on record though none of them is.
    fn evidence(&self, agent: Option<u64>) -> Option<Evidence> {
        let identity = self.identity.borrow();
        (agent.is_some() || identity.agents().is_some()).then(|| identity.evidence())
    }

    fn request(
        &self,
        state: &State,
        live: &Rc<Live>,
        (agent, credentials): (Option<u64>, &[u64]),
        path: &str,
        decision: Decision,
    ) -> Request {
        // An agent may have a key from elsewhere; what is kept of its request must not. Where nobody is known, the keys
        // are those that name the host.
        let patterns = state.patterns(live, &self.authority, agent.unwrap_or(NOBODY));
        let clean = |text: &str, longest| -> String {
            let clean = without_keys(text, &patterns);
            clean.as_deref().unwrap_or(text).chars().take(longest).collect()
        };
        let mut names = names_of(live, credentials);
        Request {
            request_id: Some(self.request_id.clone()),
            agent: name_of(live, agent),
            evidence: self.evidence(agent),
            credential: names.next(),
            more_credentials: names.collect(),
            method: Some(clean(&placeholder::redacted(self.method.as_str()), LONGEST_METHOD)),
            host: Some(self.authority.to_host_field()),
            path: Some(harmless(&clean(path, LONGEST_PATH))),
            decision,
            count: None,
        }
    }
}

/// Writes down a refusal; repeated ones are counted into a line a second.
pub fn refused(state: &State, live: &Rc<Live>, about: &About, refused: &Refused) {
    let decision = Decision::Refused(refused.refusal);
    // Who asked, where that is known by more than a placeholder that may be somebody else's; else whose that is.
    let identity = about.identity.borrow().clone();
    let asker = identity.only();
    let named = if identity.agents().is_some() { asker } else { refused.agent };
    if refused.refusal == Refusal::AgentMismatch
        && let Some(owner) = name_of(live, refused.agent)
    {
        state.mismatches.count(owner, name_of(live, asker), now());
    }
    let request = about.request(state, live, (named, refused.credential.as_slice()), &about.path(), decision);
    tracing::debug!(request = %about.request_id, code = %refused.refusal, "refused");
    state.logbook.refusal(request, refused.refusal);
}

/// Writes down a use that is about to be made.
///
/// # Errors
/// Where it cannot be written: the use must not be made.
pub fn allowed(state: &State, live: &Rc<Live>, about: &About, allowed: &Allowed) -> Result<(), AuditError> {
    let agent = Some(allowed.binding.agent);
    let path = placeholder::redacted(allowed.target.path());
    let request = about.request(state, live, (agent, &allowed.binding.credentials), &path, Decision::Allowed);
    state.logbook.write(&Record::Request(request))
}

/// How an exchange ends; its line is written on drop.
pub struct Ending {
    state: Rc<State>,
    began: Instant,
    record: Ended,
    uploaded: Rc<Cell<u64>>,
    complete: bool,
    held: Option<Ticket>,
}

impl Ending {
    /// Begins with the use.
    #[must_use]
    pub fn new(state: &Rc<State>, admitted: &Admitted, about: &About) -> Self {
        let binding = &admitted.allowed.binding;
        let mut names = names_of(&admitted.live, &binding.credentials);
        let record = Ended {
            request_id: about.request_id.clone(),
            agent: name_of(&admitted.live, Some(binding.agent)),
            credential: names.next(),
            more_credentials: names.collect(),
            status: None,
            failure: None,
            bytes_in: 0,
            bytes_out: 0,
            duration_ms: 0,
            scrubbed: 0,
            usage: None,
        };
        let (state, uploaded) = (Rc::clone(state), Rc::default());
        Self { state, began: Instant::now(), record, uploaded, complete: false, held: None }
    }

    /// Where the upload is counted.
    pub fn count_upload(&mut self, uploaded: Rc<Cell<u64>>) {
        self.uploaded = uploaded;
    }

    /// The upstream answered.
    pub fn status(&mut self, status: StatusCode) {
        self.record.status = Some(status.as_u16());
    }

    /// The agent gets this instead of an answer.
    pub fn refused(&mut self, refusal: Refusal) {
        self.record.failure = Some(Failure::Refused(refusal));
        self.complete = true;
    }

    /// It was cut before there was an answer. The end of the agent's connection is its own doing, and no refusal.
    pub fn cut(&mut self, reason: Refusal) {
        if reason == Refusal::AgentUnknown { self.hung_up() } else { self.refused(reason) }
    }

    /// The agent's side broke off.
    pub fn hung_up(&mut self) {
        self.record.failure = Some(Failure::HungUp);
        self.complete = true;
    }

    /// Body bytes went to gatewayd.
    pub fn sent(&mut self, bytes: usize) {
        self.record.bytes_out += bytes as u64;
    }

    /// Keys were masked.
    pub fn scrubbed(&mut self, count: u64) {
        self.record.scrubbed += count;
    }

    /// The last byte went out.
    pub fn complete(&mut self) {
        self.complete = true;
    }

    /// Keeps the exchange in the list of running ones until its last byte.
    pub fn hold(&mut self, ticket: Ticket) {
        self.held = Some(ticket);
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        if let Some(ticket) = self.held.take()
            && !self.complete
        {
            let reason = ticket.reason().filter(|reason| *reason != Refusal::AgentUnknown);
            self.record.failure = reason.map(Failure::Refused);
        }
        // Whoever drops this early has nobody left to answer: the status stands, and the bytes say how far it came.
        if !self.complete && self.record.failure.is_none() {
            self.record.failure = Some(Failure::HungUp);
        }
        self.record.bytes_in = self.uploaded.get();
        self.record.duration_ms = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        // The use was on record; where its end cannot be, `status` says so.
        self.state.logbook.keep_end(Record::Ended(self.record.clone()));
    }
}

/// For a request whose gateway gave it none.
#[must_use]
pub fn own_id() -> String {
    let mut bytes = [0; 16];
    // Without randomness the id is zero; it names a line and protects nothing.
    let _ = SystemRandom::new().fill(&mut bytes);
    format!("{:032x}", u128::from_be_bytes(bytes))
}

/// A target that was not judged well may hold any character: of those, control characters and what turns the direction of
/// writing are encoded.
fn harmless(path: &str) -> String {
    let mut text = String::with_capacity(path.len());
    for character in path.chars() {
        if terminal::steers(character) {
            character.encode_utf8(&mut [0; 4]).bytes().for_each(|byte| text += &format!("%{byte:02X}"));
        } else {
            text.push(character);
        }
    }
    text
}

fn name_of(live: &Live, agent: Option<u64>) -> Option<Name> {
    agent.and_then(|id| live.agent(id)).map(|agent| agent.name.clone())
}

fn names_of(live: &Live, credentials: &[u64]) -> impl Iterator<Item = Name> {
    credentials.iter().filter_map(|id| live.credential(*id)).map(|credential| credential.name.clone())
}

/// The id of no agent.
const NOBODY: u64 = 0;

/// Methods that people use are short.
const LONGEST_METHOD: usize = 64;
/// A line stays readable.
const LONGEST_PATH: usize = 2048;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_steer_a_terminal_is_encoded_in_a_path_and_nothing_else_is() {
        assert_eq!(harmless("/a/../\u{9b}31m\u{202e}\u{7f}\u{1b}"), "/a/../%C2%9B31m%E2%80%AE%7F%1B");
        assert_eq!(harmless("/v1/{}/grüße%2e"), "/v1/{}/grüße%2e");
    }
}
