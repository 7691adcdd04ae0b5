//! Every position but plain header fields: its one right form, and each form beside it that is refused.

use base64ct::{Base64, Encoding};

use super::*;

/// The usual case with these sites in place of Bearer, and nothing in the head.
pub(super) fn with(sites: &[Result<Site, strongroom_protocol::site::InvalidSite>]) -> (Case, String) {
    let (mut case, placeholder) = case();
    case.contents.credentials[0].sites = sites.iter().map(|site| site.clone().unwrap()).collect();
    case.headers.clear();
    (case, placeholder)
}

fn uses(case: Case) -> Vec<Position> {
    case.judge().expect("allowed").uses.into_iter().map(|one| one.position).collect()
}

pub(super) fn basic(text: &str) -> HeaderValue {
    HeaderValue::from_str(&format!("Basic {}", Base64::encode_string(text.as_bytes()))).unwrap()
}

pub(super) fn field(case: &mut Case, name: &'static str, value: &str) {
    case.headers.append(name, HeaderValue::from_str(value).unwrap());
}

mod basic_password {
    use super::*;

    fn sent(value: impl FnOnce(&str) -> HeaderValue) -> Result<Allowed, Refusal> {
        let (mut case, placeholder) = with(&[Site::parse_basic("x-access-token")]);
        case.headers.insert("authorization", value(&placeholder));
        case.judge()
    }

    #[test]
    fn the_password_is_the_position_and_the_user_is_the_credentials() {
        for user in ["x-access-token", "somebody", ""] {
            let allowed = sent(|placeholder| basic(&format!("{user}:{placeholder}"))).expect("allowed");
            assert_eq!(allowed.uses[0].position, Position::Basic("x-access-token".into()), "{user}");
        }
        let lower = sent(|placeholder| {
            HeaderValue::from_str(&basic(&format!("u:{placeholder}")).to_str().unwrap().replace("Basic", "bASIC"))
                .unwrap()
        });
        assert!(lower.is_ok());
    }

    #[test]
    fn of_several_users_the_one_that_the_agent_names_is_sent() {
        for (user, sent) in [("one", "one"), ("two", "two"), ("three", "one")] {
            let (mut case, placeholder) = with(&[Site::parse_basic("one"), Site::parse_basic("two")]);
            case.headers.insert("authorization", basic(&format!("{user}:{placeholder}")));
            assert_eq!(uses(case), [Position::Basic(sent.into())]);
        }
    }

    #[test]
    fn the_placeholder_is_all_of_the_password_and_nothing_of_the_user() {
        type Make = fn(&str) -> String;
        let wrong: &[Make] = &[
            |placeholder| format!("{placeholder}:"),
            |placeholder| format!("{placeholder}:password"),
            |placeholder| placeholder.to_owned(),
            |placeholder| format!("u:{placeholder}x"),
            |placeholder| format!("u:x{placeholder}"),
            |placeholder| format!("u:{placeholder}:"),
            |placeholder| format!("u::{placeholder}"),
            |placeholder| format!("u:{placeholder}\n"),
            |placeholder| format!("{placeholder}:{placeholder}"),
            |placeholder| format!("u:{}", placeholder.replace('s', "%73")),
        ];
        for make in wrong {
            let refused = sent(|placeholder| basic(&make(placeholder))).expect_err("refused");
            assert_eq!(refused, Refusal::SiteNotAllowed, "{}", make("PLACEHOLDER"));
        }
        assert_eq!(sent(|_| basic("u:real-password")).expect_err("refused"), Refusal::UnknownPlaceholder);
        let upper = sent(|placeholder| basic(&format!("u:{}", placeholder.to_uppercase())));
        assert_eq!(upper.expect_err("refused"), Refusal::UnknownPlaceholder);
    }

