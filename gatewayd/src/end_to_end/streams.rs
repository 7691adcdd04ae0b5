//! Bodies and connections: streaming, breaking off on either side, time limits, overload, the end.

use std::rc::Rc;

use bytes::Bytes;
use http::header::HeaderMap;
use http::{Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, Empty, Full};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Notify, mpsc};
use tokio::task::spawn_local;

use super::stage::*;

#[tokio::test]
async fn a_large_body_that_is_refused_at_once_does_not_cost_the_answer() {
    stage("", ok, async |stage| {
        let mut stream = stage.connect().await;
        let head = format!("POST /nowhere/ HTTP/1.1\r\nHost: {}\r\nContent-Length: 4000000\r\n\r\n", stage.address);
        stream.write_all(head.as_bytes()).await.unwrap();
        let _ = stream.write_all(&vec![0; 4_000_000]).await;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        assert!(String::from_utf8_lossy(&answer).contains("host_not_allowed"));
    })
    .await;
}

#[tokio::test]
async fn frames_arrive_one_by_one_and_a_break_is_seen() {
    let (feed, fed) = mpsc::unbounded_channel();
    let feed = Rc::new(feed);
    let keyd = move |_, _| {
        let (sender, body) = Scripted::new();
        feed.send(sender).unwrap();
        async { Some(Response::new(body)) }
    };
    let fed = Rc::new(tokio::sync::Mutex::new(fed));
    stage("", keyd, async |stage| {
        let mut stream = stage.connect().await;
        stream.write_all(format!("GET /b/ HTTP/1.1\r\nHost: {}\r\n\r\n", stage.address).as_bytes()).await.unwrap();
        let sender = fed.lock().await.recv().await.unwrap();
        let mut answer = String::new();
        for event in ["data: 1", "data: 2", "data: 3"] {
            sender.send(Ok(Frame::data(Bytes::from(event)))).unwrap();
            while !answer.contains(event) {
                let mut chunk = [0; 256];
                let length = stream.read(&mut chunk).await.unwrap();
                assert!(length > 0);
                answer.push_str(std::str::from_utf8(&chunk[..length]).unwrap());
            }
        }
        sender.send(Err(std::io::Error::other("broken"))).unwrap();
        let mut rest = String::new();
        let _ = stream.read_to_string(&mut rest).await;
        assert!(!rest.contains("0\r\n\r\n"), "no last chunk: {rest}");
        stage.seen.until_channels_ended(1).await;
    })
    .await;
}

#[tokio::test]
async fn an_agent_that_hangs_up_closes_the_channel_and_a_half_close_does_not() {
    let started = Rc::new(Notify::new());
    let release = Rc::new(Notify::new());
    let (begin, go) = (started.clone(), release.clone());
    let keyd = move |_, _| {
        let (begin, go) = (begin.clone(), go.clone());
        async move {
            begin.notify_one();
            go.notified().await;
            Some(Response::new(Scripted::whole("late")))
        }
    };
    stage("", keyd, async |stage| {
        let request = format!("GET /b/ HTTP/1.1\r\nHost: {}\r\n\r\n", stage.address);
        let mut patient = stage.connect().await;
        patient.write_all(request.as_bytes()).await.unwrap();
        patient.shutdown().await.unwrap();
        started.notified().await;
        let mut leaving = stage.connect().await;
        leaving.write_all(request.as_bytes()).await.unwrap();
        started.notified().await;
        drop(leaving);
        stage.seen.until_channels_ended(1).await;
        release.notify_waiters();
        let mut answer = String::new();
        patient.read_to_string(&mut answer).await.unwrap();
        assert!(answer.contains("late"), "{answer}");
    })
    .await;
}

