//! gRPC: calls go through with their trailers, in both directions at once, and compressed messages do not.

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{HeaderMap, Request as HttpRequest, Response};
use strongroom_tests::h2_upstream::*;
use strongroom_tests::h2c;
use strongroom_tests::prelude::*;
use strongroom_tests::strongroom::Builder;
use tokio::time::timeout;

const SOON: Duration = Duration::from_secs(10);
const BOTH: &[&str] = &["h2", "http/1.1"];

fn root() -> Root {
    Root::new("The tests' root").unwrap()
}

fn in_runtime<T>(task: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { timeout(Duration::from_secs(60), task).await.expect("in time") })
}

fn grpc(scene: &Scene, method: &str) -> hyper::http::request::Builder {
    HttpRequest::post(format!("http://{}/openai/{method}", scene.strongroom.address()))
        .header("authorization", format!("Bearer {}", scene.placeholder))
        .header("content-type", "application/grpc+proto")
        .header("te", "trailers")
}

/// A message with its prefix, as gRPC frames it.
fn message(bytes: &[u8]) -> Vec<u8> {
    [&[0], u32::try_from(bytes.len()).unwrap().to_be_bytes().as_slice(), bytes].concat()
}

#[test]
fn a_call_of_grpc_goes_through_with_its_trailers() {
    let root = root();
    let upstream = honest(&root, BOTH, |request: HttpRequest<hyper::body::Incoming>| async move {
        let (head, body) = request.into_parts();
        let got = body.collect().await.expect("a whole request").to_bytes();
        let field = |name: &str| head.headers.get(name).map_or("-", |value| value.to_str().unwrap()).to_owned();
        let seen = format!(
            "{:?} {} te={} host={} enc={} [{}]",
            head.version,
            head.uri,
            field("te"),
            field("host"),
            field("grpc-accept-encoding"),
            String::from_utf8_lossy(&got[5..])
        );
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", "0".parse().unwrap());
        trailers.insert("grpc-message", field("authorization").parse().unwrap());
        trailers.insert("details-bin", "AAEC".parse().unwrap());
        let seen = message(seen.as_bytes());
        let mut answer = Response::new(Script::whole(&seen, Some(trailers)));
        answer.headers_mut().insert("content-type", "application/grpc+proto".parse().unwrap());
        // A length and trailers: HTTP/2 can carry both.
        answer.headers_mut().insert("content-length", seen.len().into());
        answer
    });
    let scene = Scene::before(Builder::default(), upstream, root);
    let call = |text: &str| {
        let request = grpc(&scene, "pkg.Service/Method").header("grpc-accept-encoding", "gzip");
        request.body(Full::new(Bytes::from(message(text.as_bytes())))).unwrap()
    };
    let calls = (0..3).map(|number| call(&format!("call {number}"))).collect();
    for (number, answer) in h2c::send(scene.strongroom.address(), calls).into_iter().enumerate() {
        let (head, body, trailers) = answer.unwrap();
        assert_eq!(
            (head.status().as_u16(), &head.headers()["content-type"]),
            (200, &"application/grpc+proto".parse().unwrap())
        );
        let expected =
            format!("HTTP/2.0 https://{HOST}/pkg.Service/Method te=trailers host=- enc=identity [call {number}]");
        assert_eq!(body, message(expected.as_bytes()));
        let masked = format!("Bearer {}", "*".repeat(scene.key.len()));
        let got = |name: &str| trailers[name].to_str().unwrap().to_owned();
        assert_eq!(
            ["grpc-status", "grpc-message", "details-bin"].map(got),
            ["0".to_owned(), masked, "AAEC".to_owned()]
        );
    }
    let plain = scene.post("/openai/pkg.Service/Method", &message(b"plain")).send();
    assert!(plain.text().contains("HTTP/1.1 /pkg"), "the same place without gRPC: {}", plain.text());
}

#[test]
fn messages_stream_both_ways_at_once() {
    let root = root();
    let upstream = honest(&root, &["h2"], |request: HttpRequest<hyper::body::Incoming>| async move {
        let (pieces, script) = Script::new();
        tokio::spawn(async move {
            let mut body = request.into_body();
            while let Some(Ok(frame)) = body.frame().await {
                if let Ok(data) = frame.into_data() {
                    pieces.data(data).await;
                }
            }
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", "0".parse().unwrap());
            pieces.trailers(trailers).await;
        });
        let mut answer = Response::new(script);
        answer.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
        answer
    });
    let scene = Scene::before(Builder::default(), upstream, root);
    in_runtime(async {
        let mut sender = h2c::connect(scene.strongroom.address()).await;
        let (pieces, script) = Script::new();
        let answer = sender.send_request(grpc(&scene, "pkg.Service/Echo").body(script).unwrap()).await.unwrap();
        let mut body = answer.into_body();
        for number in 0..50 {
            // The next is not said before this one came back.
            let said = message(format!("message {number}.\n").as_bytes());
            pieces.data(said.clone()).await;
            let mut heard = Vec::new();
            while heard.len() < said.len() {
                let frame = timeout(SOON, body.frame()).await.expect("an echo before the next message");
                heard.extend(frame.expect("not the end").unwrap().into_data().unwrap());
            }
            assert_eq!(heard, said);
        }
        drop(pieces);
        let end = timeout(SOON, body.frame()).await.expect("soon").expect("trailers").unwrap();
        assert_eq!(end.into_trailers().unwrap()["grpc-status"], "0");
    });
}

#[test]
fn grpc_gets_no_http_1_1_and_no_compressed_message() {
    let scene = mirror(&["http/1.1"]);
    let call = |scene: &Scene| {
        let request = grpc(scene, "pkg.Service/Method").body(Full::new(Bytes::from(message(b"x")))).unwrap();
        h2c::send(scene.strongroom.address(), vec![request]).remove(0).unwrap().0
    };
    let code = |head: &Response<()>| head.headers()["strongroom-refusal"].to_str().unwrap().to_owned();
    assert_eq!(code(&call(&scene)), "upstream_protocol");
    assert_eq!(scene.get("/openai/x").send().text(), "HTTP/1.1 GET /x", "its positive twin");
    let silent = mirror(&[]);
    assert_eq!(code(&call(&silent)), "upstream_protocol");

    let root = root();
    let upstream = honest(&root, &["h2"], |request: HttpRequest<_>| async move {
        let mut answer = Response::new(Script::whole(&message(b"x"), None));
        let coding = if request.uri().path().ends_with("Method") { "gzip" } else { "identity" };
        answer.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
        answer.headers_mut().insert("grpc-encoding", coding.parse().unwrap());
        answer
    });
    let scene = Scene::before(Builder::default(), upstream, root);
    assert_eq!(code(&call(&scene)), "response_unscrubbable");
    let plain = grpc(&scene, "pkg.Service/Plain").body(Full::new(Bytes::from(message(b"x")))).unwrap();
    assert_eq!(h2c::send(scene.strongroom.address(), vec![plain]).remove(0).unwrap().1, message(b"x"));
}
