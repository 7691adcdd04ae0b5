//! Sites as people write them, and as a peer must not send them.

use super::*;

#[test]
fn header_sites_are_parsed_with_their_surroundings() {
    let site = Site::parse_header("Authorization: token {}").expect("a site");
    assert_eq!(site, Site::Header { field: "authorization".into(), before: "token ".into(), after: String::new() });
    assert_eq!(site.to_string(), "authorization: token {}");
}

#[test]
fn fields_that_steer_a_connection_are_refused() {
    for text in
        ["host: {}", "Content-Length: {}", "strongroom-request-id: {}", "proxy-authorization: {}", "Connection: {}"]
    {
        assert_eq!(Site::parse_header(text), Err(InvalidSite::FieldNotAllowed), "{text}");
    }
}

#[test]
fn malformed_header_sites_are_refused() {
    assert_eq!(Site::parse_header("x-api-key"), Err(InvalidSite::NoColon));
    assert_eq!(Site::parse_header("x-api-key: key"), Err(InvalidSite::NoBraces));
    assert_eq!(Site::parse_header("x-api-key: {}{}"), Err(InvalidSite::Template));
    assert_eq!(Site::parse_header(": {}"), Err(InvalidSite::Field));
    assert_eq!(Site::parse_header("x y: {}"), Err(InvalidSite::Field));
    assert_eq!(Site::parse_header("x: a\r\nb{}"), Err(InvalidSite::Template));
}

#[test]
fn basic_takes_a_user_name_and_nothing_of_a_password() {
    for user in ["x-access-token", "", "me@a.example", "a b"] {
        assert_eq!(Site::parse_basic(user).map(|site| site.to_string()), Ok(format!("basic {user}")));
    }
    let long = "u".repeat(129);
    for user in ["user:", "user:password", ":", "a\nb", "\u{e9}", long.as_str()] {
        assert_eq!(Site::parse_basic(user), Err(InvalidSite::User), "{user:?}");
    }
}

#[test]
fn query_names_are_those_that_need_no_encoding() {
    for name in ["key", "api_key", "auth[key]", "X-Goog-Key", "$key"] {
        assert_eq!(Site::parse_query(name).map(|site| site.to_string()), Ok(format!("query {name}")));
    }
    let long = "k".repeat(129);
    for name in ["", "key=", "a&b", "a;b", "a b", "a+b", "%6bey", "key#", "?key", "\u{e9}", long.as_str()] {
        assert_eq!(Site::parse_query(name), Err(InvalidSite::QueryName), "{name:?}");
    }
}

#[test]
fn path_prefixes_are_beginnings_of_canonical_paths() {
    for template in ["/bot{}", "/file/bot{}", "/{}", "/v1/{}/api", "/a-{}-b", "/key={}"] {
        let site = Site::parse_path_prefix(template);
        assert_eq!(site.map(|site| site.to_string()), Ok(format!("path-prefix {template}")));
    }
    for template in [
        "/bot",
        "bot{}",
        "{}",
        "",
        "/{}{}",
        "/{}/{}",
        "/bot{}/",
        "//bot{}",
        "/a//{}",
        "/../{}",
        "/./{}",
        "/{}/..",
        "/%62ot{}",
        "/bot{}?x",
        "/bot{}#x",
        "/bo t{}",
        "/a;b{}",
        "/bot{}\\",
        "/\u{e9}{}",
    ] {
        assert_eq!(Site::parse_path_prefix(template), Err(InvalidSite::PathTemplate), "{template:?}");
    }
}

