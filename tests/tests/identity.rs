//! Which agent is it? Users, tokens, names: everything that names an agent has to agree, and each tries to be another.
//!
//! With root four agents have users of their own, and their requests are made by threads that are those users. Without
//! root one user is all of them, and what users prove is left out by name.

use nix::unistd::geteuid;
use strongroom_tests::agent::Way;
use strongroom_tests::hostile::with_uid;
use strongroom_tests::prelude::*;
use strongroom_tests::tunnel::{Connect, Opened};

const USERS: [u32; 4] = [61_011, 61_012, 61_013, 61_014];

fn echo(exchange: &mut Exchange<'_>) -> std::io::Result<()> {
    let body = exchange.body()?;
    exchange.respond("200 OK", &[], &body)
}

/// Two agents with users, one with a token, one with nothing but its placeholder; the fourth user is nobody's.
struct Four {
    scene: Scene,
    /// Of alpha, beta, gamma, delta.
    placeholders: [String; 4],
    token: String,
}

impl Four {
    fn new() -> Self {
        let scene = Scene::with(echo);
        let strongroom = &scene.strongroom;
        let [alpha, beta, ..] = USERS.map(|uid| uid.to_string());
        strongroom.must(&["agent", "add", "alpha", "--uid", &alpha]);
        strongroom.must(&["agent", "add", "beta", "--uid", &beta]);
        let token = strongroom.must(&["agent", "add", "gamma", "--token"]).trim().to_owned();
        strongroom.must(&["agent", "add", "delta"]);
        let placeholders = ["alpha", "beta", "gamma", "delta"].map(|agent| scene.grant(CREDENTIAL, agent, &[]));
        Self { scene, placeholders, token }
    }

    /// What a request of this user's gets: `ok`, or the refusal's code.
    fn ask(&self, uid: u32, way: &Way, target: &str, placeholder: &str) -> String {
        let request = Request::new(way.clone(), "GET", target).bearer(placeholder);
        outcome(&with_uid(uid, move || request.send()))
    }

