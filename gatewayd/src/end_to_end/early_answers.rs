//! Answers that come before the request's body has ended: the agent gets them, and nothing waits for the channel after.

use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use strongroom_protocol::Refusal;
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
    for (field, channels) in [(None, 1), (Some(("connection", "x, Close")), 3), (Some(("strongroom-stale", "1")), 3)] {
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
