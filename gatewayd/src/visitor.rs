//! An agent's connection as keyd gets to know it: sessions, and what tells agents apart in the pool.
//!
//! A connection is presented to keyd when its first request comes: with its socket where it came over agent.sock, with
//! the user of its process where it is a TCP connection of this machine, and with each token that its requests bring.
//! Nothing here is believed by keyd but what it can check. Where one connection carries the requests of many agents, as a
//! pool of connections does, the session that was used least lately makes room. It refuses more of them at one time.
//! Made for each connection by `serve`; asked for each request by the gateway.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;
use std::rc::Rc;

use strongroom_protocol::session::{LONGEST_TOKEN, Presented, PresentedToken};
use strongroom_protocol::{Authority, Name, Refusal, SecretBytes};

use crate::connection::Connection;
use crate::gateway::Gateway;
use crate::key_client::Positions;

/// An agent's connection.
pub struct Visitor {
    gateway: Rc<Gateway>,
    connection: Rc<Connection>,
    /// Whose process it is, as far as this machine's kernel says.
    user: Option<u32>,
    user_bytes: Option<[u8; 4]>,
    /// The one that was used last is the last.
    sessions: RefCell<Vec<Opened>>,
    /// One is opened at a time, so that many first requests at once share it.
    opening: tokio::sync::Mutex<()>,
    /// Hosts that keyd said are intercepted, and when it said so.
    hosts: RefCell<HashMap<Authority, (u64, Rc<Positions>)>>,
}

/// Who asks, as far as is known before keyd has judged: of what is counted for each.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Party {
    user: Option<u32>,
    /// Whatever name came with it.
    token: Option<Rc<[u8]>>,
}

/// What an agent proves itself with.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    /// The name that came with it.
    pub agent: Option<Name>,
    /// The token.
    pub secret: Rc<[u8]>,
}

impl fmt::Debug for Party {
    /// Nothing of a token is shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Party").field("user", &self.user).finish_non_exhaustive()
    }
}

impl Token {
    /// As an agent sent it.
    ///
    /// # Errors
    /// `agent_unknown` for what is longer than any token.
    pub fn new(agent: Option<Name>, secret: &[u8]) -> Result<Self, Refusal> {
        if secret.len() > LONGEST_TOKEN {
            Err(Refusal::AgentUnknown)
        } else {
            Ok(Self { agent, secret: secret.into() })
        }
    }
}

struct Opened {
    token: Option<Token>,
    link: u64,
    number: u64,
}

impl Visitor {
    /// Of a connection that was just accepted, with its peer's user, who was looked at before a byte of it is read.
    #[must_use]
    pub fn new(gateway: &Rc<Gateway>, connection: &Rc<Connection>, user: Option<u32>) -> Rc<Self> {
        Rc::new(Self {
            gateway: gateway.clone(),
            connection: connection.clone(),
            user,
            user_bytes: user.map(u32::to_le_bytes),
            sessions: RefCell::default(),
            opening: tokio::sync::Mutex::default(),
            hosts: RefCell::default(),
        })
    }

    /// The number of the session; none where nothing at all is known of the agent but its placeholder.
    ///
    /// # Errors
    /// keyd's refusal, or that it is unavailable.
    pub async fn session(&self, token: Option<&Token>) -> Result<Option<u64>, Refusal> {
        if token.is_none() && self.user.is_none() {
            return Ok(None);
        }
        self.any_session(token).await.map(Some)
    }

    /// The same, though there may be nothing to present.
    ///
    /// # Errors
    /// As [`Self::session`].
    pub async fn any_session(&self, token: Option<&Token>) -> Result<u64, Refusal> {
        if let Some(number) = self.opened(token, self.gateway.keyd.link()) {
            return Ok(number);
        }
        let _turn = self.opening.lock().await;
        let link = self.gateway.keyd.link();
        if let Some(number) = self.opened(token, link) {
            return Ok(number);
        }
        self.make_room()?;
        let socket = self.connection.agent_socket();
        let presented = Presented {
            socket: socket.is_some(),
            uid: self.user.filter(|_| socket.is_none()),
            token: token.map(|token| PresentedToken {
                agent: token.agent.clone(),
                token: SecretBytes::new(token.secret.to_vec()),
            }),
        };
        let number = self.gateway.keyd.open_session(presented, socket).await?;
        self.sessions.borrow_mut().push(Opened { token: token.cloned(), link, number });
        Ok(number)
    }

    /// Which sessions the others of many requests at once are using is not known here.
    fn make_room(&self) -> Result<(), Refusal> {
        let mut sessions = self.sessions.borrow_mut();
        if sessions.len() < MOST_SESSIONS {
            return Ok(());
        }
        if !self.connection.serves_one() {
            return Err(Refusal::Overloaded);
        }
        self.gateway.keyd.close_session(sessions.remove(0).number);
        Ok(())
    }

    fn opened(&self, token: Option<&Token>, link: u64) -> Option<u64> {
        let mut sessions = self.sessions.borrow_mut();
        // With the connection to keyd its sessions ended.
        sessions.retain(|session| session.link == link);
        let found = sessions.iter().position(|session| session.token.as_ref() == token)?;
        let session = sessions.remove(found);
        let number = session.number;
        sessions.push(session);
        Some(number)
    }

    /// Where placeholders may stand at a host that keyd intercepts, as far as it was asked and has said nothing since.
    #[must_use]
    pub fn known_host(&self, authority: &Authority) -> Option<Rc<Positions>> {
        let told = self.gateway.keyd.told();
        let hosts = self.hosts.borrow();
        hosts.get(authority).filter(|(then, _)| *then == told).map(|(_, positions)| positions.clone())
    }

    /// keyd intercepts this host.
    pub fn learn_host(&self, authority: Authority, told: u64, positions: Rc<Positions>) {
        let mut hosts = self.hosts.borrow_mut();
        if hosts.len() >= MOST_HOSTS {
            hosts.clear();
        }
        hosts.insert(authority, (told, positions));
    }

    /// Who asks. The token was presented to keyd, and taken: else anybody could be as many as they like.
    #[must_use]
    pub fn party(&self, token: Option<&Token>) -> Party {
        Party { user: self.user, token: token.map(|token| token.secret.clone()) }
    }

    /// What tells this agent from others as far as is known here, so that they do not meet on a channel. keyd has the
    /// last word: a channel that serves another agent is refused, and another one is taken.
    pub fn identity<'a>(&'a self, token: Option<&'a Token>) -> impl Iterator<Item = &'a [u8]> {
        let way: &[u8] = if self.connection.agent_socket().is_some() { b"socket" } else { b"tcp" };
        let name = token.and_then(|token| token.agent.as_ref()).map(|name| name.as_str().as_bytes());
        let secret = token.map(|token| &*token.secret);
        [Some(way), self.user_bytes.as_ref().map(<[u8; 4]>::as_slice), name, secret]
            .into_iter()
            .map(Option::unwrap_or_default)
    }
}

impl Drop for Visitor {
    fn drop(&mut self) {
        let link = self.gateway.keyd.link();
        for session in self.sessions.get_mut().drain(..).filter(|session| session.link == link) {
            self.gateway.keyd.close_session(session.number);
        }
    }
}

/// Of one connection; an agent has one token, and keyd holds a descriptor for each.
const MOST_SESSIONS: usize = 4;

/// Of one connection.
const MOST_HOSTS: usize = 64;
