//! Where a CONNECT may lead, for everybody who may send one.

use super::*;
use crate::audit::record::Evidence;
use crate::policy::fixture;
use crate::policy::identity::Seen;
use crate::vault::contents::Contents;

/// `keyed` has a grant for api.example, `walker` may reach pypi.org:443 and `*.files.example`, `bound` has a grant for
/// bound.example and a token.
fn contents() -> Contents {
    let mut contents = fixture::contents();
    let credential = fixture::credential(&mut contents, "one", "api.example", &[b"the-key-of-one"]);
    let bound_credential = fixture::credential(&mut contents, "two", "bound.example", &[b"the-key-of-two"]);
    let keyed = fixture::agent(&mut contents, "keyed");
    let walker = fixture::agent(&mut contents, "walker");
    let bound = fixture::agent(&mut contents, "bound");
    fixture::grant(&mut contents, credential, keyed);
    fixture::grant(&mut contents, bound_credential, bound);
    let agent = |contents: &mut Contents, id, change: fn(&mut Agent)| {
        change(contents.agents.iter_mut().find(|agent| agent.id == id).unwrap());
    };
    agent(&mut contents, keyed, |agent| agent.uids = vec![1]);
    agent(&mut contents, walker, |agent| {
        agent.uids = vec![2];
        agent.egress = vec!["pypi.org".parse().unwrap(), "*.files.example".parse().unwrap()];
    });
    agent(&mut contents, bound, |agent| agent.token = Some("token".to_owned()));
    contents
}

fn goes(contents: &Contents, uid: Option<u32>, authority: &str) -> Result<&'static str, Refusal> {
    let live = Live::new(contents.clone());
    let seen = Seen { uid, by_socket: true, in_unit: &|_| false, token: None };
    let identity = Identity::of(&live, &seen)?;
    named(way(&live, &identity, &authority.parse().unwrap()))
}

/// The same for a request in absolute form.
fn goes_in_full(contents: &Contents, uid: Option<u32>, authority: &str) -> Result<&'static str, Refusal> {
    let live = Live::new(contents.clone());
    let seen = Seen { uid, by_socket: true, in_unit: &|_| false, token: None };
    let (identity, authority) = (Identity::of(&live, &seen)?, authority.parse().unwrap());
    named(without_tunnel(&live, &identity, &authority, way(&live, &identity, &authority)))
}

fn named(way: Result<Way, Refusal>) -> Result<&'static str, Refusal> {
    way.map(|way| match way {
        Way::Intercept => "intercept",
        Way::Judge => "judge",
        Way::Tunnel(_) => "tunnel",
    })
}

#[test]
fn a_granted_host_is_intercepted_and_an_allowed_one_is_a_tunnel() {
    let contents = contents();
    assert_eq!(goes(&contents, Some(1), "api.example"), Ok("intercept"));
    assert_eq!(goes(&contents, Some(2), "pypi.org"), Ok("tunnel"));
    assert_eq!(goes(&contents, Some(2), "a.files.example"), Ok("tunnel"));
}

#[test]
fn every_other_host_is_refused() {
    let contents = contents();
    for (uid, authority) in [
        (Some(1), "pypi.org"),
        (Some(1), "bound.example"),
        (Some(1), "api.example:8443"),
        (Some(2), "api.example"),
        (Some(2), "pypi.org:8443"),
        (Some(2), "x.pypi.org"),
        (Some(2), "files.example"),
        (Some(2), "a.b.files.example"),
        (None, "unheard.example"),
    ] {
        assert_eq!(goes(&contents, uid, authority), Err(Refusal::HostNotAllowed), "{uid:?} to {authority}");
    }
}

#[test]
fn nobody_in_particular_gets_to_hosts_of_agents_that_need_no_proof() {
    let mut contents = contents();
    assert_eq!(goes(&contents, None, "bound.example"), Err(Refusal::AgentUnknown));
    assert_eq!(goes(&contents, None, "pypi.org"), Err(Refusal::AgentUnknown));
    assert_eq!(goes(&contents, None, "api.example"), Err(Refusal::AgentUnknown));
    contents.agents[0].uids.clear();
    assert_eq!(goes(&contents, None, "api.example"), Ok("intercept"));
}

