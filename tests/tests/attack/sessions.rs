//! Agents that are not there: forged sockets, other people's sessions, tokens and claims; leaves and tunnels that nobody
//! may have; and a leaf of ours in an upstream's place.

use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::{UnixListener, UnixStream};

use rcgen::KeyPair;
use strongroom_protocol::SecretBytes;
use strongroom_protocol::exchange::{GatewayMessage, KeydMessage, Leaf};
use strongroom_protocol::session::{Presented, PresentedToken};
use strongroom_tests::agent::Way;
use strongroom_tests::hostile::with_uid;

use super::*;

/// An agent of the user that runs the tests, one with a token, and one of nobody's user; with placeholders.
struct Agents {
    siege: Siege,
    ours: String,
    tokens: String,
    token: String,
}

impl Agents {
    fn new() -> Self {
        let siege = Siege::lay();
        let strongroom = &siege.scene.strongroom;
        strongroom.must(&["agent", "add", "ours", "--uid", &AGENTS_USER.to_string()]);
        let token = strongroom.must(&["agent", "add", "tokens", "--token"]).trim().to_owned();
        let ours = siege.scene.grant(CREDENTIAL, "ours", &[]);
        let tokens = siege.scene.grant(CREDENTIAL, "tokens", &[]);
        Self { siege, ours, tokens, token }
    }