#[test]
fn body_sites_name_a_method_a_path_and_a_place() {
    for text in ["POST /oauth/token#/client_secret", "PUT /#/a/0/b", "POST /x#/a~1b/~0c", "POST /x#/"] {
        assert_eq!(Site::parse_body_json(text).map(|site| site.to_string()), Ok(format!("body-json {text}")));
    }
    for text in ["POST /oauth/token#client_secret", "POST /x#a b", "POST /x#a#b", "POST /x#/a"] {
        assert_eq!(Site::parse_body_form(text).map(|site| site.to_string()), Ok(format!("body-form {text}")));
    }
    assert_eq!(Site::parse_body_json("POST /x#/a").unwrap().body_request(), Some(("POST", "/x")));
    type Parse = fn(&str) -> Result<Site, InvalidSite>;
    for parse in [Site::parse_body_json as Parse, Site::parse_body_form] {
        for (text, error) in [
            ("POST /x", InvalidSite::Body),
            ("/x#/a", InvalidSite::Body),
            ("", InvalidSite::Body),
            ("post /x#/a", InvalidSite::Method),
            ("* /x#/a", InvalidSite::Method),
            (" /x#/a", InvalidSite::Method),
            ("POST x#/a", InvalidSite::Path),
            ("POST  /x#/a", InvalidSite::Path),
            ("POST /x/%2a#/a", InvalidSite::Path),
            ("POST /x/*#/a", InvalidSite::Pattern),
            ("POST /**#/a", InvalidSite::Pattern),
            ("POST /x/../y#/a", InvalidSite::Path),
            ("POST /x//y#/a", InvalidSite::Path),
            ("POST /x;y#/a", InvalidSite::Path),
            ("POST /x?y#/a", InvalidSite::Path),
        ] {
            assert_eq!(parse(text), Err(error), "{text:?}");
        }
    }
    let deep = format!("POST /x#{}", "/a".repeat(33));
    for text in ["POST /x#", "POST /x#a", "POST /x#/a~", "POST /x#/~2", "POST /x#/a\n", deep.as_str()] {
        assert_eq!(Site::parse_body_json(text), Err(InvalidSite::Pointer), "{text:?}");
    }
    for text in ["POST /x#", "POST /x#a\u{0}"] {
        assert_eq!(Site::parse_body_form(text), Err(InvalidSite::FormField), "{text:?}");
    }
}

#[test]
fn a_star_is_refused_where_it_would_be_a_pattern_and_not_in_what_is_kept() {
    assert_eq!(Site::parse_path_prefix("/*/bot{}"), Err(InvalidSite::Pattern));
    // Only paths are exact.
    assert!(Site::parse_body_json("POST /x#/*").is_ok() && Site::parse_body_form("POST /x#*").is_ok());
    let kept = Site::BodyJson { method: "POST".into(), path: "/x/*".into(), pointer: "/a".into() };
    assert_eq!(postcard::from_bytes::<Site>(&postcard::to_stdvec(&kept).expect("encodes")), Ok(kept));
}

#[test]
fn every_refusal_says_how_to_write_it() {
    for error in [
        InvalidSite::User,
        InvalidSite::QueryName,
        InvalidSite::PathTemplate,
        InvalidSite::Body,
        InvalidSite::Method,
        InvalidSite::Path,
        InvalidSite::Pattern,
        InvalidSite::Pointer,
        InvalidSite::FormField,
    ] {
        assert!(error.to_string().len() > 30, "{error:?}");
    }
}

#[test]
fn a_peer_cannot_send_what_no_parser_would_take() {
    for (good, bad) in [
        (
            Site::parse_header("x: {}").unwrap(),
            Site::Header { field: "host".into(), before: String::new(), after: String::new() },
        ),
        (Site::parse_basic("u").unwrap(), Site::Basic { user: "u:p".into() }),
        (Site::parse_query("k").unwrap(), Site::Query { name: "k=v&k".into() }),
        (Site::parse_path_prefix("/a{}").unwrap(), Site::PathPrefix { before: "/a/../".into(), after: String::new() }),
        (
            Site::parse_body_json("POST /x#/a").unwrap(),
            Site::BodyJson { method: "POST".into(), path: "/%78".into(), pointer: "/a".into() },
        ),
        (
            Site::parse_body_form("POST /x#a").unwrap(),
            Site::BodyForm { method: "*".into(), path: "/x".into(), field: "a".into() },
        ),
    ] {
        let bytes = postcard::to_stdvec(&good).expect("encodes");
        assert_eq!(postcard::from_bytes::<Site>(&bytes).expect("a site"), good);
        let bytes = postcard::to_stdvec(&bad).expect("encodes");
        assert!(postcard::from_bytes::<Site>(&bytes).is_err(), "{bad}");
    }
}