#[test]
fn what_was_taken_away_leads_nowhere_and_is_called_so() {
    let untouched = contents();
    let mut contents = untouched.clone();
    contents.grants[0].revoked = Some(5);
    assert_eq!(goes(&contents, Some(1), "api.example"), Err(Refusal::Revoked));
    assert_eq!(goes(&contents, Some(2), "api.example"), Err(Refusal::HostNotAllowed), "it was never another's");
    assert_eq!(goes(&contents, None, "api.example"), Err(Refusal::HostNotAllowed), "nor of somebody without proof");
    contents.agents[0].uids.clear();
    assert_eq!(goes(&contents, None, "api.example"), Err(Refusal::Revoked));
    contents.agents[1].egress.push("api.example".parse().unwrap());
    assert_eq!(goes(&contents, Some(2), "api.example"), Ok("tunnel"));
    assert_eq!(goes(&contents, None, "api.example"), Err(Refusal::AgentUnknown), "somebody may go there");
    let mut contents = untouched.clone();
    contents.grants[0].expires = Some(5);
    assert_eq!(goes(&contents, Some(1), "api.example"), Err(Refusal::Expired));
    // The last one tells.
    let (credential, agent) = (contents.credentials[0].id, contents.agents[0].id);
    fixture::grant(&mut contents, credential, agent);
    assert_eq!(goes(&contents, Some(1), "api.example"), Ok("intercept"));
    contents.grants.last_mut().unwrap().revoked = Some(6);
    assert_eq!(goes(&contents, Some(1), "api.example"), Err(Refusal::Revoked));
    let mut contents = untouched.clone();
    contents.agents[1].revoked = Some(5);
    assert_eq!(goes(&contents, Some(2), "pypi.org"), Err(Refusal::Revoked));
    let mut contents = untouched;
    contents.credentials[0].removed = Some(5);
    assert_eq!(goes(&contents, Some(1), "api.example"), Err(Refusal::Revoked));
}

#[test]
fn of_several_agents_of_one_user_none_is_taken_for_the_other() {
    let mut contents = contents();
    contents.agents[0].uids = vec![2];
    assert_eq!(goes(&contents, Some(2), "pypi.org"), Err(Refusal::AgentUnknown));
    assert_eq!(goes(&contents, Some(2), "unheard.example"), Err(Refusal::HostNotAllowed));
    assert_eq!(goes(&contents, Some(2), "api.example"), Ok("intercept"));
    contents.agents[0].egress = vec!["pypi.org".parse().unwrap()];
    assert_eq!(goes(&contents, Some(2), "pypi.org"), Err(Refusal::AgentUnknown), "a tunnel is somebody's");
    // One that was revoked is nobody's rival.
    contents.agents[0].revoked = Some(5);
    assert_eq!(goes(&contents, Some(2), "pypi.org"), Ok("tunnel"));
    assert_eq!(goes(&contents, Some(2), "api.example"), Err(Refusal::Revoked), "its grant does not stand");
}

#[test]
fn a_claimed_user_is_on_record_as_claimed() {
    let live = Live::new(contents());
    let seen = Seen { uid: Some(2), by_socket: false, in_unit: &|_| false, token: None };
    assert_eq!(Identity::of(&live, &seen).unwrap().evidence(), Evidence::Claimed);
}

#[test]
fn a_request_in_full_is_judged_where_its_agent_ever_could_go() {
    let mut contents = contents();
    assert_eq!(goes_in_full(&contents, Some(1), "api.example"), Ok("intercept"));
    assert_eq!(goes_in_full(&contents, Some(2), "pypi.org"), Err(Refusal::HostNotAllowed), "a tunnel is for a CONNECT");
    assert_eq!(goes_in_full(&contents, None, "bound.example"), Err(Refusal::AgentUnknown));
    contents.grants[0].revoked = Some(5);
    contents.agents[0].egress.push("api.example".parse().unwrap());
    assert_eq!(goes(&contents, Some(1), "api.example"), Ok("tunnel"));
    assert_eq!(goes_in_full(&contents, Some(1), "api.example"), Ok("judge"));
    assert_eq!(goes_in_full(&contents, Some(2), "api.example"), Err(Refusal::HostNotAllowed), "it was never another's");
    // Of an agent that was revoked too; and what it could not reach before tells it nothing.
    contents.agents[0].revoked = Some(5);
    assert_eq!(goes_in_full(&contents, Some(1), "api.example"), Ok("judge"));
    for authority in ["bound.example", "unheard.example"] {
        assert_eq!(goes_in_full(&contents, Some(1), authority), Err(Refusal::Revoked), "{authority}");
    }
}
