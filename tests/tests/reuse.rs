//! Connections that are used again: one that went stale costs no request, and a refused one harms nobody.

use strongroom_tests::prelude::*;

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
        assert_eq!(scene.post("/openai/v1/things", &body).send().status(), 200, "round {round}");
    }
    assert!(scene.upstream.connections() >= 20, "its positive twin: each was a new connection");
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