    fn records(&self, agent: &str) -> Vec<serde_json::Value> {
        let lines = self.scene.strongroom.must(&["audit", "--agent", agent, "--json"]);
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

fn outcome(answer: &Answer) -> String {
    answer
        .head
        .value("strongroom-refusal")
        .unwrap_or_else(|| if answer.status() == 200 { "ok".into() } else { answer.text() })
}

#[test]
#[ignore = "needs root: agents with users of their own"]
fn each_agent_may_use_its_own_placeholder_and_nobody_elses() {
    assert!(geteuid().is_root());
    let four = Four::new();
    let [alpha, beta, gamma, delta] = &four.placeholders;
    for way in four.scene.strongroom.ways() {
        let ask = |uid, placeholder: &str| four.ask(uid, &way, "/openai/v1", placeholder);
        assert_eq!(ask(USERS[0], alpha), "ok", "{way:?}");
        assert_eq!(ask(USERS[1], beta), "ok");
        // Nobody's user: the placeholder alone tells, where its agent is bound to nothing.
        assert_eq!(ask(USERS[3], delta), "ok");
        for (uid, placeholder, code) in [
            (USERS[0], beta, "agent_mismatch"),
            (USERS[1], alpha, "agent_mismatch"),
            (USERS[0], gamma, "agent_mismatch"),
            (USERS[0], delta, "agent_mismatch"),
            (USERS[3], alpha, "agent_unknown"),
            (USERS[3], beta, "agent_unknown"),
            (USERS[3], gamma, "agent_unknown"),
            (0, alpha, "agent_unknown"),
        ] {
            assert_eq!(ask(uid, placeholder), code, "user {uid} over {way:?}");
        }
    }
    assert_eq!(four.scene.upstream.count(), 6, "the positive twins alone");
    let evidence = |agent: &str| {
        let records = four.records(agent);
        let allowed = records.iter().filter(|record| record["decision"] == "allowed");
        allowed.map(|record| record["evidence"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(evidence("alpha"), ["claimed", "socket"], "TCP first, then agent.sock");
    assert_eq!(evidence("delta"), ["placeholder", "placeholder"]);
    let status = four.scene.strongroom.ctl(&["status", "--json"]).json();
    let mismatches = status["mismatches"].as_array().unwrap();
    assert!(
        mismatches.iter().any(|one| one["agent"] == "beta" && one["by"] == "alpha" && one["count"] == 2),
        "{status}"
    );
    // Who asked is on record, not whose placeholder it was.
    let refused = four.records("alpha").iter().filter(|record| record["decision"] == "agent_mismatch").count();
    assert!(refused > 0);
}

#[test]
fn a_token_proves_its_agent_in_every_way_in() {
    let four = Four::new();
    let [_, _, gamma, delta] = &four.placeholders;
    let strongroom = &four.scene.strongroom;
    let token = &four.token;
    let ask = |target: &str, placeholder: &str| outcome(&strongroom.request("GET", target).bearer(placeholder).send());
    let with_token = format!("/@{token}/openai/v1");
    assert_eq!(ask(&with_token, gamma), "ok");
    assert_eq!(ask("/openai/v1", gamma), "agent_unknown");
    assert_eq!(ask(&with_token, delta), "agent_mismatch");
    for wrong in ["", "x", &token[1..], &format!("{token}x"), &token.to_uppercase()] {
        assert_eq!(ask(&format!("/@{wrong}/openai/v1"), gamma), "agent_unknown", "{wrong:?}");
        assert_eq!(ask(&format!("/@{wrong}/openai/v1"), delta), "agent_unknown", "worse than none: {wrong:?}");
    }
    let connect = || Connect::to(strongroom, "api.upstream.example:443");
    let bearer = format!("Bearer {gamma}");
    let fields = [("Host", HOST), ("Authorization", bearer.as_str())];
    assert_eq!(connect().token("gamma", token).tls().ask("GET", "/v1", &fields).status(), 200);
    assert_eq!(connect().token("", token).tls().ask("GET", "/v1", &fields).status(), 200);
    assert_eq!(
        connect().field("Proxy-Authorization", &format!("Bearer {token}")).tls().ask("GET", "/v1", &fields).status(),
        200
    );
    // A client that takes us for its proxy, and asks for a route of ours.
    let own = format!("http://{}/openai/v1", strongroom.address());
    let shown = |target: &str, placeholder: &str, token: &str| {
        let request = strongroom.request("GET", target).bearer(placeholder);
        outcome(&request.field("Proxy-Authorization", &format!("Bearer {token}")).send())
    };
    let twice = format!("http://{}/@{token}/openai/v1", strongroom.address());
    for target in [own.as_str(), twice.as_str()] {
        assert_eq!(shown(target, gamma, token), "ok", "{target}");
        assert_eq!(shown(target, delta, token), "agent_mismatch", "{target}");
    }
    assert_eq!(shown(&own, gamma, "wrong"), "agent_unknown");
    assert_eq!(shown(&twice, gamma, "wrong"), "agent_mismatch");
    // Whatever stands where a method should is on record without it.
    for (method, secret) in [(token.as_str(), token), (gamma.as_str(), gamma)] {
        let answer = strongroom.request(method, "/openai/v1").bearer(gamma).send();
        assert!(answer.refusal().is_some(), "{}", answer.text());
        let records = strongroom.audit();
        assert!(records.iter().any(|record| record["method"] == "{}"), "{records:?}");
        assert!(!format!("{records:?}").contains(secret.as_str()), "what stood as the method is in the audit log");
    }
    let refused = |connect: Connect| match connect.open() {
        Opened::No(answer) => (answer.status(), outcome(&answer)),
        Opened::Yes(_) => panic!("200"),
    };
    assert_eq!(refused(connect().token("delta", token)), (403, "agent_mismatch".into()));
    assert_eq!(refused(connect().token("gamma", "wrong")), (403, "agent_unknown".into()));
    // Without credentials the tunnel opens, for delta needs none; gamma's placeholder inside is refused.
    let answer = connect().tls().ask("GET", "/v1", &fields);
    assert_eq!((answer.status(), outcome(&answer)), (403, "agent_unknown".into()));
    let records = four.records("gamma");
    assert!(
        records.iter().any(|record| record["evidence"] == "token" && record["decision"] == "allowed"),
        "{records:?}"
    );
    // Neither log nor record has the token.
    let logs: Vec<_> = strongroom_tests::strongroom::files_below(&strongroom.root());
    let holds = |file: &std::path::PathBuf| {
        std::fs::read(file).is_ok_and(|bytes| memchr::memmem::find(&bytes, token.as_bytes()).is_some())
    };
    assert!(logs.len() > 4 && !logs.iter().any(holds));
}

#[test]
fn who_has_to_prove_itself_is_asked_to_where_nobody_else_could_go() {
    let scene = Scene::with(echo);
    scene.strongroom.must(&["agent", "revoke", AGENT]);
    let token = scene.strongroom.must(&["agent", "add", "gamma", "--token"]).trim().to_owned();
    let placeholder = scene.grant(CREDENTIAL, "gamma", &[]);
    let connect = Connect::to(&scene.strongroom, "api.upstream.example:443");
    let asked = connect.refused();
    assert_eq!((asked.status(), outcome(&asked)), (407, "agent_unknown".into()));
    // The same connection serves the second try, as clients make it.
    let mut socket = connect.socket().unwrap();
    socket.write_all(&[connect.bytes(), connect.clone().token("gamma", &token).bytes()].concat()).unwrap();
    let mut answers = Vec::new();
    while !answers.ends_with(b"HTTP/1.1 200 Connection established\r\n\r\n") {
        let mut byte = [0];
        std::io::Read::read_exact(&mut socket, &mut byte).unwrap();
        answers.push(byte[0]);
    }
    assert!(answers.starts_with(b"HTTP/1.1 407 "));
    let plain =
        scene.strongroom.request("GET", "http://api.upstream.example/v1").host(HOST).bearer(&placeholder).send();
    assert_eq!((plain.status(), outcome(&plain)), (407, "agent_unknown".into()));
    // Where another agent needs no proof for the host, it is the placeholder that says who is missing.
    scene.strongroom.must(&["agent", "add", "open"]);
    let open = scene.grant(CREDENTIAL, "open", &[]);
    let asks = |placeholder: &str| {
        scene.strongroom.request("GET", "http://api.upstream.example/v1").host(HOST).bearer(placeholder).send()
    };
    let plain = asks(&placeholder);
    assert_eq!((plain.status(), outcome(&plain)), (407, "agent_unknown".into()));
    assert!(plain.head.value("proxy-authenticate").is_some(), "{plain:?}");
    assert_eq!(asks(&open).status(), 200, "the positive twin");
}

#[test]
fn a_variables_name_is_a_placeholder_for_who_has_proved_itself_alone() {
    let four = Four::new();
    let strongroom = &four.scene.strongroom;
    strongroom.must(&["grant", "revoke", CREDENTIAL, "--agent", "gamma"]);
    let named = four.scene.grant(CREDENTIAL, "gamma", &["--placeholder", "named"]);
    assert_eq!(named, "OPENAI");
    let ask =
        |target: &str, value: &str| outcome(&strongroom.request("GET", target).field("Authorization", value).send());
    let with_token = format!("/@{}/openai/v1", four.token);
    assert_eq!(ask(&with_token, "Bearer OPENAI"), "ok");
    assert_eq!(ask("/openai/v1", "Bearer OPENAI"), "agent_unknown");
    for value in ["Bearer OPENAI2", "Bearer openai", "Bearer OPENA", "Bearer OPENAI "] {
        assert!(["unknown_placeholder", "ok"].contains(&ask(&with_token, value).as_str()), "{value}");
    }
    assert_eq!(ask(&with_token, "Bearer OPENAI2"), "unknown_placeholder");
    assert_eq!(ask(&with_token, "Token OPENAI"), "unknown_placeholder");
    // Anywhere else the name is a word like any other.
    let request =
        strongroom.request("POST", &with_token).bearer("OPENAI").field("x-note", "OPENAI").body(b"say OPENAI");
    assert_eq!(request.send().text(), "say OPENAI");
    let received = four.scene.upstream.received();
    let last = &received.last().unwrap().head;
    assert_eq!(last.value("authorization"), Some(format!("Bearer {}", four.scene.key)));
    assert_eq!(last.value("x-note").as_deref(), Some("OPENAI"));
    strongroom.must(&["grant", "revoke", CREDENTIAL, "--agent", "gamma"]);
    assert_eq!(ask(&with_token, "Bearer OPENAI"), "revoked");
}

#[test]
#[ignore = "needs root: agents with users of their own"]
fn two_users_may_have_the_same_name_for_a_placeholder() {
    assert!(geteuid().is_root());
    let four = Four::new();
    let strongroom = &four.scene.strongroom;
    let key = four.scene.add_credential("second", &["--host", HOST, "--header", "x-api-key: {}"]);
    for agent in ["alpha", "beta"] {
        strongroom.must(&["grant", "revoke", CREDENTIAL, "--agent", agent]);
        four.scene.grant(CREDENTIAL, agent, &["--placeholder", "named", "--rate", "1/hour"]);
    }
    let [_, socket] = strongroom.ways();
    let ask = |uid| four.ask(uid, &socket, "/openai/v1", "OPENAI");
    assert_eq!((ask(USERS[0]), ask(USERS[0])), ("ok".into(), "rate_limited".into()), "each its own grant");
    assert_eq!((ask(USERS[1]), ask(USERS[1])), ("ok".into(), "rate_limited".into()));
    assert_eq!(ask(USERS[3]), "agent_unknown");
    strongroom.must(&["agent", "add", "other", "--uid", &USERS[3].to_string()]);
    assert_eq!(ask(USERS[3]), "agent_mismatch");
    let [tcp, _] = strongroom.ways();
    assert_eq!(four.ask(USERS[0], &tcp, "/openai/v1", "OPENAI"), "agent_unknown", "gatewayd's word is not enough");
    assert!(!key.is_empty());
}

#[test]
#[ignore = "needs root: agents with users of their own"]
fn an_agents_environment_is_told_to_that_agent_alone() {
    assert!(geteuid().is_root());
    let four = Four::new();
    let [tcp, socket] = four.scene.strongroom.ways();
    let get = |uid, way: &Way, query: &str| {
        let request = Request::new(way.clone(), "GET", &format!("/.strongroom/environment{query}"));
        with_uid(uid, move || request.send())
    };
    let own = get(USERS[0], &socket, "?agent=alpha");
    assert_eq!(own.status(), 200, "{}", own.text());
    let json: serde_json::Value = serde_json::from_str(&own.text()).unwrap();
    assert_eq!(
        (&json["agent"], &json["grants"][0]["placeholder"]),
        (&"alpha".into(), &four.placeholders[0].clone().into())
    );
    assert!(json["ca"].as_str().unwrap().starts_with("-----BEGIN CERTIFICATE-----"));
    assert!(!own.text().contains(&four.token) && !own.text().contains(&four.scene.key));
    assert_eq!(outcome(&get(USERS[0], &socket, "?agent=beta")), "agent_mismatch");
    assert_eq!(outcome(&get(USERS[0], &tcp, "?agent=alpha")), "agent_unknown", "a claim is no proof");
    assert_eq!(outcome(&get(USERS[3], &socket, "")), "agent_unknown");
    let presented = |placeholder: &str| {
        let request = Request::new(tcp.clone(), "GET", "/.strongroom/environment").bearer(placeholder);
        outcome(&with_uid(USERS[3], move || request.send()))
    };
    assert_eq!(presented(&four.placeholders[3]), "ok");
    assert_eq!(presented(&four.placeholders[0]), "agent_unknown");
    assert_eq!(presented("nonsense"), "unknown_placeholder");
    // A client that takes us for its proxy has its token there.
    let own = four.scene.strongroom.address();
    let by_proxy = |secret: &str| {
        let request = Request::new(tcp.clone(), "GET", &format!("http://{own}/.strongroom/environment?agent=gamma"));
        outcome(&request.field("Proxy-Authorization", &format!("Bearer {secret}")).send())
    };
    assert_eq!(by_proxy(&four.token), "ok");
    assert_eq!(by_proxy("wrong"), "agent_unknown");
}

#[test]
#[ignore = "needs root: agents with users of their own"]
fn run_makes_a_program_the_agent_that_its_user_is() {
    assert!(geteuid().is_root());
    let four = Four::new();
    let strongroom = &four.scene.strongroom;
    let uid = USERS[0].to_string();
    let own = strongroom.ctl(&[
        "run",
        "--agent",
        "alpha",
        "--mode",
        "base-url",
        "--user",
        &uid,
        "--",
        "sh",
        "-c",
        "id -u; env",
    ]);
    own.assert_code(0);
    assert!(
        own.stdout.starts_with(&uid) && own.stdout.contains(&format!("OPENAI={}", four.placeholders[0])),
        "{own:?}"
    );
    assert!(!own.stdout.contains(&four.scene.key) && !own.stdout.contains("STRONGROOM_"), "{own:?}");
    // A real program in proxy mode, by the host's own name.
    let script = "curl -sS -H \"Authorization: Bearer $OPENAI\" https://api.upstream.example/v1/models -o /dev/null -w '%{http_code}'";
    let asked = strongroom.ctl(&["run", "--agent", "alpha", "--user", &uid, "--", "sh", "-c", script]);
    assert_eq!((asked.code, asked.stdout.as_str()), (Some(0), "200"), "{asked:?}");
    // Another user with the same environment is not that agent.
    let other = strongroom.ctl(&["run", "--agent", "alpha", "--user", &USERS[1].to_string(), "--", "sh", "-c", script]);
    assert_eq!(other.stdout, "403", "{other:?}");
    assert_eq!(four.scene.upstream.count(), 1);
}

#[test]
fn sessions_outlive_keyd_and_no_agent_has_to_know() {
    let four = Four::new();
    let strongroom = &four.scene.strongroom;
    let [_, _, gamma, _] = &four.placeholders;
    let [tcp, socket] = strongroom.ways();
    let target = format!("/@{}/openai/v1", four.token);
    let mut connections = [Connection::open(&tcp).unwrap(), Connection::open(&socket).unwrap()];
    for connection in &mut connections {
        let request = strongroom.request("GET", &target).bearer(gamma);
        assert_eq!(request.send_over(connection).unwrap().status(), 200);
    }
    process::signal(strongroom.keyd(), process::Signal::SIGKILL);
    strongroom.must(&["up"]);
    within(Duration::from_secs(20), "keyd is back", || (strongroom.ctl(&["unlock"]).code == Some(0)).then_some(()));
    for connection in &mut connections {
        within(Duration::from_secs(20), "the same connection serves again", || {
            let request = strongroom.request("GET", &target).bearer(gamma);
            (request.send_over(connection).unwrap().status() == 200).then_some(())
        });
    }
}

/// Two agents of one user: a name tells them apart no more than the user does, and the log blames nobody.
#[test]
fn what_does_not_tell_two_agents_apart_is_nobodys() {
    let scene = Scene::with(echo);
    let own = geteuid().as_raw().to_string();
    let (strongroom, [_, socket]) = (&scene.strongroom, scene.strongroom.ways());
    for agent in ["one", "two"] {
        strongroom.must(&["agent", "add", agent, "--uid", &own]);
    }
    let victim = strongroom.must(&["agent", "add", "victim", "--token"]).trim().to_owned();
    let stolen = scene.grant(CREDENTIAL, "victim", &[]);
    scene.grant(CREDENTIAL, "one", &["--placeholder", "named"]);
    let ask = |value: &str| outcome(&Request::new(socket.clone(), "GET", "/openai/v1").bearer(value).send());
    assert_eq!(ask("OPENAI"), "ok", "one of them alone has such a grant");
    scene.grant(CREDENTIAL, "two", &["--placeholder", "named", "--allow", "GET /only/**"]);
    assert_eq!(ask("OPENAI"), "agent_unknown");
    strongroom.must(&["agent", "revoke", "two"]);
    assert_eq!(ask("OPENAI"), "ok", "one that was revoked is no rival");
    assert_eq!(ask(&stolen), "agent_mismatch");
    let lines = strongroom.must(&["audit", "--json"]);
    let blamed = lines.lines().find(|line| line.contains("agent_mismatch")).unwrap();
    assert!(blamed.contains("\"agent\":null") && blamed.contains("\"evidence\":\"socket\""), "{blamed}");
    assert!(!lines.contains(&victim));
}

#[test]
fn a_page_in_a_browser_is_no_agent_that_proved_itself() {
    let four = Four::new();
    let strongroom = &four.scene.strongroom;
    strongroom.must(&["grant", "revoke", CREDENTIAL, "--agent", "gamma"]);
    four.scene.grant(CREDENTIAL, "gamma", &["--placeholder", "named"]);
    let connect = Connect::to(strongroom, "api.upstream.example:443").token("gamma", &four.token);
    let ask = |fields: &[(&str, &str)]| {
        let usual = [("Host", HOST), ("Authorization", "Bearer OPENAI")];
        outcome(&connect.tls().ask("GET", "/v1", &[&usual, fields].concat()))
    };
    assert_eq!(ask(&[]), "ok");
    assert_eq!(ask(&[("Sec-Fetch-Site", "none")]), "ok");
    for page in [("Origin", "https://evil.example"), ("Sec-Fetch-Site", "cross-site")] {
        assert!(["agent_unknown", "agent_mismatch"].contains(&ask(&[page]).as_str()), "{page:?}");
    }
}

#[test]
fn no_token_disturbs_others_however_long_or_many() {
    let four = Four::new();
    let strongroom = &four.scene.strongroom;
    let [_, socket] = strongroom.ways();
    let target = format!("/@{}/openai/v1", four.token);
    let mut steady = Connection::open(&socket).unwrap();
    let ask = |connection: &mut Connection| {
        let request = strongroom.request("GET", &target).bearer(&four.placeholders[2]);
        request.send_over(connection).unwrap().status()
    };
    assert_eq!(ask(&mut steady), 200);
    let gateway = strongroom.gatewayd();
    for length in [257, 9_000, 40_000] {
        let long = "t".repeat(length);
        let refused = strongroom
            .request("GET", "http://api.upstream.example/v1")
            .host(HOST)
            .field("Proxy-Authorization", &format!("Bearer {long}"))
            .send();
        assert!(["agent_unknown", "too_large"].contains(&outcome(&refused).as_str()), "{}", refused.text());
        let refused = strongroom.request("GET", "/.strongroom/environment").bearer(&long).send();
        assert_eq!(outcome(&refused), "unknown_placeholder");
        assert_eq!(ask(&mut steady), 200, "after {length} bytes");
    }
    // A connection that tries one token after another, and then has the right one.
    let mut guesser = Connection::open(&socket).unwrap();
    for number in 0..40 {
        let request = strongroom.request("GET", &format!("/@token-{number}/openai/v1")).bearer("x");
        assert_eq!(outcome(&request.send_over(&mut guesser).unwrap()), "agent_unknown", "{number}");
    }
    assert_eq!(ask(&mut guesser), 200);
    assert_eq!((ask(&mut steady), strongroom.gatewayd()), (200, gateway));
}

/// As a pool of connections does that many agents share.
#[test]
fn one_connection_carries_the_requests_of_many_agents() {
    let scene = Scene::with(echo);
    let agents: Vec<[String; 2]> = (0..7)
        .map(|number| {
            let name = format!("agent-{number}");
            let token = scene.strongroom.must(&["agent", "add", &name, "--token"]).trim().to_owned();
            [token, scene.grant(CREDENTIAL, &name, &[])]
        })
        .collect();
    for way in scene.strongroom.ways() {
        let mut connection = Connection::open(&way).unwrap();
        let mut ask = |token: &str, placeholder: &str| {
            let request = scene.strongroom.request("GET", &format!("/@{token}/openai/v1")).bearer(placeholder);
            outcome(&request.send_over(&mut connection).unwrap())
        };
        for round in 0..3 {
            for (number, [token, placeholder]) in agents.iter().enumerate() {
                assert_eq!(ask(token, placeholder), "ok", "agent {number} in round {round} over {way:?}");
            }
        }
        assert_eq!(ask(&agents[0][0], &agents[1][1]), "agent_mismatch", "and none is taken for another");
    }
}
