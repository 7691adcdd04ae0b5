//! Connections that are used again: one that went stale costs no request, and a refused one harms nobody.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};

use strongroom_tests::prelude::*;
use strongroom_tests::raw_upstream::Raw;
use strongroom_tests::strongroom::Builder;

#[test]
fn a_connection_that_the_upstream_closed_when_idle_costs_no_request() {
    let scene = Scene::with(|exchange| {
        exchange.body()?;
        exchange.respond("200 OK", &[], b"{}")?;
        exchange.close();
        Ok(())
    });
    for round in 0..20 {
        let body = vec![b'x'; if round % 2 == 0 { 60_000 } else { 10 }];
        assert_eq!(scene.request("PUT", "/openai/v1/things").body(&body).send().status(), 200, "round {round}");
    }
    assert!(scene.upstream.connections() >= 20, "its positive twin: each was a new connection");
}

/// A request that must not be sent twice meets an upstream that closes behind each answer at most once: then it is known.
#[test]
fn an_upstream_that_closes_behind_each_answer_is_not_met_again() {
    let scene = Scene::with(|exchange| {
        exchange.body()?;
        exchange.respond("200 OK", &[], b"{}")?;
        // Most of a round later: the next request may be on its way by then.
        std::thread::sleep(Duration::from_micros(300));
        exchange.close();
        Ok(())
    });
    let mut failed = 0;
    for _ in 0..60 {
        let answer = scene.post("/openai/v1/things", b"1 EUR").send();
        if answer.status() != 200 {
            answer.assert_refused(Refusal::UpstreamUnreachable);
            failed += 1;
        }
    }
    assert!(failed <= 1, "{failed} of 60");
    assert_eq!(scene.upstream.count(), 60 - failed, "none was sent twice");
}

/// What cannot be sent again waits for a connection that is good, and one that closed is no reason to mistrust all others.
#[test]
fn large_bodies_pass_behind_an_answer_that_ended_its_connection() {
    let scene = Scene::with(|exchange| {
        let length = exchange.body()?.len().to_string();
        let target = exchange.head().target().to_owned();
        let fields = if target == "/announced" { &[("connection", "close")][..] } else { &[] };
        exchange.respond("200 OK", fields, length.as_bytes())?;
        if target != "/stays" {
            exchange.close();
        }
        Ok(())
    });
    let body = vec![b'x'; 200_000];
    for way in ["/announced", "/silently"] {
        assert_eq!(scene.get(&format!("/openai{way}")).send().status(), 200);
        let before = scene.upstream.connections();
        for round in 0..8 {
            assert_eq!(scene.post("/openai/stays", &body).send().text(), "200000", "{way}, round {round}");
        }
        assert_eq!(scene.upstream.connections(), before + 1, "{way}: it is used again");
    }
}

/// An upstream that takes a whole request and then says nothing may have done what it asked.
#[test]
fn what_must_not_happen_twice_is_sent_once() {
    let taken = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&taken);
    let scene = Scene::with(move |exchange| {
        exchange.body()?;
        if exchange.head().target() == "/takes" {
            count.fetch_add(1, Ordering::SeqCst);
            exchange.abort();
            return Ok(());
        }
        exchange.respond("200 OK", &[], b"{}")
    });
    let takes = |method: &str, fields: &[(&str, &str)]| {
        let before = taken.load(Ordering::SeqCst);
        // On a connection that has served: a new one is never tried again.
        assert_eq!(scene.get("/openai/serves").send().status(), 200);
        let request = scene.request(method, "/openai/takes").body(b"1 EUR");
        let request = fields.iter().fold(request, |request, (name, value)| request.field(name, value));
        request.send().assert_refused(Refusal::UpstreamUnreachable);
        taken.load(Ordering::SeqCst) - before
    };
    for method in ["POST", "PATCH"] {
        assert_eq!(takes(method, &[]), 1, "{method}");
    }
    assert_eq!(takes("PUT", &[]), 2, "the positive twin");
    assert_eq!(takes("POST", &[("Idempotency-Key", "one")]), 2, "the upstream knows it again");
}

#[test]
fn refused_uploads_do_not_hold_up_those_who_come_after() {
    let scene = Scene::with(|exchange| {
        exchange.body()?;
        exchange.respond("200 OK", &[], b"{}")
    });
    for size in [10, 70_000, 300_000, 1_000_000] {
        let body = vec![b'x'; size];
        for round in 0..4 {
            let refused = scene.strongroom.request("POST", "/openai/v1/things").bearer("unknown").body(&body).send();
            refused.assert_refused(Refusal::UnknownPlaceholder);
            assert_eq!(scene.post("/openai/v1/things", &body).send().status(), 200, "{size} bytes, round {round}");
        }
    }
}

#[test]
fn an_answer_with_two_framings_is_refused() {
    let scene = Scene::with(|exchange| {
        let both = exchange.head().target() == "/both";
        let length = if both { "content-length: 3\r\n" } else { "" };
        exchange.raw(
            format!("HTTP/1.1 200 OK\r\n{length}transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n").as_bytes(),
        )
    });
    scene.get("/openai/both").send().assert_refused(Refusal::UpstreamProtocol);
    assert_eq!(scene.get("/openai/one").send().text(), "hello");
}

/// Its upstream may shake hands where it accepts, and then serves nobody while one connection says nothing.
#[test]
fn what_was_dialled_for_a_refused_request_serves_the_next_whosever_it_is() {
    let scene = Scene::with(|exchange| exchange.respond("200 OK", &[], b"{}"));
    let refuse = |unknown: &str| {
        let refused = scene.strongroom.request("GET", "/openai/v1/things").bearer(unknown).send();
        refused.assert_refused(Refusal::UnknownPlaceholder);
    };
    refuse("one");
    refuse("two");
    assert_eq!(scene.get("/openai/v1/things").send().status(), 200);
    assert_eq!(scene.upstream.connections(), 1);
    refuse("three");
    assert_eq!(scene.get("/openai/v1/things").send().status(), 200);
    // The upstream may take the second one up only after the first has answered.
    within(Duration::from_secs(20), "the positive twin: what serves an agent is for nobody else", || {
        (scene.upstream.connections() == 2).then_some(())
    });
}

/// Whatever its method: nothing of it went out.
#[test]
fn an_upstream_that_hangs_up_before_the_handshake_costs_no_request_after_a_refused_one() {
    let ((hang_up, wish), (gone, news)) = (mpsc::channel(), mpsc::channel());
    let (root, wish, next) = (Root::new("The tests' root").unwrap(), Mutex::new(wish), AtomicUsize::new(0));
    let tls = root.server(HOST).unwrap();
    let upstream = Upstream::start_plain(move |socket| {
        if next.fetch_add(1, Ordering::SeqCst) == 0 {
            wish.lock().unwrap().recv().map_err(io::Error::other)?;
            drop(socket);
            return gone.send(()).map_err(io::Error::other);
        }
        let mut raw = Raw::accept(socket, &tls)?;
        raw.head()?;
        raw.send(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")?;
        raw.stall();
        Ok(())
    });
    let scene = Scene::before(Builder::default(), upstream.unwrap(), root);
    let refused = scene.strongroom.request("GET", "/openai/v1/things").bearer("unknown").send();
    refused.assert_refused(Refusal::UnknownPlaceholder);
    hang_up.send(()).unwrap();
    news.recv_timeout(Duration::from_secs(20)).expect("it hangs up");
    assert_eq!(scene.post("/openai/v1/things", b"1 EUR").send().text(), "ok");
    assert_eq!(scene.upstream.connections(), 2);
}
