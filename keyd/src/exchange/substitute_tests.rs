//! Each position with a key that has every character to be escaped there.

use http::Request;
use http_body::Body;

use super::*;
use crate::exchange::whole_body::{BodyRoom, WholeBody};
use crate::policy::decide::Binding;
use crate::policy::find::Use;
use crate::policy::fixture;
use crate::policy::path::Target;

const KEY: &[u8] = b"a:b/c?d#e&f=g+h;i%j\"k\\l@m";

struct Sent {
    parts: Parts,
    body: Option<String>,
}

async fn sent(
    target: Target,
    body: Option<&'static str>,
    values: &[&[u8]],
    positions: Vec<Position>,
) -> Result<Sent, NoKey> {
    let mut contents = fixture::contents();
    let uses = positions.into_iter().map(|position| {
        let credential = fixture::credential(&mut contents, "one", "a.example", values);
        Use { grant: 1, credential, position }
    });
    let uses = uses.collect();
    let live = Live::new(contents);
    let allowed = Allowed { binding: Binding { agent: 1, credentials: vec![] }, uses, target, expires: None };
    let request = Request::get("/")
        .header("authorization", "bearer placeholder")
        .header("x-other", "placeholder")
        .header("content-digest", "sha-256=:x:");
    let mut parts = request.body(()).unwrap().into_parts().0;
    let body = http_body_util::Full::new(Bytes::from_static(body.unwrap_or_default().as_bytes()));
    let mut upload = Upload::whole(WholeBody::read(body, &BodyRoom::default()).await.expect("room"));
    substitute(&mut parts, &mut upload, &live, &allowed)?;
    let body = upload.bytes().map(|bytes| String::from_utf8(bytes.to_vec()).unwrap());
    assert_eq!(upload.size_hint().exact(), body.as_ref().map(|body| body.len() as u64));
    Ok(Sent { parts, body })
}

fn field(before: &str) -> Position {
    Position::Field { name: header::AUTHORIZATION, before: before.into(), after: "".into() }
}

fn target() -> Target {
    Target::parse("/v1?x=1").expect("a target")
}

#[tokio::test]
async fn the_newest_version_replaces_the_whole_value_and_is_marked() {
    let Sent { parts, .. } =
        sent(target(), None, &[b"old-value", b"new-value"], vec![field("Bearer ")]).await.expect("a key");
    assert_eq!(parts.headers["authorization"], "Bearer new-value");
    assert!(parts.headers["authorization"].is_sensitive());
    assert_eq!(parts.headers["x-other"], "placeholder");
    assert!(parts.headers.contains_key("content-digest"), "the body is as it was");
    assert_eq!(parts.uri, "/", "the target is not made here where no key goes into it");
}

#[tokio::test]
async fn basic_sends_the_credentials_user_and_the_key_as_it_is() {
    let Sent { parts, .. } = sent(target(), None, &[KEY], vec![Position::Basic("user".into())]).await.expect("a key");
    let value = &parts.headers["authorization"];
    assert!(value.is_sensitive());
    let blob = value.as_bytes().strip_prefix(b"Basic ").expect("the scheme");
    assert_eq!(Base64::decode_vec(std::str::from_utf8(blob).expect("text")).expect("base64"), [b"user:", KEY].concat());
}

#[tokio::test]
async fn query_and_path_get_the_key_encoded() {
    let mut target = Target::parse("/botPH/x?a=1&key=PQ&b=PQ").expect("a target");
    target.mark_path(4..6);
    target.mark_query("key");
    let positions = vec![Position::Query("key".into()), Position::Path];
    let Sent { parts, .. } = sent(target, None, &[KEY], positions).await.expect("a key");
    assert_eq!(
        parts.uri,
        "/bota:b%2Fc%3Fd%23e%26f=g%2Bh%3Bi%25j%22k%5Cl@m/x?a=1&key=a%3Ab%2Fc%3Fd%23e%26f%3Dg%2Bh%3Bi%25j%22k%5Cl%40m&b=PQ"
    );
}

#[tokio::test]
async fn bodies_are_spliced_in_their_places_alone() {
    let body = r#"{"a": "PH", "b": "PQ", "c": "PH"}"#;
    let spans = vec![Position::Body(BodyKind::Json, 17..21), Position::Body(BodyKind::Json, 6..10)];
    let Sent { parts, body } = sent(target(), Some(body), &[KEY], spans).await.expect("a key");
    let body = body.expect("a body");
    let read: serde_json::Value = serde_json::from_str(&body).expect("JSON");
    let key = std::str::from_utf8(KEY).unwrap();
    assert_eq!(read, serde_json::json!({"a": key, "b": key, "c": "PH"}));
    assert_eq!(parts.headers["content-length"], body.len().to_string());
    assert!(!parts.headers.contains_key("content-digest"));

    let spans = vec![Position::Body(BodyKind::Form, 7..9)];
    let Sent { body, .. } = sent(target(), Some("a=PH&k=PH&b=PH"), &[b"k&v=%+;\xff"], spans).await.expect("a key");
    assert_eq!(body.as_deref(), Some("a=PH&k=k%26v%3D%25%2B%3B%FF&b=PH"));
}

#[tokio::test]
async fn a_credential_without_a_value_or_with_one_that_does_not_fit_sends_nothing() {
    assert_eq!(sent(target(), None, &[], vec![field("")]).await.err(), Some(NoKey));
    let in_json = || vec![Position::Body(BodyKind::Json, 0..2)];
    assert_eq!(sent(target(), Some("\"\""), &[b"\xff"], in_json()).await.err(), Some(NoKey));
    assert!(sent(target(), Some("\"\""), &[b"x"], in_json()).await.is_ok());
    assert_eq!(sent(target(), Some("x"), &[b"x"], in_json()).await.err(), Some(NoKey), "a span beyond the body");
    assert_eq!(
        sent(target(), None, &[b"x"], vec![Position::Path]).await.map(|sent| sent.parts.uri.to_string()),
        Ok("/v1?x=1".into())
    );
}