    #[test]
    fn blobs_that_only_a_tolerant_reader_takes_are_seen_through() {
        type Make = fn(&str) -> String;
        let wrong: &[Make] = &[
            |blob| format!("Basic  {blob}"),
            |blob| format!("Basic {}", blob.trim_end_matches('=')),
            |blob| format!("Basic {} {}", &blob[..8], &blob[8..]),
            |blob| format!("Basic {blob}===="),
            |blob| format!("Basic {}", blob.replace('=', "%3D")),
            |blob| format!("Basic\t{blob}"),
        ];
        for make in wrong {
            let refused = sent(|placeholder| {
                let blob = Base64::encode_string(format!("u:{placeholder}").as_bytes());
                assert!(blob.ends_with('='), "a blob that has to be padded");
                HeaderValue::from_str(&make(&blob)).unwrap()
            });
            assert_eq!(refused.expect_err("refused"), Refusal::SiteNotAllowed, "{}", make("BLOB-BLOB="));
        }
    }

    #[test]
    fn it_is_looked_for_in_every_field_and_not_only_in_authorization() {
        for name in ["proxy-authorization", "x-auth", "x-forwarded-authorization"] {
            let (mut case, placeholder) = with(&[Site::parse_basic("u")]);
            case.headers.insert("authorization", basic(&format!("u:{placeholder}")));
            case.headers.insert(name, basic(&format!("u:{placeholder}")));
            assert_eq!(case.judge().expect_err("refused"), Refusal::SiteNotAllowed, "{name}");
        }
        let (mut case, placeholder) = super::case();
        case.headers.insert("authorization", basic(&format!("u:{placeholder}")));
        assert_eq!(case.judge().expect_err("refused"), Refusal::SiteNotAllowed, "where Bearer is declared");
    }

    #[test]
    fn where_it_is_declared_credentials_are_asked_for() {
        let asks = |change: fn(&mut Case)| {
            let (mut case, _) = with(&[Site::parse_basic("u")]);
            change(&mut case);
            let refused = case.verdict().expect_err("refused");
            (refused.refusal, refused.other_status)
        };
        assert_eq!(asks(|_| {}), (Refusal::NoPlaceholder, true));
        assert_eq!(asks(|case| field(case, "authorization", "Basic dTpw")), (Refusal::UnknownPlaceholder, false));
        let removed = asks(|case| {
            case.contents.credentials[0].removed = Some(1);
            fixture::credential(&mut case.contents, "two", "a.example", &[b"the-key-of-two"]);
        });
        assert_eq!(removed, (Refusal::NoPlaceholder, false));
        let (mut bearer, _) = super::case();
        bearer.headers.clear();
        assert!(!bearer.verdict().expect_err("refused").other_status);
    }
}

mod query {
    use super::*;

    fn sent(target: &str) -> Result<Allowed, Refusal> {
        let (mut case, placeholder) = with(&[Site::parse_query("key")]);
        case.target = target.replace("{}", &placeholder).replace("{enc}", &placeholder.replace('-', "%2D"));
        case.judge()
    }

    #[test]
    fn the_value_of_the_parameter_is_the_position() {
        for target in ["/v1?key={}", "/v1?a=1&key={}&b=2", "/v1?a&key={}&", "/v1?a=key&key={}", "/v1?keys=1&key={}"] {
            let allowed = sent(target).expect(target);
            assert_eq!(allowed.uses[0].position, Position::Query("key".into()), "{target}");
            assert_eq!(allowed.target.to_origin_form(), target, "marked where the key goes");
        }
    }

    #[test]
    fn a_name_with_reserved_characters_is_written_either_way() {
        let named = |name: &str| {
            let (mut case, placeholder) = with(&[Site::parse_query("auth[key]")]);
            case.target = format!("/v1?{name}={placeholder}");
            case.judge()
        };
        for name in ["auth[key]", "auth%5Bkey%5D", "auth%5bkey]"] {
            named(name).expect(name);
        }
        for name in ["%61uth[key]", "auth%255Bkey]", "auth(key)"] {
            assert_eq!(named(name).expect_err("refused"), Refusal::SiteNotAllowed, "{name}");
        }
    }

