//! Answers that come before the request's body has ended: the agent gets them, and nothing waits for the channel after.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use hyper_util::rt::{TokioExecutor, TokioIo};
use strongroom_protocol::Refusal;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::{spawn_local, yield_now};
use tokio::time::timeout;

use super::stage::*;

const SOON: Duration = Duration::from_secs(5);

fn post(stage: &Stage, size: usize) -> String {
    let body = "x".repeat(size);
    format!("POST /b/ HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Length: {size}\r\n\r\n{body}", stage.address)
}

/// keyd refuses what comes to `/` with a body and answers the rest; `says_close` as the real one does.
async fn refused_posts_then_gets(says_close: bool, size: usize) {
    let keyd = move |request: Request<Incoming>, _| async move {
        if request.method() == http::Method::GET {
            return ok(request, 1).await;
        }
        let mut reply = refusal(Refusal::UnknownPlaceholder, false);
        if says_close {
            reply.headers_mut().insert("connection", "close".parse().unwrap());
        }
        Some(reply)
    };
    stage("", keyd, async |stage| {
        for round in 0..4 {
            let answer = timeout(SOON, stage.raw(&post(&stage, size))).await.expect("refused soon");
            assert!(answer.starts_with("HTTP/1.1 403 ") && answer.contains("unknown_placeholder"), "{round}: {answer}");
        }
        for _ in 0..2 {
            let answer = timeout(SOON, stage.get("/b/", "")).await.expect("answered soon");
            assert!(answer.contains("fine"), "{answer}");
        }
        let requests = stage.seen.requests.borrow().len();
        assert!(requests >= 6, "{requests}");
    })
    .await;
}

#[tokio::test]
async fn a_large_body_refused_before_it_was_taken_spoils_no_later_request() {
    refused_posts_then_gets(true, 300_000).await;
    refused_posts_then_gets(false, 300_000).await;
}

#[tokio::test]
async fn a_small_body_refused_before_it_was_taken_spoils_no_later_request() {
    refused_posts_then_gets(true, 10).await;
    refused_posts_then_gets(false, 10).await;
}

#[tokio::test]
async fn only_a_refusal_that_leaves_the_channel_open_and_empty_lets_it_be_used_again() {
    for (field, channels) in [(None, 1), (Some(("connection", "close")), 3), (Some(("strongroom-stale", "1")), 3)] {
        let keyd = move |_, _| async move {
            let mut reply = refusal(Refusal::UnknownPlaceholder, false);
            reply.headers_mut().insert("content-length", 0.into());
            if let Some((name, value)) = field {
                reply.headers_mut().insert(name, value.parse().unwrap());
            }
            Some(reply)
        };
        stage("", keyd, async |stage| {
            for _ in 0..3 {
                let answer = timeout(SOON, stage.get("/b/", "")).await.expect("refused soon");
                assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
            }
            assert_eq!(stage.seen.channels.get(), channels, "{field:?}");
        })
        .await;
    }
}

#[tokio::test]
async fn a_channel_on_which_nobody_was_served_takes_the_next_request_whoever_sent_it() {
    for (is_unbound, channels) in [(true, 1), (false, 2)] {
        let keyd = move |request: Request<Incoming>, number| async move {
            if number > 1 || request.headers()["authorization"] != "Bearer wrong" {
                return ok(request, number).await;
            }
            let mut reply = refusal(Refusal::UnknownPlaceholder, false);
            if is_unbound {
                reply.headers_mut().insert("strongroom-unbound", "1".parse().unwrap());
            }
            Some(reply)
        };
        stage("", keyd, async |stage| {
            let answer = stage.get("/a/", "Authorization: Bearer wrong\r\n").await;
            assert!(answer.starts_with("HTTP/1.1 403 ") && !answer.contains("strongroom-unbound"), "{answer}");
            for _ in 0..2 {
                let answer = stage.get("/a/", "Authorization: Bearer right\r\n").await;
                assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
            }
            assert_eq!(stage.seen.channels.get(), channels);
        })
        .await;
    }
}

/// An upload over HTTP/2 that never ends: its feeder sends on while the answer comes, which it gives back whole.
async fn endless_upload(stage: &Stage, path: &str) -> (StatusCode, String) {
    let io = TokioIo::new(stage.connect().await);
    let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
    spawn_local(connection);
    let (upload, body) = Scripted::new();
    let feeding = spawn_local(async move {
        while upload.send(Ok(Frame::data(Bytes::from(vec![0; 1000])))).is_ok() {
            for _ in 0..10 {
                yield_now().await;
            }
        }
    });
    let request = Request::post(format!("http://{}{path}", stage.address)).body(body).unwrap();
    let answer = async {
        let (head, body) = sender.send_request(request).await.expect("a head").into_parts();
        let bytes = body.collect().await.expect("a whole body").to_bytes();
        (head.status, String::from_utf8_lossy(&bytes).into_owned())
    };
    let answer = timeout(SOON, answer).await.expect("answered soon");
    feeding.abort();
    answer
}

