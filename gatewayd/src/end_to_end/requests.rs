//! What a request becomes on its channel, which channel it gets, and what is answered without one.

use std::rc::Rc;

use http::{Request, Response};
use http_body_util::BodyExt;
use strongroom_protocol::Refusal;
use strongroom_protocol::exchange::{DialFailure, Route, Upstream};

use crate::key_client::Standing;

use super::framed_keyd::RETIRE;
use super::stage::*;

#[tokio::test]
async fn a_request_goes_through_and_its_channel_serves_the_next() {
    let keyd = async |request: Request<Incoming>, _| {
        let body = request.into_body().collect().await.unwrap().to_bytes();
        let reply = Response::builder().header("x-many", "1").header("x-many", "2").header("strongroom-forged", "x");
        Some(
            reply
                .header("connection", "x-hop")
                .header("x-hop", "1")
                .body(Scripted::whole(&format!("got {}", body.len())))
                .unwrap(),
        )
    };
    stage("", keyd, async |stage| {
        for _ in 0..2 {
            let request = format!(
                "BREW /a/v1//x?y HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nAuthorization: Bearer p\r\nStrongroom-Request-Id: forged\r\n\
                 X-B: 1\r\nx-b: 2\r\nContent-Length: 5\r\n\r\nhello",
                stage.address
            );
            let answer = stage.raw(&request).await;
            assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.contains("got 5"), "{answer}");
            assert!(answer.contains("x-many: 1\r\nx-many: 2\r\n") && answer.contains("strongroom-request-id: "), "{answer}");
            for absent in ["forged", "x-hop", "date:", "server:", "via:"] {
                assert!(!answer.contains(absent), "{absent} in {answer}");
            }
        }
        assert_eq!(stage.seen.channels.get(), 1, "reused");
        let requests = stage.seen.requests.borrow();
        let (head, _) = &requests[1];
        assert_eq!((head.method.as_str(), head.uri.to_string().as_str()), ("BREW", "/v1//x?y"));
        assert_eq!(head.headers["host"], "a.example");
        assert_eq!(head.headers["content-length"], "5");
        assert_eq!(head.headers.get_all("x-b").iter().collect::<Vec<_>>(), ["1", "2"]);
        assert_ne!(head.headers["strongroom-request-id"], "forged");
    })
    .await;
}

#[tokio::test]
async fn different_placeholders_never_share_a_channel() {
    stage("", ok, async |stage| {
        for placeholder in ["p", "q", "p"] {
            let answer = stage.get("/a/", &format!("Authorization: Bearer {placeholder}\r\n")).await;
            assert!(answer.ends_with("fine\r\n0\r\n\r\n"), "{answer}");
        }
        stage.get("/b/", "Authorization: Bearer p\r\n").await;
        assert_eq!(stage.seen.channels.get(), 3);
    })
    .await;
}

#[tokio::test]
async fn a_channel_that_died_while_idle_costs_one_second_try() {
    // The second request on each channel gets no answer.
    let keyd = async |request: Request<Incoming>, count| {
        let body = request.into_body().collect().await.unwrap().to_bytes();
        (count == 1).then(|| Response::new(Scripted::whole(std::str::from_utf8(&body).unwrap())))
    };
    stage("", keyd, async |stage| {
        let put = |body: &str| with_body(&stage, "PUT", body);
        assert!(stage.raw(&put("one")).await.contains("one"));
        assert!(stage.raw(&put("two")).await.contains("two"));
        assert_eq!(stage.seen.requests.borrow().len(), 3);
        assert_eq!(stage.seen.channels.get(), 2);
        let ids: Vec<_> = stage
            .seen
            .requests
            .borrow()
            .iter()
            .map(|(head, _)| head.headers["strongroom-request-id"].clone())
            .collect();
        assert_eq!(ids[1], ids[2], "one request, one id");
        // Too large to be kept: no second try.
        let answer = stage.raw(&put(&"x".repeat(70_000))).await;
        assert!(answer.starts_with("HTTP/1.1 502") && answer.contains("upstream_unreachable"), "{answer}");
        assert_eq!(stage.seen.requests.borrow().len(), 4);
    })
    .await;
}

fn with_body(stage: &Stage, method: &str, body: &str) -> String {
    format!(
        "{method} /b/ HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        stage.address,
        body.len()
    )
}

#[tokio::test]
async fn what_must_not_happen_twice_is_sent_again_only_where_keyd_has_not_looked_at_it() {
    for (retires, requests) in [(false, 2), (true, 3)] {
        let keyd = move |request: Request<Incoming>, count| async move {
            request.into_body().collect().await.unwrap();
            let answer = Response::new(Scripted::whole("fine"));
            match count {
                1 => Some(answer),
                _ if retires => Some(with_field(answer, RETIRE)),
                _ => None,
            }
        };
        stage("", keyd, async |stage| {
            assert!(stage.raw(&with_body(&stage, "POST", "one")).await.contains("fine"));
            let answer = stage.raw(&with_body(&stage, "POST", "two")).await;
            assert_eq!(answer.contains("fine"), retires, "{answer}");
            assert_eq!(stage.seen.requests.borrow().len(), requests);
        })
        .await;
    }
}

fn with_field(mut answer: Response<Scripted>, name: &'static str) -> Response<Scripted> {
    answer.headers_mut().insert(name, http::HeaderValue::from_static("yes"));
    answer
}