    #[test]
    fn it_is_written_as_it_is_and_once() {
        for target in [
            "/v1?other={}",
            "/v1?KEY={}",
            "/v1?k%65y={}",
            "/v1?key=x{}",
            "/v1?key={}x",
            "/v1?key={}%20",
            "/v1?key=+{}",
            "/v1?key={enc}",
            "/v1?key={};x=1",
            "/v1?a=1;key={}",
            "/v1?key={}&key={}",
            "/v1?key={}&key=",
            "/v1?key={}&key",
            "/v1?key=x&key={}",
            "/v1?key={}&k%65y=x",
            "/v1?key={}&%6b%65%79",
            "/v1?key={}&KEY=x",
            "/v1?key={}&+key=x",
            "/v1?a=b;key=x&key={}",
            "/v1?key={}&other={}",
            "/v1?key={}&other={enc}",
            "/v1/{}?key={}",
            "/v1/{enc}?key={}",
            "/{}/../v1?key={}",
            "/v1?key={}?key={}",
            "/v1?{}={}",
            "/v1?{}",
        ] {
            assert_eq!(sent(target).expect_err(target), Refusal::SiteNotAllowed, "{target}");
        }
    }

    #[test]
    fn something_else_in_it_is_a_strangers() {
        for target in ["/v1?key=real", "/v1?key=", "/v1?key", "/v1?k%65y=real", "/v1?a=1;key=real"] {
            assert_eq!(sent(target).expect_err(target), Refusal::UnknownPlaceholder, "{target}");
        }
        let (mut case, placeholder) = with(&[Site::parse_query("key")]);
        case.target = format!("/v1?key={}", placeholder.to_uppercase());
        assert_eq!(case.judge().expect_err("refused"), Refusal::UnknownPlaceholder);
        assert_eq!(sent("/v1?keys=1").expect_err("refused"), Refusal::NoPlaceholder);
        assert_eq!(sent("/v1").expect_err("refused"), Refusal::NoPlaceholder);
    }

    #[test]
    fn a_removed_credentials_parameter_is_nobodys() {
        let (mut case, _) = super::case();
        let gone = fixture::credential(&mut case.contents, "gone", "a.example", &[b"the-key-that-went"]);
        case.contents.credentials[1].sites = vec![Site::parse_query("key").unwrap()];
        case.contents.credentials[1].removed = Some(1);
        let agent = case.contents.agents[0].id;
        let old = fixture::grant(&mut case.contents, gone, agent);
        case.target = "/v1?key=ISSUE-1".into();
        case.judge().expect("a parameter like any other");
        let (mut case, _) = super::case();
        let _ = fixture::credential(&mut case.contents, "gone", "a.example", &[b"the-key-that-went"]);
        case.contents.credentials[1].sites = vec![Site::parse_query("key").unwrap()];
        case.contents.credentials[1].removed = Some(1);
        let again = fixture::grant(&mut case.contents, gone, agent);
        assert_eq!(old, again, "the two cases are alike");
        case.target = format!("/v1?key={again}");
        assert_eq!(case.judge().expect_err("refused"), Refusal::Revoked);
    }
}

mod path_prefix {
    use super::*;

    fn sent(template: &str, target: &str) -> Result<Allowed, Refusal> {
        let (mut case, placeholder) = with(&[Site::parse_path_prefix(template)]);
        case.target = target.replace("{}", &placeholder).replace("{enc}", &placeholder.replace('-', "%2D"));
        case.judge()
    }