#[tokio::test]
async fn an_unfinished_upload_over_http2_does_not_cost_the_answer() {
    let keyd = async |request: Request<Incoming>, _| {
        if request.uri().path() == "/refused" {
            return Some(refusal(Refusal::UnknownPlaceholder, false));
        }
        let (sender, body) = Scripted::new();
        spawn_local(async move {
            for _ in 0..64 {
                sender.send(Ok(Frame::data(Bytes::from(vec![b'x'; 4096])))).unwrap();
                yield_now().await;
            }
        });
        Some(Response::builder().status(413).header("content-length", 64 * 4096).body(body).unwrap())
    };
    stage("", keyd, async |stage| {
        for _ in 0..8 {
            let (status, text) = endless_upload(&stage, "/b/refused").await;
            assert!(status == StatusCode::FORBIDDEN && text.contains("\"unknown_placeholder\""), "{status} {text}");
            let (status, text) = endless_upload(&stage, "/nowhere/").await;
            assert!(status == StatusCode::FORBIDDEN && text.contains("\"host_not_allowed\""), "{status} {text}");
            let (status, text) = endless_upload(&stage, "/b/large").await;
            assert_eq!((status, text.len()), (StatusCode::PAYLOAD_TOO_LARGE, 64 * 4096));
        }
    })
    .await;
}

/// A body of so many pieces, each told when it is taken.
struct Pieces(usize, Arc<AtomicUsize>);

impl Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.0 == 0 {
            return Poll::Ready(None);
        }
        self.0 -= 1;
        self.1.fetch_add(1, Ordering::Relaxed);
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&[0; 16 * 1024])))))
    }
}

/// There are agents that forget the answer when a reset follows it. Its windows take less than a twentieth of this.
#[tokio::test]
async fn what_is_left_of_an_upload_over_http2_is_taken_after_the_answer() {
    const PIECES: usize = 1024;
    let keyd = async |_, _| Some(refusal(Refusal::UnknownPlaceholder, false));
    stage("", keyd, async |stage| {
        let io = TokioIo::new(stage.connect().await);
        let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
        spawn_local(connection);
        for path in ["/b/refused", "/nowhere/"] {
            let taken = Arc::new(AtomicUsize::new(0));
            let upload = Pieces(PIECES, taken.clone());
            let request = Request::post(format!("http://{}{path}", stage.address)).body(upload).unwrap();
            let answer = timeout(SOON, sender.send_request(request)).await.expect("answered soon").expect("a head");
            assert_eq!(answer.status(), StatusCode::FORBIDDEN);
            answer.into_body().collect().await.expect("a whole body");
            let whole = async {
                while taken.load(Ordering::Relaxed) < PIECES {
                    yield_now().await;
                }
            };
            timeout(SOON, whole).await.unwrap_or_else(|_| panic!("{path}: {taken:?} of {PIECES} pieces"));
        }
    })
    .await;
}

const CLOSES: &str = "connection: close\r\n";

/// As much as makes a head, or a whole answer of that length behind it.
async fn receive(stream: &mut TcpStream, is_enough: impl Fn(&str) -> bool) -> String {
    let mut bytes = Vec::new();
    let received = async {
        while !is_enough(&String::from_utf8_lossy(&bytes)) {
            let length = stream.read_buf(&mut bytes).await.expect("no reset");
            assert!(length > 0, "closed behind {}", String::from_utf8_lossy(&bytes));
        }
    };
    timeout(SOON, received).await.expect("answered soon");
    String::from_utf8(bytes).unwrap()
}

fn is_head(text: &str) -> bool {
    text.contains("\r\n\r\n")
}

fn is_refusal(text: &str) -> bool {
    text.contains("strongroom-refusal: ") && text.ends_with("}}")
}

async fn is_closed(stream: &mut TcpStream) -> bool {
    timeout(SOON, stream.read(&mut [0; 1])).await.is_ok_and(|read| read.is_ok_and(|length| length == 0))
}

/// Some turns for the gateway, which runs on the same thread.
async fn let_it_work() {
    for _ in 0..20 {
        yield_now().await;
    }
}

