//! Placeholders that are variables' names: which of them count, and whose they are.

use super::positions::{basic, field, with};
use super::*;
use crate::policy::identity::Seen;

/// The grant is given under the name ONE_KEY, and its credential's other variable is ONE_TOKEN.
#[test]
fn each_name_of_a_named_placeholder_counts_in_each_position() {
    for name in ["ONE_KEY", "ONE_TOKEN", "ONE_OTHER"] {
        let judged = |site, fill: &dyn Fn(&mut Case)| {
            let (mut case, _) = with(&[site]);
            case.contents.credentials[0].variables = vec!["ONE_KEY".to_owned(), "ONE_TOKEN".to_owned()];
            (case.contents.grants[0].named, case.contents.grants[0].placeholder) = (true, "ONE_KEY".to_owned());
            case.contents.agents[0].uids = vec![7];
            let live = Live::new(case.contents.clone());
            let seen = Seen { uid: Some(7), by_socket: true, in_unit: &|_| false, token: None };
            case.identity = Identity::of(&live, &seen).unwrap();
            fill(&mut case);
            case.judge().map(|allowed| allowed.target.to_origin_form())
        };
        let outcomes = [
            judged(Site::parse_header("x-key: {}"), &|case| field(case, "x-key", name)),
            judged(Site::parse_basic("user"), &|case| {
                drop(case.headers.insert("authorization", basic(&format!("u:{name}"))))
            }),
            judged(Site::parse_query("key"), &|case| case.target = format!("/v1?a=1&key={name}&b=2")),
            judged(Site::parse_path_prefix("/bot{}"), &|case| case.target = format!("/bot{name}/x")),
            judged(Site::parse_body_json("POST /v1#/key"), &|case| {
                case.target = "/v1".into();
                field(case, "content-type", "application/json");
                case.body = Some(format!(r#"{{"key":"{name}"}}"#).into_bytes());
            }),
        ];
        let marked = ["/v1/chat?x=1", "/v1/chat?x=1", "/v1?a=1&key={}&b=2", "/bot{}/x", "/v1"];
        let is_known = name != "ONE_OTHER";
        for (outcome, marked) in outcomes.into_iter().zip(marked) {
            assert_eq!(outcome.clone().ok().as_deref(), is_known.then_some(marked), "{name}: {outcome:?}");
        }
    }
}

#[test]
fn a_name_is_first_of_all_the_grants_that_was_given_under_it() {
    let (mut case, _) = with(&[Site::parse_header("authorization: Bearer {}")]);
    let [one, agent] = [case.contents.credentials[0].id, case.contents.agents[0].id];
    let two = fixture::credential(&mut case.contents, "two", "a.example", &[b"the-key-of-two"]);
    fixture::grant(&mut case.contents, two, agent);
    case.contents.credentials[0].variables = vec!["ONE_KEY".to_owned(), "TWO_KEY".to_owned()];
    for (grant, name) in case.contents.grants.iter_mut().zip(["ONE_KEY", "TWO_KEY"]) {
        (grant.named, grant.placeholder) = (true, name.to_owned());
    }
    case.contents.agents[0].uids = vec![7];
    case.headers.insert("authorization", bearer("TWO_KEY"));
    let used = |change: fn(&mut Contents)| {
        let mut case = Case { contents: case.contents.clone(), headers: case.headers.clone(), ..super::case().0 };
        change(&mut case.contents);
        let seen = Seen { uid: Some(7), by_socket: true, in_unit: &|_| false, token: None };
        case.identity = Identity::of(&Live::new(case.contents.clone()), &seen).unwrap();
        case.judge().map(|allowed| allowed.uses[0].credential)
    };
    assert_eq!(used(|_| {}), Ok(two));
    // As 'env' would give it out then.
    assert_eq!(used(|contents| contents.grants[1].revoked = Some(1)), Ok(one));
    assert_eq!(
        used(|contents| contents.grants.iter_mut().for_each(|grant| grant.revoked = Some(1))),
        Err(Refusal::Revoked)
    );
}