#[tokio::test]
async fn time_limits_end_an_exchange() {
    let keyd = async |request: Request<Incoming>, _| {
        if request.uri().path() == "/never" {
            std::future::pending::<()>().await;
        }
        let (sender, body) = Scripted::new();
        sender.send(Ok(Frame::data(Bytes::from_static(b"begun")))).unwrap();
        std::mem::forget(sender);
        Some(Response::new(body))
    };
    stage("[timeouts]\nfirst-byte = \"150ms\"\nstalled = \"150ms\"", keyd, async |stage| {
        let answer = stage.get("/b/never", "").await;
        assert!(answer.starts_with("HTTP/1.1 504 ") && answer.contains("upstream_timeout"), "{answer}");
        assert!(!answer.contains("x-should-retry"), "{answer}");
        let answer = stage.get("/b/stall", "").await;
        assert!(answer.contains("begun") && !answer.ends_with("0\r\n\r\n"), "{answer}");
        stage.seen.until_channels_ended(2).await;
    })
    .await;
}

/// What may have been done must not be asked for again by a library that nobody watches.
#[tokio::test]
async fn a_late_answer_says_what_was_late_and_whether_to_ask_again() {
    let keyd = async |_, _| std::future::pending().await;
    stage("[timeouts]\nfirst-byte = \"150ms\"", keyd, async |stage| {
        for (fields, should_retry, words) in [
            ("Content-Length: 4\r\n", false, "did not answer in time. It may still do"),
            ("Content-Length: 4\r\nIdempotency-Key: x\r\n", true, "did not answer in time. Try again"),
            ("Content-Length: 5\r\n", true, "rest of the request's body did not come in time"),
        ] {
            let head = format!("POST /b/ HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n{fields}\r\nbody", stage.address);
            let answer = stage.raw(&head).await;
            assert!(answer.starts_with("HTTP/1.1 504 ") && answer.contains(words), "{fields}: {answer}");
            assert_eq!(!answer.contains("x-should-retry: false"), should_retry, "{fields}: {answer}");
        }
    })
    .await;
}

/// Nobody asks for its next piece, so nobody hears that the channel has ended.
#[tokio::test]
async fn an_answer_that_lies_until_its_time_is_over_holds_no_channel_any_more() {
    let keyd = async |request: Request<Incoming>, _| {
        if request.uri().path() != "/long" {
            return Some(Response::new(Scripted::whole("fine")));
        }
        let (sender, body) = Scripted::new();
        for _ in 0..4 {
            sender.send(Ok(Frame::data(Bytes::from_static(b"piece")))).unwrap();
        }
        std::mem::forget(sender);
        Some(Response::new(body))
    };
    stage("[limits]\nchannels = 1\n[timeouts]\ntotal = \"1s\"", keyd, async |stage| {
        let io = TokioIo::new(stage.connect().await);
        let (mut sender, connection) = hyper::client::conn::http2::Builder::new(hyper_util::rt::TokioExecutor::new())
            .initial_stream_window_size(0)
            .handshake(io)
            .await
            .unwrap();
        spawn_local(connection);
        let request = Request::get(format!("http://{}/b/long", stage.address)).body(Empty::<Bytes>::new()).unwrap();
        let lying = sender.send_request(request).await.unwrap();
        let answer = stage.get("/b/", "").await;
        assert!(answer.contains("overloaded"), "the twin: {answer}");
        stage.seen.until_channels_ended(1).await;
        while !stage.get("/b/", "").await.starts_with("HTTP/1.1 200 ") {}
        drop(lying);
    })
    .await;
}