/// Python's `http.client` and others send a body in a write of its own, and lose the next request where the connection
/// ends without a word.
#[tokio::test]
async fn a_refused_request_is_read_to_its_end_and_the_connection_goes_on() {
    let keyd = async |_, _| Some(refusal(Refusal::UnknownPlaceholder, false));
    stage("", keyd, async |stage| {
        for (path, code) in [("/b/", "unknown_placeholder"), ("/nowhere/", "host_not_allowed")] {
            for (framing, body) in
                [("Content-Length: 10", "0123456789"), ("Transfer-Encoding: chunked", "1\r\nx\r\n0\r\n\r\n")]
            {
                let mut stream = stage.connect().await;
                for round in 0..3 {
                    let head = format!("POST {path} HTTP/1.1\r\nHost: {}\r\n{framing}\r\n\r\n", stage.address);
                    stream.write_all(head.as_bytes()).await.unwrap();
                    let_it_work().await;
                    stream.write_all(body.as_bytes()).await.unwrap();
                    let answer = receive(&mut stream, is_refusal).await;
                    assert!(answer.contains(code) && !answer.contains(CLOSES), "{round}: {answer}");
                }
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_refused_request_that_has_not_ended_is_told_that_the_connection_ends() {
    let keyd = async |_, _| Some(refusal(Refusal::UnknownPlaceholder, false));
    stage("", keyd, async |stage| {
        let large = "x".repeat(70_000);
        for path in ["/b/", "/nowhere/"] {
            for (fields, body) in [
                ("Content-Length: 10", "01234"),
                ("Content-Length: 4000000", &*large),
                ("Transfer-Encoding: chunked", "1\r\nx\r\n"),
                ("Content-Length: 10\r\nExpect: 100-continue", ""),
            ] {
                let mut stream = stage.connect().await;
                let head = format!("POST {path} HTTP/1.1\r\nHost: {}\r\n{fields}\r\n\r\n{body}", stage.address);
                stream.write_all(head.as_bytes()).await.unwrap();
                let answer = receive(&mut stream, is_refusal).await;
                assert!(answer.starts_with("HTTP/1.1 403 ") && answer.contains(CLOSES), "{path} {fields}: {answer}");
                assert!(is_closed(&mut stream).await, "{path} {fields}");
            }
        }
    })
    .await;
}

/// Answers at once with that status, and gives the body back as it comes; behind `/whole` when all of it is there.
fn gives_back(status: u16) -> impl Fn(Request<Incoming>, usize) -> Pin<Box<dyn Future<Output = Option<Reply>>>> {
    move |request, _| {
        Box::pin(async move {
            let is_whole = request.uri().path() == "/whole";
            let mut body = request.into_body();
            let (sender, answer) = Scripted::new();
            let echo = async move {
                while let Some(Ok(frame)) = body.frame().await {
                    let _ = sender.send(Ok(frame));
                }
            };
            if is_whole {
                echo.await;
            } else {
                spawn_local(echo);
            }
            Some(Response::builder().status(status).body(answer).unwrap())
        })
    }
}

fn is_given_back(text: &str) -> bool {
    text.contains("first") && text.contains("second") && text.ends_with("\r\n0\r\n\r\n")
}

/// An upstream that did not want the rest may have stopped reading, and close a moment later.
#[tokio::test]
async fn an_answer_within_an_upload_says_that_the_connection_ends_and_an_errors_channel_is_not_kept() {
    for (status, channels) in [(200, 1), (413, 2)] {
        stage("", gives_back(status), async |stage| {
            let head =
                |path: &str| format!("POST {path} HTTP/1.1\r\nHost: {}\r\nContent-Length: 11\r\n\r\n", stage.address);
            for _ in 0..2 {
                let mut stream = stage.connect().await;
                stream.write_all(format!("{}first", head("/b/")).as_bytes()).await.unwrap();
                let begin = receive(&mut stream, is_head).await;
                assert!(begin.starts_with(&format!("HTTP/1.1 {status} ")) && begin.contains(CLOSES), "{begin}");
                stream.write_all(b"second").await.unwrap();
                let rest = receive(&mut stream, |rest| is_given_back(&format!("{begin}{rest}"))).await;
                assert!(is_closed(&mut stream).await, "{rest}");
            }
            assert_eq!(stage.seen.channels.get(), channels, "{status}");
        })
        .await;
        stage("", gives_back(status), async |stage| {
            let mut stream = stage.connect().await;
            for _ in 0..3 {
                let whole = format!(
                    "POST /b/whole HTTP/1.1\r\nHost: {}\r\nContent-Length: 11\r\n\r\nfirstsecond",
                    stage.address
                );
                stream.write_all(whole.as_bytes()).await.unwrap();
                let answer = receive(&mut stream, is_given_back).await;
                assert!(!answer.contains(CLOSES), "its positive twin: {answer}");
            }
            assert_eq!(stage.seen.channels.get(), 1, "{status}");
        })
        .await;
    }
}
