//! Which agent is at the other end: everything that names one must agree.
//!
//! | evidence | says |
//! |---|---|
//! | the kernel's word on agent.sock: uid, unit | the agents that have this user or unit |
//! | a token | the one agent whose it is |
//! | a uid of loopback TCP | the same as on agent.sock, but by gatewayd's word: it can only narrow |
//! | nothing | whatever the placeholder says, where its agent is bound to none of these |
//!
//! Evidence that no agent claims says nothing. One user may be several agents (a person's own account): then the
//! placeholder tells them apart. It refuses evidence that contradicts itself, and wrong tokens. Asked anew for each
//! request, for agents come and go while a connection lives. Called by `gateway/sessions.rs`.

use strongroom_protocol::{Name, Refusal};

use super::live::Live;
use crate::audit::record::Evidence;
use crate::vault::contents::Agent;

/// What is known of a connection, checked by keyd but for a claimed uid.
pub struct Seen<'a> {
    /// The user of the peer.
    pub uid: Option<u32>,
    /// Whether the kernel told keyd itself, on agent.sock.
    pub by_socket: bool,
    /// Whether the peer's process belongs to a unit.
    pub in_unit: &'a dyn Fn(&str) -> bool,
    /// A token, and the name that came with it.
    pub token: Option<(&'a [u8], Option<&'a Name>)>,
}

/// Who it can be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Ids of the agents that all evidence names; none where there is none.
    agents: Option<Vec<u64>>,
    /// The best of the evidence.
    evidence: Evidence,
}

impl Identity {
    /// Nothing is known.
    pub const UNKNOWN: Self = Self { agents: None, evidence: Evidence::Placeholder };

    /// Weighs the evidence.
    ///
    /// # Errors
    /// `agent_unknown` for a token that is nobody's, `agent_mismatch` where evidence names different agents.
    pub fn of(live: &Live, seen: &Seen<'_>) -> Result<Self, Refusal> {
        let mut identity = Self::UNKNOWN;
        if let Some(uid) = seen.uid {
            let evidence = if seen.by_socket { Evidence::Socket } else { Evidence::Claimed };
            identity = identity.narrowed(live.agents_of_uid(uid).map(|agent| agent.id).collect(), evidence)?;
        }
        if seen.by_socket {
            let in_unit = |agent: &&Agent| agent.unit.as_deref().is_some_and(seen.in_unit);
            let agents = live.agents_with_unit().filter(in_unit).map(|agent| agent.id).collect();
            identity = identity.narrowed(agents, Evidence::Socket)?;
        }
        if let Some((token, name)) = seen.token {
            let agent = live.agent_of_token(token).ok_or(Refusal::AgentUnknown)?;
            if name.is_some_and(|name| *name != agent.name) {
                return Err(Refusal::AgentMismatch);
            }
            identity = identity.narrowed(vec![agent.id], Evidence::Token)?;
        }
        Ok(identity)
    }

    /// Evidence that no agent claims says nothing.
    fn narrowed(self, named: Vec<u64>, evidence: Evidence) -> Result<Self, Refusal> {
        if named.is_empty() {
            return Ok(self);
        }
        let agents = match self.agents {
            None => named,
            Some(before) => before.into_iter().filter(|agent| named.contains(agent)).collect(),
        };
        if agents.is_empty() { Err(Refusal::AgentMismatch) } else { Ok(Self { agents: Some(agents), evidence }) }
    }

    /// Whether a placeholder of this agent's may come from here.
    ///
    /// # Errors
    /// `agent_mismatch` where somebody else sent it, `agent_unknown` where the agent has to prove itself and did not.
    pub fn permits(&self, agent: &Agent) -> Result<(), Refusal> {
        match &self.agents {
            Some(agents) if agents.contains(&agent.id) => Ok(()),
            Some(_) => Err(Refusal::AgentMismatch),
            None if agent.is_bound() => Err(Refusal::AgentUnknown),
            None => Ok(()),
        }
    }

    /// The agents that it can be; none where nothing is known.
    #[must_use]
    pub fn agents(&self) -> Option<&[u64]> {
        self.agents.as_deref()
    }

    /// The one agent that it is, where that is certain.
    #[must_use]
    pub fn only(&self) -> Option<u64> {
        match self.agents.as_deref() {
            Some(&[agent]) => Some(agent),
            _ => None,
        }
    }

    /// The agents that keyd knows by evidence of its own, for what needs more than a placeholder.
    #[must_use]
    pub fn proved(&self) -> &[u64] {
        match self.evidence {
            Evidence::Socket | Evidence::Token => self.agents.as_deref().unwrap_or_default(),
            Evidence::Placeholder | Evidence::Claimed => &[],
        }
    }

    /// What the audit log says of how the agent is known.
    #[must_use]
    pub fn evidence(&self) -> Evidence {
        self.evidence
    }
}

#[cfg(test)]
#[path = "identity_tests.rs"]
mod tests;
