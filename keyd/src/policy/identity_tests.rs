//! Each rule of evidence, with its twin that is not broken.

use super::*;
use crate::policy::fixture;
use crate::vault::contents::Contents;

const ONE: u32 = 1001;
const TWO: u32 = 1002;
const TOKEN: &[u8] = b"strongroom-agent-of-two";

/// `one` has a user, `two` a user, a unit and a token, `free` nothing, `both` the users of one and two.
fn agents() -> (Live, [u64; 4]) {
    let mut contents: Contents = fixture::contents();
    let ids = ["one", "two", "free", "both"].map(|name| fixture::agent(&mut contents, name));
    contents.agents[0].uids = vec![ONE];
    contents.agents[1].uids = vec![TWO];
    contents.agents[1].unit = Some("two.service".to_owned());
    contents.agents[1].token = Some(String::from_utf8(TOKEN.to_vec()).unwrap());
    contents.agents[3].uids = vec![ONE, TWO];
    (Live::new(contents), ids)
}

struct Case {
    uid: Option<u32>,
    by_socket: bool,
    unit: &'static str,
    token: Option<(&'static [u8], Option<&'static str>)>,
}

fn nothing() -> Case {
    Case { uid: None, by_socket: false, unit: "", token: None }
}

fn weigh(live: &Live, case: Case) -> Result<Identity, Refusal> {
    let name = case.token.and_then(|(_, name)| name).map(|name| name.parse::<Name>().unwrap());
    let token = case.token.map(|(token, _)| (token, name.as_ref()));
    let in_unit = |unit: &str| unit == case.unit;
    Identity::of(live, &Seen { uid: case.uid, by_socket: case.by_socket, in_unit: &in_unit, token })
}

#[test]
fn a_user_on_agent_sock_proves_and_one_of_tcp_claims() {
    let (live, [one, .., both]) = agents();
    let socket = weigh(&live, Case { uid: Some(ONE), by_socket: true, ..nothing() }).unwrap();
    assert_eq!((socket.agents(), socket.evidence()), (Some(&[one, both][..]), Evidence::Socket));
    assert_eq!(socket.proved(), [one, both]);
    let claimed = weigh(&live, Case { uid: Some(ONE), ..nothing() }).unwrap();
    assert_eq!((claimed.agents(), claimed.evidence()), (Some(&[one, both][..]), Evidence::Claimed));
    assert!(claimed.proved().is_empty());
}

#[test]
fn evidence_that_no_agent_claims_says_nothing() {
    let (live, _) = agents();
    for case in [
        nothing(),
        Case { uid: Some(4242), ..nothing() },
        Case { uid: Some(4242), by_socket: true, unit: "other.service", ..nothing() },
    ] {
        assert_eq!(weigh(&live, case).unwrap(), Identity::UNKNOWN);
    }
}

#[test]
fn all_evidence_has_to_agree() {
    let (live, [_, two, ..]) = agents();
    let unit = |uid| Case { uid: Some(uid), by_socket: true, unit: "two.service", ..nothing() };
    assert_eq!(weigh(&live, unit(TWO)).unwrap().only(), Some(two));
    assert_eq!(weigh(&live, unit(ONE)), Err(Refusal::AgentMismatch));
    let token = |uid, name| Case { uid, token: Some((TOKEN, name)), ..nothing() };
    assert_eq!(weigh(&live, token(None, Some("two"))).unwrap().only(), Some(two));
    assert_eq!(weigh(&live, token(Some(TWO), None)).unwrap().evidence(), Evidence::Token);
    assert_eq!(weigh(&live, token(Some(4242), None)).unwrap().only(), Some(two), "a user of nobody's says nothing");
    assert_eq!(weigh(&live, token(Some(ONE), None)), Err(Refusal::AgentMismatch));
    assert_eq!(weigh(&live, token(None, Some("one"))), Err(Refusal::AgentMismatch));
}

#[test]
fn a_token_that_is_nobodys_is_worse_than_none() {
    let (live, _) = agents();
    for token in [&b""[..], b"strongroom-agent-of-tw", b"strongroom-agent-of-two2", b"STRONGROOM-AGENT-OF-TWO"] {
        assert_eq!(weigh(&live, Case { token: Some((token, None)), ..nothing() }), Err(Refusal::AgentUnknown));
    }
}

#[test]
fn a_placeholder_may_come_from_its_own_agent_alone() {
    let (live, [one, two, free, _]) = agents();
    let agent = |id| live.agent(id).unwrap();
    let socket = weigh(&live, Case { uid: Some(ONE), by_socket: true, ..nothing() }).unwrap();
    assert_eq!(socket.permits(agent(one)), Ok(()));
    assert_eq!(socket.permits(agent(two)), Err(Refusal::AgentMismatch));
    assert_eq!(socket.permits(agent(free)), Err(Refusal::AgentMismatch), "evidence names others");
    assert_eq!(Identity::UNKNOWN.permits(agent(free)), Ok(()));
    assert_eq!(Identity::UNKNOWN.permits(agent(one)), Err(Refusal::AgentUnknown));
    assert_eq!(Identity::UNKNOWN.permits(agent(two)), Err(Refusal::AgentUnknown));
}

#[test]
fn removed_agents_are_nobody_and_revoked_ones_are_still_themselves() {
    let (live, [one, .., both]) = agents();
    let mut contents = live.contents().clone();
    contents.agents[3].removed = Some(5);
    contents.agents[0].revoked = Some(5);
    let live = Live::new(contents);
    let seen = weigh(&live, Case { uid: Some(ONE), by_socket: true, ..nothing() }).unwrap();
    assert_eq!(seen.agents(), Some(&[one][..]), "{both} is gone");
}