    #[test]
    fn the_path_begins_with_it_and_rules_see_braces() {
        for (template, target, canonical) in [
            ("/bot{}", "/bot{}/getMe?x=1", "/bot{}/getMe"),
            ("/bot{}", "/bot{}", "/bot{}"),
            ("/bot{}", "/bot{}/", "/bot{}/"),
            ("/bot{}", "//bot{}//x/../getMe", "/bot{}/getMe"),
            ("/bot{}", "/b%6ft{}/getMe", "/bot{}/getMe"),
            ("/v1/{}/api", "/v1/{}/api/x", "/v1/{}/api/x"),
            ("/a-{}-b", "/a-{}-b/x", "/a-{}-b/x"),
            ("/a-{}-b/c", "/a-{}-b/c", "/a-{}-b/c"),
        ] {
            let allowed = sent(template, target).expect(target);
            assert_eq!(allowed.uses[0].position, Position::Path, "{target}");
            assert_eq!(allowed.target.path(), canonical, "{target}");
        }
    }

    #[test]
    fn anywhere_else_in_the_path_it_is_refused() {
        for target in [
            "/{}/getMe",
            "/bot/{}/getMe",
            "/botx{}/getMe",
            "/bot{}x/getMe",
            "/Bot{}/getMe",
            "/v1/bot{}/getMe",
            "/bot{}/{}",
            "/bot{}/x?y={}",
            "/bot{}/x?y={enc}",
            "/bot{enc}/getMe",
            "/{}/../bot{enc}/getMe",
            "/{enc}/../bot{}/getMe",
            "/{}/../bot{}/getMe",
            "/bot{};x/getMe",
            "/bot{}%2F/getMe",
        ] {
            assert_eq!(sent("/bot{}", target).expect_err(target), Refusal::SiteNotAllowed, "{target}");
        }
        assert_eq!(sent("/v1/{}/api", "/v1/{}/other").expect_err("refused"), Refusal::SiteNotAllowed);
        assert_eq!(sent("/v1/{}/api", "/v1/{}/apix").expect_err("refused"), Refusal::SiteNotAllowed);
    }

    #[test]
    fn something_else_in_it_is_a_strangers_where_nothing_else_is_there() {
        assert_eq!(sent("/bot{}", "/bot123:real/getMe").expect_err("refused"), Refusal::UnknownPlaceholder);
        assert_eq!(sent("/bot{}", "/other").expect_err("refused"), Refusal::NoPlaceholder);
        assert_eq!(sent("/{}", "/anything").expect_err("refused"), Refusal::NoPlaceholder);
        let (mut case, placeholder) = with(&[Site::parse_path_prefix("/{}"), Ok(Site::Bearer)]);
        case.headers.insert("authorization", bearer(&placeholder));
        assert_eq!(case.judge().expect("the other site").target.path(), "/v1/chat");
    }

    #[test]
    fn rules_hold_on_the_path_with_braces() {
        let judged = |rule: &str, deny: bool| {
            let (mut case, placeholder) = with(&[Site::parse_path_prefix("/bot{}")]);
            case.target = format!("/bot{placeholder}/getMe");
            let rules = vec![rule.parse().unwrap()];
            if deny {
                case.contents.credentials[0].deny = rules
            } else {
                case.contents.grants[0].allow = rules
            }
            case.judge().map(drop)
        };
        for rule in ["POST /bot{}/getMe", "POST /bot*/getMe", "* /*/getMe", "* /bot{}/**"] {
            assert_eq!(judged(rule, false), Ok(()), "{rule}");
            assert_eq!(judged(rule, true), Err(Refusal::RequestNotAllowed), "{rule}");
        }
        for rule in ["POST /bot/getMe", "POST /bot{}/sendMessage", "GET /bot{}/getMe"] {
            assert_eq!(judged(rule, false), Err(Refusal::RequestNotAllowed), "{rule}");
            assert_eq!(judged(rule, true), Ok(()), "{rule}");
        }
    }
}

mod in_body {
    use super::*;

    const JSON: &str = "application/json";
    const FORM: &str = "application/x-www-form-urlencoded";