    /// keyd's verdict on a session.
    fn open(&self, number: u64, presented: Presented, descriptors: &[BorrowedFd<'_>]) -> Result<(), Option<Refusal>> {
        let gateway = &self.siege.gateway;
        if gateway.say(&GatewayMessage::OpenSession { session: number, presented }, descriptors).is_err() {
            return Err(None);
        }
        loop {
            match gateway.hear() {
                Some(KeydMessage::SessionOpened { session }) if session == number => return Ok(()),
                Some(KeydMessage::SessionRefused { session, refusal }) if session == number => {
                    return Err(Some(refusal));
                }
                Some(_) => {}
                None => return Err(None),
            }
        }
    }

    /// What a request in this session gets, on a channel of its own.
    fn ask(&self, session: Option<u64>, placeholder: &str) -> Heard {
        let ask = Ask::bearer("GET", "/x", placeholder);
        let ask = match session {
            Some(session) => ask.field("strongroom-session", session.to_string()),
            None => ask,
        };
        self.siege.dial().ask(&ask)
    }

    fn connect(&self, session: u64, authority: &str, point: Option<Vec<u8>>) -> KeydMessage {
        let question = session + 1_000_000;
        let (authority, request_id) = (authority.parse().unwrap(), "an-attackers-id".to_owned());
        let message = GatewayMessage::Connect { question, session, authority, point, request_id, tunnel: true };
        self.siege.gateway.say(&message, &[]).unwrap();
        loop {
            let said = self.siege.gateway.hear().expect("keyd answers");
            // Not that of a question which was asked before and whose answer nobody read.
            let (KeydMessage::Intercept { question: answered, .. }
            | KeydMessage::Tunnel { question: answered }
            | KeydMessage::NotConnected { question: answered, .. }) = &said
            else {
                continue;
            };
            if *answered == question {
                return said;
            }
        }
    }
}

/// Nobody's but the agent's; where there is no root it is the tests' own user.
fn agents_user() -> u32 {
    if nix::unistd::geteuid().is_root() { AGENTS_USER } else { nix::unistd::geteuid().as_raw() }
}

const AGENTS_USER: u32 = 61_021;

fn claims(uid: u32) -> Presented {
    Presented { uid: Some(uid), ..Presented::default() }
}

fn shows_socket() -> Presented {
    Presented { socket: true, ..Presented::default() }
}

fn sends_token(agent: Option<&str>, token: &str) -> Presented {
    let token =
        PresentedToken { agent: agent.map(|name| name.parse().unwrap()), token: SecretBytes::new(token.into()) };
    Presented { token: Some(token), ..Presented::default() }
}

/// Every socket that a gateway could pass for an agent's.
#[test]
fn a_socket_that_was_not_accepted_at_agent_sock_is_no_agents() {
    let agents = Agents::new();
    let strongroom = &agents.siege.scene.strongroom;
    let path = strongroom.home().agent_socket();
    let directory = tempfile::tempdir().unwrap();
    let elsewhere = UnixListener::bind(directory.path().join("agent.sock")).unwrap();
    let _client = UnixStream::connect(directory.path().join("agent.sock")).unwrap();
    let (accepted_elsewhere, _) = elsewhere.accept().unwrap();
    let (pair, _other) = UnixStream::pair().unwrap();
    // On a client's end the kernel names who listens: gatewayd's own user.
    let client = UnixStream::connect(&path).unwrap();
    let tcp = std::net::TcpStream::connect(strongroom.address()).unwrap();
    let file = std::fs::File::open("/dev/null").unwrap();
    let (pipe, _end) = nix::unistd::pipe().unwrap();
    let forged: [(&str, BorrowedFd<'_>); 7] = [
        ("accepted elsewhere", accepted_elsewhere.as_fd()),
        ("a pair", pair.as_fd()),
        ("a client's end", client.as_fd()),
        ("a listener", elsewhere.as_fd()),
        ("TCP", tcp.as_fd()),
        ("a file", file.as_fd()),
        ("a pipe", pipe.as_fd()),
    ];
    for (number, (what, socket)) in (1..).zip(forged) {
        assert_eq!(agents.open(number, shows_socket(), &[socket]), Err(Some(Refusal::BadRequest)), "{what}");
        assert!(matches!(agents.ask(Some(number), &agents.ours), Heard::Refused(Refusal::AgentUnknown)), "{what}");
    }
    let two = [pair.as_fd(), pair.as_fd()];
    assert_eq!(agents.open(50, shows_socket(), &two), Err(Some(Refusal::BadRequest)), "two sockets");
    assert_eq!(agents.open(51, shows_socket(), &[]), Err(Some(Refusal::BadRequest)), "no socket");
    assert_eq!(agents.open(52, claims(1), &[pair.as_fd()]), Err(Some(Refusal::BadRequest)), "a socket not spoken of");
    agents.siege.hold();
}

#[test]
fn a_claim_narrows_and_proves_nothing() {
    let agents = Agents::new();
    agents.open(1, claims(AGENTS_USER), &[]).unwrap();
    agents.open(2, claims(4242), &[]).unwrap();
    agents.open(3, Presented::default(), &[]).unwrap();
    // With the placeholder the claim may use what the placeholder allows, and nothing of anybody else's.
    assert_eq!(agents.ask(Some(1), &agents.ours).status(), Some(200));
    assert_eq!(agents.ask(Some(1), &agents.tokens).refusal(), Some(Refusal::AgentMismatch));
    assert_eq!(agents.ask(Some(1), &agents.siege.scene.placeholder).refusal(), Some(Refusal::AgentMismatch));
    for session in [Some(2), Some(3), None] {
        assert_eq!(agents.ask(session, &agents.ours).refusal(), Some(Refusal::AgentUnknown), "{session:?}");
        assert_eq!(agents.ask(session, &agents.tokens).refusal(), Some(Refusal::AgentUnknown), "{session:?}");
        assert_eq!(agents.ask(session, &agents.siege.scene.placeholder).status(), Some(200), "bound to nothing");
    }
    // A name for a placeholder takes proof.
    let strongroom = &agents.siege.scene.strongroom;
    strongroom.must(&["grant", "revoke", CREDENTIAL, "--agent", "ours"]);
    let named = agents.siege.scene.grant(CREDENTIAL, "ours", &["--placeholder", "named"]);
    assert_eq!(agents.ask(Some(1), &named).refusal(), Some(Refusal::AgentUnknown));
    agents.siege.hold();
}

#[test]
fn a_token_is_needed_whole_and_for_its_own_agent() {
    let agents = Agents::new();
    let token = agents.token.as_str();
    agents.open(1, sends_token(Some("tokens"), token), &[]).unwrap();
    assert_eq!(agents.ask(Some(1), &agents.tokens).status(), Some(200), "the positive twin");
    assert_eq!(agents.ask(Some(1), &agents.ours).refusal(), Some(Refusal::AgentMismatch));
    let wrong = [
        sends_token(Some("ours"), token),
        sends_token(None, &token[..token.len() - 1]),
        sends_token(None, &format!("{token}x")),
        sends_token(None, ""),
        Presented { uid: Some(AGENTS_USER), ..sends_token(None, token) },
    ];
    for (number, presented) in (10..).zip(wrong) {
        let text = format!("{presented:?}");
        agents.open(number, presented, &[]).unwrap();
        let heard = agents.ask(Some(number), &agents.tokens);
        assert!(matches!(heard.refusal(), Some(Refusal::AgentUnknown | Refusal::AgentMismatch)), "{text}: {heard:?}");
    }
    agents.siege.hold();
}

#[test]
fn numbers_of_sessions_are_a_gateways_own_and_end_when_they_end() {
    let agents = Agents::new();
    agents.open(7, claims(AGENTS_USER), &[]).unwrap();
    assert_eq!(agents.open(7, claims(0), &[]), Err(Some(Refusal::BadRequest)), "taken");
    assert_eq!(agents.ask(Some(7), &agents.ours).status(), Some(200));
    // Another gateway connection has sessions of its own.
    let other = strongroom_tests::hostile::Hostile::connect(&agents.siege.scene.strongroom, &agents.siege.loot);
    let ask = Ask::bearer("GET", "/x", &agents.ours).field("strongroom-session", "7");
    let heard = other.dial(HOST, agents.siege.scene.upstream.address()).ask(&ask);
    assert_eq!(heard.refusal(), Some(Refusal::AgentUnknown), "{heard:?}");
    agents.siege.gateway.say(&GatewayMessage::CloseSession { session: 7 }, &[]).unwrap();
    assert_eq!(agents.ask(Some(7), &agents.ours).refusal(), Some(Refusal::AgentUnknown));
    for text in ["", "x", "-1", "7 ", "18446744073709551616"] {
        let ask = Ask::bearer("GET", "/x", &agents.ours).field("strongroom-session", text);
        let heard = agents.siege.dial().ask(&ask);
        assert!(matches!(heard.refusal(), Some(Refusal::BadRequest | Refusal::AgentUnknown)), "{text:?}: {heard:?}");
    }
    agents.siege.hold();
}

/// The honest gateway has the agent's session; when the agent hangs up, what it runs ends, and a gateway that keeps its
/// copy of the socket cannot go on as that agent.
#[test]
#[ignore = "needs root: an agent with a user of its own"]
fn an_agent_that_has_hung_up_is_nobody_any_more() {
    assert!(nix::unistd::geteuid().is_root());
    let agents = Agents::new();
    let path = agents.siege.scene.strongroom.root().join("run/agent.sock");
    let moved = path.with_file_name("the-real-one.sock");
    // The attacker listens at agent.sock's path: so it has sockets that really were accepted there.
    std::fs::rename(&path, &moved).unwrap();
    let listener = UnixListener::bind(&path).unwrap();
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    let connecting = path.clone();
    let client = with_uid(agents_user(), move || UnixStream::connect(&connecting).unwrap());
    let (accepted, _) = listener.accept().unwrap();
    agents.open(1, shows_socket(), &[accepted.as_fd()]).unwrap();
    assert_eq!(agents.ask(Some(1), &agents.ours).status(), Some(200), "the agent is there: its positive twin");
    drop(client);
    within(Duration::from_secs(10), "keyd sees it", || {
        (agents.ask(Some(1), &agents.ours).refusal() == Some(Refusal::AgentUnknown)).then_some(())
    });
    // The same socket again, in a new session: the kernel still says whose it was.
    let again = agents.open(2, shows_socket(), &[accepted.as_fd()]);
    let heard = again.map(|()| agents.ask(Some(2), &agents.ours).refusal());
    assert!(matches!(heard, Err(Some(_)) | Ok(Some(Refusal::AgentUnknown))), "{heard:?}");
    agents.siege.hold();
}

#[test]
fn leaves_are_for_granted_hosts_and_tunnels_for_allowed_ones() {
    let agents = Agents::new();
    let point = || Some(KeyPair::generate().unwrap().public_key_raw().to_vec());
    agents.open(1, claims(AGENTS_USER), &[]).unwrap();
    agents.open(2, Presented::default(), &[]).unwrap();
    assert!(matches!(agents.connect(1, HOST, point()), KeydMessage::Intercept { leaf: Some(_), .. }));
    for (session, authority) in
        [(1, "evil.example"), (2, "evil.example"), (1, "api.upstream.example:444"), (2, "upstream.example")]
    {
        let said = agents.connect(session, authority, point());
        assert!(
            matches!(said, KeydMessage::NotConnected { refusal: Refusal::HostNotAllowed, .. }),
            "{authority}: {said:?}"
        );
    }
    assert!(matches!(
        agents.connect(99, HOST, point()),
        KeydMessage::NotConnected { refusal: Refusal::AgentUnknown, .. }
    ));
    for bad in [vec![], vec![4; 64], vec![2; 33], vec![5; 65]] {
        assert!(matches!(
            agents.connect(1, HOST, Some(bad)),
            KeydMessage::NotConnected { refusal: Refusal::BadRequest, .. }
        ));
    }
    agents.siege.hold();
}

/// What our own authority vouches for is no upstream, not even to a credential that trusts it.
#[test]
fn a_leaf_of_ours_is_no_upstreams_certificate() {
    let agents = Agents::new();
    let strongroom = &agents.siege.scene.strongroom;
    let key = KeyPair::generate().unwrap();
    agents.open(1, Presented::default(), &[]).unwrap();
    let said = agents.connect(1, HOST, Some(key.public_key_raw().to_vec()));
    let KeydMessage::Intercept { leaf: Some(Leaf { certificate, .. }), .. } = said else { panic!("{said:?}") };
    let own = strongroom.write("own.pem", strongroom.must(&["ca", "show"]));
    let add =
        ["credential", "add", "trusting", "--host", HOST, "--header", "x-trusting: {}", "--ca", own.to_str().unwrap()];
    let trusting = strongroom_tests::strongroom::random_key("sk-");
    strongroom.must_with(&add, trusting.as_bytes());
    let placeholder = agents.siege.scene.grant("trusting", AGENT, &[]);
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.into()],
            rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        )
        .unwrap();
    let impostor = Upstream::start(std::sync::Arc::new(tls), echo).unwrap();
    for ask in
        [agents.siege.ask("/x"), Ask { fields: Vec::new(), ..agents.siege.ask("/x") }.field("x-trusting", &placeholder)]
    {
        let heard = agents.siege.gateway.dial(HOST, impostor.address()).ask(&ask);
        assert_eq!(heard.refusal(), Some(Refusal::UpstreamUntrusted), "{heard:?}");
    }
    assert_eq!(impostor.count(), 0);
    assert_eq!(agents.siege.dial().ask(&agents.siege.ask("/x")).status(), Some(200), "the positive twin");
    agents.siege.hold_with(&[&trusting]);
}