#[tokio::test]
async fn declared_trailers_reach_both_kinds_of_agents() {
    let keyd = async |_, _| {
        let (sender, body) = Scripted::new();
        sender.send(Ok(Frame::data(Bytes::from_static(b"body")))).unwrap();
        let trailers = [("x-sum", "42"), ("strongroom-refusal", "forged")];
        let trailers = trailers.map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
        sender.send(Ok(Frame::trailers(HeaderMap::from_iter(trailers)))).unwrap();
        Some(Response::builder().header("trailer", "x-sum, strongroom-refusal").body(body).unwrap())
    };
    stage("", keyd, async |stage| {
        let answer = stage.get("/b/", "TE: trailers\r\n").await;
        assert!(
            answer.contains("trailer: x-sum\r\n") && answer.ends_with("4\r\nbody\r\n0\r\nx-sum: 42\r\n\r\n"),
            "{answer}"
        );
        let io = TokioIo::new(stage.connect().await);
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(hyper_util::rt::TokioExecutor::new(), io).await.unwrap();
        spawn_local(connection);
        let request = Request::get(format!("http://{}/b/", stage.address)).body(Empty::<Bytes>::new()).unwrap();
        let response = sender.send_request(request).await.unwrap().into_body().collect().await.unwrap();
        let trailers = response.trailers().unwrap();
        assert_eq!((&trailers["x-sum"], trailers.len()), (&"42".parse().unwrap(), 1), "what is reserved ends here");
        assert_eq!(stage.seen.channels.get(), 1);
    })
    .await;
}

/// The agent never asks for the refusal, and each piece stands in a buffer full of frames that nobody knows.
#[tokio::test]
async fn the_body_of_a_refused_http2_request_is_not_kept_until_its_answer_is_taken() {
    fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
        let [.., a, b] = payload.len().to_be_bytes();
        [&[0, a, b, kind, flags, 0, 0, 0, stream][..], payload].concat()
    }
    fn literal(name: &str, value: &str) -> Vec<u8> {
        let length = |text: &str| u8::try_from(text.len()).unwrap();
        [&[0, length(name)][..], name.as_bytes(), &[length(value)], value.as_bytes()].concat()
    }
    stage("", ok, async |stage| {
        let mut agent = stage.connect().await;
        let fields = [(":method", "POST"), (":scheme", "http"), (":path", "/nowhere/")]
            .map(|(name, value)| literal(name, value));
        let head = [fields.concat(), literal(":authority", &stage.address.to_string())].concat();
        let no_window = frame(4, 0, 0, &[0, 4, 0, 0, 0, 0]);
        let begin = [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &no_window, &frame(1, 4, 1, &head)].concat();
        agent.write_all(&begin).await.unwrap();
        let ping = frame(6, 0, 0, &[7; 8]);
        for _ in 0..40 {
            let round = [frame(0, 0, 1, &[0; 256]), frame(0x20, 0, 0, &[0; 8100])].concat().repeat(10);
            agent.write_all(&[round, ping.clone()].concat()).await.unwrap();
            loop {
                let mut header = [0; 9];
                agent.read_exact(&mut header).await.expect("it stays open");
                let mut payload = vec![0; u16::from_be_bytes([header[1], header[2]]).into()];
                agent.read_exact(&mut payload).await.unwrap();
                assert_ne!(header[3], 7, "no goodbye");
                if header[3] == 6 {
                    break;
                }
            }
        }
    })
    .await;
}

#[tokio::test]
async fn http2_requests_run_side_by_side_and_are_checked_alike() {
    let keyd = async |request: Request<Incoming>, _| {
        let body = request.into_body().collect().await.unwrap().to_bytes();
        Some(Response::new(Scripted::whole(&body.len().to_string())))
    };
    stage("", keyd, async |stage| {
        let io = TokioIo::new(stage.connect().await);
        let (sender, connection) =
            hyper::client::conn::http2::handshake(hyper_util::rt::TokioExecutor::new(), io).await.unwrap();
        spawn_local(connection);
        let send = |authority: String, size: usize| {
            let mut sender = sender.clone();
            let request =
                Request::post(format!("http://{authority}/b/")).body(Full::new(Bytes::from(vec![0; size]))).unwrap();
            async move {
                let response = sender.send_request(request).await.unwrap();
                (response.status(), response.into_body().collect().await.unwrap().to_bytes())
            }
        };
        let own = stage.address.to_string();
        let (one, other, evil) =
            tokio::join!(send(own.clone(), 300_000), send(own, 5), send("evil.example".to_owned(), 0));
        assert_eq!(one, (StatusCode::OK, Bytes::from("300000")));
        assert_eq!(other, (StatusCode::OK, Bytes::from("5")));
        assert_eq!(evil.0, StatusCode::BAD_REQUEST);
    })
    .await;
}

