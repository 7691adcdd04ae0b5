//! How much of bodies is held, and what happens while one is awaited.

use strongroom_tests::prelude::*;

use crate::stage::{KEY, Stage};

const MIB: usize = 1024 * 1024;
const FORM: &str = "application/x-www-form-urlencoded";

fn form(stage: &Stage, placeholder: &str, size: usize) -> Vec<u8> {
    let mut body = format!("secret={placeholder}&pad=");
    body.extend(std::iter::repeat_n('x', size - body.len()));
    stage.request("POST", "/login/token").field("Content-Type", FORM).body(body.as_bytes()).bytes()
}

fn send(stage: &Stage, bytes: &[u8]) -> Answer {
    let mut connection = Connection::open(&stage.scene.strongroom.ways()[0]).unwrap();
    connection.write(bytes).unwrap();
    connection.answer("POST").unwrap()
}

#[test]
fn one_mebibyte_is_taken_and_one_byte_more_is_too_large() {
    let stage = Stage::new();
    let placeholder = stage.credential("login", KEY, &["--body-form", "POST /token#secret"]);
    assert_eq!(send(&stage, &form(&stage, &placeholder, MIB)).status(), 200);
    send(&stage, &form(&stage, &placeholder, MIB + 1)).assert_refused_with(Refusal::TooLarge, 413);
    // In chunks, where no length says so beforehand.
    let body = format!("secret={placeholder}&pad={}", "x".repeat(MIB));
    let request =
        stage.request("POST", "/login/token").field("Content-Type", FORM).field("Transfer-Encoding", "chunked");
    let bytes = [request.bytes(), format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len()).into_bytes()].concat();
    send(&stage, &bytes).assert_refused_with(Refusal::TooLarge, 413);
    assert_eq!(stage.scene.upstream.count(), 1);
    // Elsewhere no body is held, so none is too large.
    let large = vec![b'x'; 3 * MIB];
    assert_eq!(stage.scene.post("/openai/v1/files", &large).send().status(), 200);
}

/// Nobody who sends a body has shown a placeholder before its end.
#[test]
fn what_is_held_of_all_bodies_is_bounded_and_nobody_keeps_the_room_by_sending_no_more() {
    let stage = Stage::new();
    let placeholder = stage.credential("login", KEY, &["--body-form", "POST /token#secret"]);
    let whole = form(&stage, &placeholder, MIB);
    let begun = || {
        let mut connection = Connection::open(&stage.scene.strongroom.ways()[0]).unwrap();
        connection.write(&whole[..whole.len() - 1]).unwrap();
        connection
    };
    let mut held: Vec<Connection> = (0..16).map(|_| begun()).collect();
    let small = form(&stage, &placeholder, 1000);
    within(Duration::from_secs(20), "one is given up for what comes", || {
        assert_eq!(send(&stage, &small).status(), 200, "whatever stands there");
        held.extract_if(.., Connection::has_been_answered).next().map(drop)
    });
    let lines = stage.scene.strongroom.audit();
    assert_eq!(lines.iter().filter(|line| line["decision"] == "overloaded").count(), 1, "{lines:?}");
    // Nobody else is held up: requests whose body is not looked at, and taking access away.
    assert_eq!(stage.scene.post("/openai/v1/x", b"prompt").send().status(), 200);
    stage.scene.strongroom.must(&["grant", "list"]);
    // One of them ends well.
    let mut last = held.pop().unwrap();
    last.write(&whole[whole.len() - 1..]).unwrap();
    assert_eq!(last.answer("POST").unwrap().status(), 200);
    // However many there are, no more than the room holds are kept waiting, and who sends all of it is served.
    held.extend((0..32).map(|_| begun()));
    within(Duration::from_secs(20), "the others are given up", || {
        held.retain_mut(|connection| !connection.has_been_answered());
        (held.len() <= 16).then_some(())
    });
    assert_eq!(send(&stage, &whole).status(), 200);
}

#[test]
fn access_that_is_taken_away_while_a_body_comes_is_gone_when_it_has_come() {
    let stage = Stage::new();
    let placeholder = stage.credential("login", KEY, &["--body-form", "POST /token#secret"]);
    let bytes = form(&stage, &placeholder, 100);
    let begun = || {
        let mut connection = Connection::open(&stage.scene.strongroom.ways()[0]).unwrap();
        connection.write(&bytes[..bytes.len() - 1]).unwrap();
        connection
    };
    let finish = |mut connection: Connection| {
        connection.write(&bytes[bytes.len() - 1..]).unwrap();
        connection.answer("POST").unwrap()
    };
    assert_eq!(finish(begun()).status(), 200);
    let waiting = begun();
    stage.scene.strongroom.must(&["grant", "revoke", "login", "--agent", AGENT]);
    finish(waiting).assert_refused(Refusal::Revoked);
    let waiting = begun();
    stage.scene.strongroom.must(&["lock"]);
    finish(waiting).assert_refused(Refusal::VaultLocked);
    assert_eq!(stage.scene.upstream.count(), 1);
}

#[test]
fn a_key_that_json_cannot_carry_is_refused_when_it_comes() {
    let stage = Stage::new();
    let beyond = b"\xff\xfe-no-utf-8-4f8a9b2c1d0e7f6a5b4c3d2e";
    let strongroom = &stage.scene.strongroom;
    let add = |name: &str, site: [&str; 2]| {
        strongroom.ctl_with(&["credential", "add", name, "--host", HOST, site[0], site[1]], beyond)
    };
    add("in-json", ["--body-json", "POST /token#/secret"]).assert_code(1);
    add("in-header", ["--header", "x-api-key: {}"]).assert_code(0);
    stage.add("login", KEY, &["--body-json", "POST /token#/secret"]);
    strongroom.ctl_with(&["credential", "rotate", "login"], beyond).assert_code(1);
    strongroom.ctl_with(&["credential", "rotate", "login"], KEY.as_bytes()).assert_code(0);
}