#[test]
fn environments_are_told_to_who_proves_itself_alone() {
    let agents = Agents::new();
    agents.open(1, claims(AGENTS_USER), &[]).unwrap();
    agents.open(2, sends_token(None, &agents.token), &[]).unwrap();
    let ask = |session, placeholder: Option<&str>| {
        let placeholder = placeholder.map(ToOwned::to_owned);
        agents
            .siege
            .gateway
            .say(&GatewayMessage::AskEnvironment { question: 9, session, placeholder, after: None }, &[])
            .unwrap();
        loop {
            match agents.siege.gateway.hear().unwrap() {
                KeydMessage::Environment { page, .. } => return Ok(page),
                KeydMessage::NoEnvironment { refusal, .. } => return Err(refusal),
                _ => {}
            }
        }
    };
    let page = ask(2, None).unwrap();
    assert_eq!((page.agent.as_str(), page.token, page.grants.len()), ("tokens", None, 1));
    assert_eq!(ask(1, None), Err(Refusal::AgentUnknown), "a claim proves nothing");
    assert_eq!(ask(2, Some(&agents.ours)), Err(Refusal::AgentMismatch));
    assert_eq!(ask(9, None), Err(Refusal::AgentUnknown));
    agents.siege.hold();
}

/// A thousand agents that never go, and a flood of questions: an admin is still served, and so is an honest gateway.
#[test]
fn sessions_and_questions_are_bounded_and_keep_nobody_waiting() {
    let agents = Agents::new();
    let path = agents.siege.scene.strongroom.home().agent_socket();
    let mut opened = 0u64;
    let mut refused = None;
    for number in 0..20_000 {
        match agents.open(number, Presented::default(), &[]) {
            Ok(()) => opened += 1,
            Err(refusal) => {
                refused = refusal;
                break;
            }
        }
    }
    assert_eq!(refused, Some(Refusal::Overloaded), "after {opened}");
    let before = std::time::Instant::now();
    agents.siege.scene.strongroom.must(&["status"]);
    assert!(before.elapsed() < Duration::from_secs(5));
    let request = Request::new(Way::Unix(path), "GET", "/openai/x").bearer(&agents.siege.scene.placeholder);
    assert_eq!(request.send().status(), 200, "the honest gateway's agents have sessions of their own");
    let mut byte = [0];
    let mut idle = UnixStream::connect(agents.siege.scene.strongroom.home().agent_socket()).unwrap();
    idle.set_read_timeout(Some(Duration::from_millis(10))).unwrap();
    assert!(idle.read(&mut byte).is_err(), "still open");
    agents.siege.hold();
}