    fn posted(site: Result<Site, strongroom_protocol::site::InvalidSite>, kind: &str, body: &str) -> (Case, String) {
        let (mut case, placeholder) = with(&[site]);
        case.target = "/token".into();
        let body = body.replace("{}", &placeholder);
        field(&mut case, "content-type", kind);
        case.body = Some(body.clone().into_bytes());
        (case, body)
    }

    fn json(body: &str) -> (Case, String) {
        posted(Site::parse_body_json("POST /token#/auth/key"), JSON, body)
    }

    fn form(body: &str) -> (Case, String) {
        posted(Site::parse_body_form("POST /token#secret"), FORM, body)
    }

    fn span(case: Case, body: &str) -> String {
        match &uses(case)[..] {
            [Position::Body(_, span)] => body[span.clone()].to_owned(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_string_at_the_pointer_is_the_position() {
        for body in [
            r#"{"auth": {"key": "{}"}}"#,
            r#"{"prompt": "say {} backwards", "auth": {"other": "{}", "key": "{}"}}"#,
            "{\"a\":[{ }],\n\"auth\"\t:{\"key\":\"{}\"}}",
        ] {
            let (case, body) = json(body);
            assert!(span(case, &body).starts_with("\"sk-strongroom-"));
        }
        let (mut case, _) = json("");
        let placeholder = case.contents.grants[0].placeholder.clone();
        let escaped = format!("{{\"\\u0061uth\": {{\"key\": \"{}\"}}}}", placeholder.replace('k', "\\u006b"));
        case.body = Some(escaped.clone().into_bytes());
        assert!(span(case, &escaped).contains("\\u006b"), "the raw stretch is replaced, whatever its escapes");
    }

    #[test]
    fn the_field_of_the_form_is_the_position() {
        for body in ["secret={}", "a=1&secret={}&b=2", "prompt=say+{}&secret={}", "s%65cret={}"] {
            let (case, body) = form(body);
            assert!(span(case, &body).starts_with("sk-strongroom-"));
        }
        let (mut case, _) = form("secret=x");
        let placeholder = case.contents.grants[0].placeholder.replace('-', "%2D");
        case.body = Some(format!("secret={placeholder}").into_bytes());
        assert!(case.judge().is_ok(), "a form's value means what it decodes to");
    }

    #[test]
    fn before_it_is_read_it_is_asked_for_and_only_then() {
        let asked = |change: fn(&mut Case)| {
            let (mut case, _) = json(r#"{"auth": {"key": "{}"}}"#);
            case.body = None;
            change(&mut case);
            case.verdict().map(|verdict| matches!(verdict, Verdict::BodyWanted)).map_err(|refused| refused.refusal)
        };
        assert_eq!(asked(|_| {}), Ok(true));
        assert_eq!(asked(|case| case.method = Method::PUT), Err(Refusal::NoPlaceholder));
        assert_eq!(asked(|case| case.target = "/token/".into()), Err(Refusal::NoPlaceholder));
        assert_eq!(asked(|case| case.target = "/Token".into()), Err(Refusal::NoPlaceholder));
        assert_eq!(asked(|case| case.target = "//token?x=1".into()), Ok(true), "the path is canonical");
        assert_eq!(asked(|case| case.has_body = false), Err(Refusal::NoPlaceholder));
        assert_eq!(asked(|case| case.contents.credentials[0].removed = Some(1)), Err(Refusal::NoPlaceholder));
        // What the head is refused for is said before anything is read.
        assert_eq!(
            asked(|case| {
                let placeholder = case.contents.grants[0].placeholder.clone();
                field(case, "cookie", &placeholder);
            }),
            Err(Refusal::SiteNotAllowed)
        );
    }

    #[test]
    fn two_readings_of_a_body_are_refused() {
        for body in [
            r#"{"auth": {"key": "{}", "key": "x"}}"#,
            r#"{"auth": {"key": "x", "\u006bey": "{}"}}"#,
            r#"{"auth": {"key": "{}"}, "auth": { }}"#,
            r#"{"auth": {"key": "{}"}, "AUTH": {"key": "x"}}"#,
            r#"{"auth": {"key": "x{}"}}"#,
            r#"{"auth": {"key": "{} "}}"#,
        ] {
            assert_eq!(json(body).0.judge().expect_err(body), Refusal::SiteNotAllowed, "{body}");
        }
        for body in ["secret={}&secret=x", "secret=x&secret={}", "s%65cret=x&secret={}", "secret={}x", "secret=+{}"] {
            assert_eq!(form(body).0.judge().expect_err(body), Refusal::SiteNotAllowed, "{body}");
        }
        for body in ["", "{", r#"{"auth": {"key": "{}"}} x"#, "\u{feff}{\"auth\": {\"key\": \"{}\"}}", "secret={}"] {
            assert_eq!(json(&format!("{body} ")).0.judge().expect_err(body), Refusal::BadRequest, "{body}");
        }
        for body in ["secret={}&a=%", "secret={}\r\n", "{\"secret\": \"{}\"}"] {
            assert_eq!(form(body).0.judge().expect_err(body), Refusal::BadRequest, "{body}");
        }
        let (mut case, _) = json("x");
        case.body = Some(b"{\"auth\": {\"key\": \"\xff\"}}".to_vec());
        assert_eq!(case.judge().expect_err("refused"), Refusal::BadRequest);
    }

    #[test]
    fn a_body_that_is_encoded_or_of_another_kind_is_refused() {
        let judged = |change: fn(&mut Case)| {
            let (mut case, _) = json(r#"{"auth": {"key": "{}"}}"#);
            change(&mut case);
            case.judge().map(drop)
        };
        let kind = |kind: &'static str| HeaderValue::from_static(kind);
        for good in
            ["application/json; charset=utf-8", "APPLICATION/JSON", "application/vnd.api+json;charset=\"UTF-8\""]
        {
            let (mut case, _) = json(r#"{"auth": {"key": "{}"}}"#);
            case.headers.insert("content-type", kind(good));
            assert!(case.judge().is_ok(), "{good}");
        }
        for bad in ["text/plain", "text/json", FORM, "application/jsonx", "application/json; charset=utf-16", ""] {
            let (mut case, _) = json(r#"{"auth": {"key": "{}"}}"#);
            case.headers.insert("content-type", kind(bad));
            assert_eq!(case.judge().expect_err(bad), Refusal::BadRequest, "{bad}");
        }
        assert_eq!(judged(|case| field(case, "content-encoding", "gzip")), Err(Refusal::BadRequest));
        assert_eq!(judged(|case| field(case, "content-encoding", "identity")), Ok(()));
        assert_eq!(judged(|case| field(case, "content-type", JSON)), Err(Refusal::BadRequest), "two of them");
        assert_eq!(judged(|case| drop(case.headers.remove("content-type"))), Err(Refusal::BadRequest));
    }

    #[test]
    fn nothing_or_something_else_there_is_told_apart() {
        for body in
            ["{ }", r#"{"auth": { }}"#, r#"{"auth": {"key": null}}"#, r#"{"auth": {"key": ["{}"]}}"#, r#"["{}"]"#]
        {
            assert_eq!(json(&format!(" {body}")).0.judge().expect_err(body), Refusal::NoPlaceholder, "{body}");
        }
        assert_eq!(json(r#"{"auth": {"key": "real"}}"#).0.judge().expect_err("refused"), Refusal::UnknownPlaceholder);
        assert_eq!(form("other={}").0.judge().expect_err("refused"), Refusal::NoPlaceholder);
        assert_eq!(form("secret=").0.judge().expect_err("refused"), Refusal::UnknownPlaceholder);
    }

    #[test]
    fn a_key_in_the_head_and_one_in_the_body_go_together_and_one_key_does_not_go_twice() {
        let (mut case, _) = json(r#"{"auth": {"key": "{}"}}"#);
        let agent = case.contents.agents[0].id;
        let two = fixture::credential(&mut case.contents, "two", "a.example", &[b"the-key-of-two"]);
        let placeholder = fixture::grant(&mut case.contents, two, agent);
        case.headers.insert("authorization", bearer(&placeholder));
        let body = case.body.take();
        assert!(matches!(case.verdict(), Ok(Verdict::BodyWanted)));
        let (mut case, _) = json(r#"{"auth": {"key": "{}"}}"#);
        let two = fixture::credential(&mut case.contents, "two", "a.example", &[b"the-key-of-two"]);
        let placeholder = fixture::grant(&mut case.contents, two, agent);
        case.headers.insert("authorization", bearer(&placeholder));
        assert_eq!(case.body, body);
        let allowed = case.judge().expect("both");
        assert_eq!((allowed.uses.len(), allowed.binding.credentials.len()), (2, 2));

        let (mut case, _) = json(r#"{"auth": {"key": "{}"}}"#);
        case.contents.credentials[0].sites.push(Site::Bearer);
        let placeholder = case.contents.grants[0].placeholder.clone();
        case.headers.insert("authorization", bearer(&placeholder));
        assert_eq!(case.judge().expect_err("refused"), Refusal::SiteNotAllowed);
        // With a key in the head, a body that has none of ours is passed on as it is.
        let (mut case, _) = json("not json");
        case.contents.credentials[0].sites.push(Site::Bearer);
        case.headers.insert("authorization", bearer(&placeholder));
        case.headers.insert("content-encoding", HeaderValue::from_static("gzip"));
        assert!(case.judge().is_ok());
    }

    #[test]
    fn kinds_are_read_each_in_its_own_way() {
        let (mut case, _) = posted(Site::parse_body_form("POST /token#secret"), FORM, "secret={}");
        case.contents.credentials[0].sites.push(Site::parse_body_json("POST /token#/auth/key").unwrap());
        assert!(matches!(uses(case)[..], [Position::Body(BodyKind::Form, _)]));
        let (mut case, _) = posted(Site::parse_body_form("POST /token#secret"), JSON, r#"{"auth": {"key": "{}"}}"#);
        case.contents.credentials[0].sites.push(Site::parse_body_json("POST /token#/auth/key").unwrap());
        assert!(matches!(uses(case)[..], [Position::Body(BodyKind::Json, _)]));
    }
}

#[test]
fn a_placeholder_hidden_in_an_encoding_is_seen_in_every_field() {
    for value in ["{enc}", "a=b; c={enc}", "https://a.example/?key={twice}", "%7B{enc}%7D"] {
        for name in ["cookie", "referer", "user-agent", "x-other"] {
            let found = refusal(|case, placeholder| {
                let once = placeholder.replace('-', "%2d");
                field(case, name, &value.replace("{enc}", &once).replace("{twice}", &once.replace('%', "%25")));
            });
            assert_eq!(found, Refusal::SiteNotAllowed, "{name}: {value}");
        }
    }
    allowed(|case, _| field(case, "cookie", "a=%2d%25"));
}

#[test]
fn positions_of_another_host_or_of_what_was_revoked_are_said_as_such() {
    for target in ["/v1?key={}", "/v1?other={}", "/bot{}/x"] {
        let found = refusal(|case, placeholder| {
            fixture::credential(&mut case.contents, "two", "b.example", &[b"the-key-of-two"]);
            case.contents.credentials[1].sites =
                vec![Site::parse_query("key").unwrap(), Site::parse_path_prefix("/bot{}").unwrap()];
            case.authority = "b.example".parse().unwrap();
            case.headers.clear();
            case.target = target.replace("{}", placeholder);
        });
        assert_eq!(found, Refusal::HostNotAllowed, "{target}");
        let found = refusal(|case, placeholder| {
            case.headers.clear();
            case.target = target.replace("{}", placeholder);
            case.contents.grants[0].revoked = Some(1);
        });
        assert_eq!(found, Refusal::Revoked, "{target}");
    }
}