#[tokio::test]
async fn keyds_word_that_the_upstream_was_stale_counts_once_and_on_used_channels_only() {
    let keyd = async |_, count| {
        Some(if count == 1 {
            Response::new(Scripted::whole("fine"))
        } else {
            refusal(Refusal::UpstreamUnreachable, true)
        })
    };
    stage("", keyd, async |stage| {
        for _ in 0..2 {
            assert!(stage.get("/b/", "").await.contains("fine"));
        }
        assert_eq!(stage.seen.requests.borrow().len(), 3);
    })
    .await;
    let keyd = async |_, _| Some(refusal(Refusal::UpstreamUnreachable, true));
    stage("", keyd, async |stage| {
        let answer = stage.get("/b/", "").await;
        assert!(answer.contains("\"code\":\"upstream_unreachable\""), "{answer}");
        assert_eq!(stage.seen.requests.borrow().len(), 1);
    })
    .await;
}

#[tokio::test]
async fn refusals_of_keyd_are_written_in_our_words() {
    let keyd = async |_, _| Some(refusal(Refusal::RateLimited, false));
    stage("", keyd, async |stage| {
        let answer = stage.get("/a/", "").await;
        assert!(answer.starts_with("HTTP/1.1 429 ") && answer.contains("retry-after: 9\r\n"), "{answer}");
        assert!(
            answer.contains("strongroom-refusal: rate_limited\r\n") && answer.contains("\"code\":\"rate_limited\""),
            "{answer}"
        );
        assert!(!answer.contains("strongroom-retry-after"), "{answer}");
        let head =
            stage.raw(&format!("HEAD /a/ HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", stage.address)).await;
        assert!(head.starts_with("HTTP/1.1 429 ") && head.ends_with("\r\n\r\n"), "{head}");
    })
    .await;
}

#[tokio::test]
async fn what_is_refused_here_opens_no_channel() {
    stage("", ok, async |stage| {
        for (target, fields, status, code) in [
            ("/nowhere/", "", 403, "host_not_allowed"),
            ("/a/", "Origin: http://evil.example\r\n", 400, "authority_mismatch"),
            ("/a/", "Connection: authorization\r\n", 400, "bad_request"),
        ] {
            let answer = stage.get(target, fields).await;
            assert!(
                answer.starts_with(&format!("HTTP/1.1 {status} ")) && answer.contains(code),
                "{target} {fields}: {answer}"
            );
        }
        let answer = stage.get("/a/", "Origin: http://evil.example\r\n").await;
        assert!(answer.contains("It has an Origin or Sec-Fetch-Site field"), "{answer}");
        let answer = stage.get("/a/", &format!("X: {}\r\n", "x".repeat(66_000))).await;
        assert!(answer.starts_with("HTTP/1.1 431 ") && answer.contains("too_large"), "{answer}");
        for request in
            ["GET /a/ HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n", "GET /a/ HTTP/1.0\r\n\r\n"]
        {
            assert!(stage.raw(request).await.contains("authority_mismatch"));
        }
        assert!(stage.get("/.strongroom/health", "").await.contains("\"status\":\"ok\""));
        stage.gateway.keyd.tell(Standing::Locked);
        assert!(stage.get("/a/", "").await.contains("vault_locked"));
        stage.gateway.keyd.tell(Standing::Unavailable);
        assert!(stage.get("/a/", "").await.contains("keyd_unavailable"));
        assert!(stage.get("/.strongroom/health", "").await.contains("\"status\":\"ok\""));
        assert_eq!(stage.seen.channels.get(), 0);
    })
    .await;
}

#[tokio::test]
async fn a_failed_dial_is_told_to_keyd_and_its_channel_is_not_kept() {
    let keyd = async |_, _| Some(refusal(Refusal::UpstreamForbiddenAddress, false));
    stage("[timeouts]\ndial = \"2s\"", keyd, async |stage| {
        let route = Route {
            name: "forbidden".parse().unwrap(),
            authority: "127.0.0.1:9".parse().unwrap(),
            fields: Vec::new(),
            bodies: Vec::new(),
        };
        stage.gateway.keyd.tell(Standing::Open(Rc::new(crate::key_client::Routes::new(vec![route]))));
        for _ in 0..2 {
            let answer = stage.get("/forbidden/", "").await;
            assert!(answer.starts_with("HTTP/1.1 502 ") && answer.contains("upstream_forbidden_address"), "{answer}");
        }
        assert_eq!(*stage.seen.upstreams.borrow(), [Upstream::Failed(DialFailure::ForbiddenAddress); 2]);
    })
    .await;
}

#[tokio::test]
async fn a_body_that_is_framed_twice_is_refused_and_the_connection_closed() {
    stage("", ok, async |stage| {
        let request = |framing: &str| format!("POST /b/ HTTP/1.1\r\nHost: {}\r\n{framing}\r\n0\r\n\r\n", stage.address);
        for framing in [
            "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        ] {
            let answer = stage.raw(&request(framing)).await;
            assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("bad_request"), "{answer}");
        }
        assert_eq!(stage.seen.channels.get(), 0);
        let answer = stage.raw(&request("Connection: close\r\nTransfer-Encoding: chunked\r\n")).await;
        assert!(answer.contains("fine"), "{answer}");
    })
    .await;
}

#[tokio::test]
async fn a_status_without_words_is_given_none() {
    let keyd = async |request: Request<Incoming>, _| {
        let status: u16 = request.uri().path().trim_start_matches('/').parse().unwrap();
        Some(Response::builder().status(status).body(Scripted::whole("fine")).unwrap())
    };
    stage("", keyd, async |stage| {
        for (status, line) in
            [(299, "HTTP/1.1 299 \r\n"), (799, "HTTP/1.1 799 \r\n"), (404, "HTTP/1.1 404 Not Found\r\n")]
        {
            let answer = stage.get(&format!("/b/{status}"), "").await;
            assert!(answer.starts_with(line), "{answer}");
        }
    })
    .await;
}