#[test]
fn a_gateways_words_for_a_request_are_no_words_of_the_log() {
    let agents = Agents::new();
    let strongroom = &agents.siege.scene.strongroom;
    strongroom.must(&["agent", "allow", "tokens", "files.example"]);
    agents.open(1, sends_token(None, &agents.token), &[]).unwrap();
    let evil = "evil\"}\n{\"seq\":1,\"agent\":\"ours\"".to_owned() + &"x".repeat(10_000);
    for (question, request_id) in (1..).zip([evil.clone(), String::new(), "a b".to_owned()]) {
        let authority = "files.example".parse().unwrap();
        let message =
            GatewayMessage::Connect { question, session: 1, authority, point: None, request_id, tunnel: true };
        agents.siege.gateway.say(&message, &[]).unwrap();
        agents
            .siege
            .gateway
            .say(&GatewayMessage::EndTunnel { tunnel: question, bytes_in: 1, bytes_out: 2, failure: None }, &[])
            .unwrap();
    }
    let lines = within(Duration::from_secs(10), "three ends are on record", || {
        let lines = strongroom.must(&["audit", "--agent", "tokens", "--json"]);
        (lines.matches("\"bytes_out\":2").count() == 3).then_some(lines)
    });
    assert!(!lines.contains("evil") && !lines.contains("a b"), "{lines}");
    let ids = |kind: &str| -> Vec<String> {
        let records = lines.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        records.filter(|record| record.get(kind).is_some()).map(|record| record["request_id"].to_string()).collect()
    };
    assert_eq!(ids("decision"), ids("duration_ms"), "both lines have one id");
    // Those that the gateway leaves behind are not said to have ended well.
    let said = agents.connect(1, "files.example", None);
    assert!(matches!(said, KeydMessage::Tunnel { .. }), "{said:?}");
    let siege = agents.siege;
    let (scene, loot) = (siege.scene, siege.loot);
    drop(siege.gateway);
    within(Duration::from_secs(10), "the abandoned one is on record", || {
        scene.strongroom.must(&["audit", "--json"]).contains("\"failure\":\"keyd_unavailable\"").then_some(())
    });
    loot.assert_without(&[&scene.key]);
}