#[tokio::test]
async fn connections_and_channels_over_the_limit_are_overload() {
    let release = Rc::new(Notify::new());
    let (started, go) = (Rc::new(Notify::new()), release.clone());
    let begin = started.clone();
    let keyd = move |_, _| {
        let (begin, go) = (begin.clone(), go.clone());
        async move {
            begin.notify_one();
            go.notified().await;
            Some(Response::new(Scripted::whole("late")))
        }
    };
    stage("[limits]\nconnections = 2\nchannels = 1", keyd, async |stage| {
        let request = format!("GET /b/ HTTP/1.1\r\nHost: {}\r\n\r\n", stage.address);
        let mut first = stage.connect().await;
        first.write_all(request.as_bytes()).await.unwrap();
        started.notified().await;
        let second = stage.get("/b/", "").await;
        assert!(
            second.starts_with("HTTP/1.1 503 ")
                && second.contains("overloaded")
                && second.contains("retry-after: 1\r\n"),
            "{second}"
        );
        let mut waiting = stage.connect().await;
        waiting.write_all(b"GET").await.unwrap();
        let third = stage.raw(&request).await;
        assert!(third.contains("overloaded") && third.contains("connection: close\r\n"), "{third}");
        drop(waiting);
        release.notify_waiters();
        let mut answer = [0; 1024];
        let length = first.read(&mut answer).await.unwrap();
        assert!(answer[..length].starts_with(b"HTTP/1.1 200 OK"));
    })
    .await;
}

#[tokio::test]
async fn stopping_finishes_what_runs_and_takes_nothing_new() {
    let release = Rc::new(Notify::new());
    let (started, go) = (Rc::new(Notify::new()), release.clone());
    let begin = started.clone();
    let keyd = move |_, _| {
        let (begin, go) = (begin.clone(), go.clone());
        async move {
            begin.notify_one();
            go.notified().await;
            Some(Response::new(Scripted::whole("finished")))
        }
    };
    stage("", keyd, async |stage| {
        let mut idle = stage.connect().await;
        let mut running = stage.connect().await;
        running.write_all(format!("GET /b/ HTTP/1.1\r\nHost: {}\r\n\r\n", stage.address).as_bytes()).await.unwrap();
        started.notified().await;
        stage.stop.notify_one();
        assert_eq!(idle.read(&mut [0; 8]).await.unwrap_or(0), 0, "an idle connection is closed");
        assert!(TcpStream::connect(stage.address).await.is_err());
        assert!(!stage.stopped.get());
        release.notify_waiters();
        let mut answer = String::new();
        running.read_to_string(&mut answer).await.unwrap();
        assert!(answer.contains("finished"), "{answer}");
        while !stage.stopped.get() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn much_moves_in_both_directions_without_being_gathered() {
    const SIZE: usize = 16 << 20;
    let keyd = async |request: Request<Incoming>, _| {
        let mut body = request.into_body();
        let mut received = 0;
        while let Some(frame) = body.frame().await {
            received += frame.unwrap().into_data().map_or(0, |data| data.len());
        }
        assert_eq!(received, SIZE);
        let (sender, body) = Scripted::new();
        for _ in 0..SIZE / 65_536 {
            sender.send(Ok(Frame::data(Bytes::from(vec![b'x'; 65_536])))).unwrap();
        }
        Some(Response::new(body))
    };
    stage("", keyd, async |stage| {
        let io = TokioIo::new(stage.connect().await);
        let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
        spawn_local(connection);
        let request =
            Request::post("/b/").header("host", stage.address.to_string()).body(Full::new(Bytes::from(vec![0; SIZE])));
        let response = sender.send_request(request.unwrap()).await.unwrap();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(body.len(), SIZE);
    })
    .await;
}
