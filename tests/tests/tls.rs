//! A key goes only to a server that proves by certificate who it is; everything else has its code within seconds.

use std::io::{Read, Write};
use std::sync::Arc;
use std::time::Instant;

use rcgen::{BasicConstraints, ExtendedKeyUsagePurpose, IsCa, KeyPair, date_time_ymd};
use rustls::ServerConfig;
use strongroom_ctl::demo::certificate::{leaf, self_signed, server};
use strongroom_tests::prelude::*;
use strongroom_tests::strongroom::Builder;

fn hello(exchange: &mut Exchange<'_>) -> std::io::Result<()> {
    exchange.respond("200 OK", &[], b"hello")
}

/// Sends one request to an upstream with this TLS; it must be answered in seconds, and nothing may reach the upstream.
#[track_caller]
fn refused(tls: impl FnOnce(&Root) -> Arc<ServerConfig>, refusal: Refusal) {
    let scene = Scene::build_tls(Builder::default(), tls, hello);
    let begin = Instant::now();
    scene.get("/openai/x").send().assert_refused(refusal);
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
    assert_eq!(scene.upstream.count(), 0, "a request reached a server that proved nothing");
    assert!(scene.upstream.connections() >= 1, "the server was never asked");
}

#[test]
fn a_good_certificate_is_taken() {
    let scene = Scene::build_tls(Builder::default(), |root| root.server(HOST).unwrap(), hello);
    assert_eq!(scene.get("/openai/x").send().text(), "hello");
}

#[test]
fn a_self_signed_certificate_is_untrusted() {
    refused(|_| self_signed(HOST).unwrap(), Refusal::UpstreamUntrusted);
}

/// As `openssl req -x509` makes them, without and with what makes an authority of them.
#[test]
fn a_certificate_may_be_its_own_root_where_it_is_no_authoritys_and_the_log_says_so() {
    for (constraints, is_taken) in [(IsCa::ExplicitNoCa, true), (IsCa::Ca(BasicConstraints::Unconstrained), false)] {
        let key = KeyPair::generate().unwrap();
        let mut params = leaf(HOST).unwrap();
        params.is_ca = constraints;
        let certificate = params.self_signed(&key).unwrap();
        let upstream = Upstream::start(server(vec![certificate.der().clone()], &key).unwrap(), hello).unwrap();
        let strongroom = Strongroom::new().resolving(HOST, upstream.address()).start();
        let file = strongroom.write("own.pem", certificate.pem());
        let add = ["credential", "add", CREDENTIAL, "--host", HOST, "--bearer", "--ca", file.to_str().unwrap()];
        strongroom.must_with(&add, strongroom_tests::strongroom::random_key("sk-").as_bytes());
        strongroom.must(&["agent", "add", AGENT]);
        let placeholder = strongroom.must(&["grant", "add", CREDENTIAL, "--agent", AGENT]);
        let answer = strongroom.request("GET", "/openai/x").bearer(placeholder.trim()).send();
        if is_taken {
            assert_eq!(answer.text(), "hello");
        } else {
            answer.assert_refused(Refusal::UpstreamUntrusted);
        }
        let words = "its own certificate is an authority's (basicConstraints CA:TRUE)";
        assert_eq!(strongroom.logs().contains(words), !is_taken, "{}", strongroom.logs());
    }
}

#[test]
fn a_certificate_for_another_name_is_untrusted() {
    refused(|root| root.server("other.example").unwrap(), Refusal::UpstreamUntrusted);
}

#[test]
fn a_certificate_of_the_past_or_the_future_is_untrusted() {
    let past = |root: &Root| {
        root.server_with(HOST, |params| {
            (params.not_before, params.not_after) = (date_time_ymd(2001, 1, 1), date_time_ymd(2002, 1, 1))
        })
    };
    let future = |root: &Root| {
        root.server_with(HOST, |params| {
            (params.not_before, params.not_after) = (date_time_ymd(2090, 1, 1), date_time_ymd(2091, 1, 1))
        })
    };
    refused(|root| past(root).unwrap(), Refusal::UpstreamUntrusted);
    refused(|root| future(root).unwrap(), Refusal::UpstreamUntrusted);
}

#[test]
fn a_certificate_of_another_authority_is_untrusted() {
    refused(|_| Root::new("Somebody else's root").unwrap().server(HOST).unwrap(), Refusal::UpstreamUntrusted);
}

#[test]
fn a_certificate_for_clients_is_untrusted() {
    let clients = |root: &Root| {
        root.server_with(HOST, |params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth])
    };
    refused(|root| clients(root).unwrap(), Refusal::UpstreamUntrusted);
}

#[test]
fn without_a_root_of_its_own_a_credential_trusts_the_platforms_alone() {
    let scene = Scene::with(hello);
    let strongroom = &scene.strongroom;
    let key = strongroom_tests::strongroom::random_key("sk-");
    strongroom
        .must_with(&["credential", "add", "platform", "--host", HOST, "--header", "x-api-key: {}"], key.as_bytes());
    let placeholder = scene.grant("platform", AGENT, &[]);
    let answer = strongroom.request("GET", "/platform/x").field("x-api-key", &placeholder).send();
    // Two credentials of one host with different roots: the one with --ca must not lend its roots to the other.
    answer.assert_refused(Refusal::UpstreamUntrusted);
    assert_eq!(scene.get("/openai/x").send().status(), 200);
}

#[test]
fn a_pin_comes_on_top_of_the_chain() {
    let scene = Scene::with(hello);
    let pin = |root: &Root| {
        let hash = ring::digest::digest(&ring::digest::SHA256, &root.public_key());
        hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect::<String>()
    };
    let (right, wrong) = (pin(&scene.root), pin(&Root::new("Another root").unwrap()));
    for (name, pins, refusal) in [
        ("one", vec![&right], None),
        ("several", vec![&wrong, &right], None),
        ("none", vec![&wrong], Some(Refusal::UpstreamUntrusted)),
    ] {
        let site = format!("x-{name}: {{}}");
        let mut arguments = vec!["--host", HOST, "--header", &site];
        pins.iter().for_each(|pin| arguments.extend(["--pin", pin]));
        scene.add_credential(name, &arguments);
        let placeholder = scene.grant(name, AGENT, &[]);
        let request = scene.strongroom.request("GET", &format!("/{name}/x")).field(&format!("x-{name}"), &placeholder);
        match refusal {
            Some(refusal) => request.send().assert_refused(refusal),
            None => assert_eq!(request.send().text(), "hello", "{name}"),
        }
    }
    assert_eq!(scene.upstream.count(), 2, "no request reached the server whose key is not pinned");
    // A pin of a key that signed nothing loosens nothing.
    let elsewhere = Root::new("Somebody else's root").unwrap();
    let scene = Scene::build_tls(Builder::default(), |_| elsewhere.server(HOST).unwrap(), hello);
    scene.add_credential("pinned", &["--host", HOST, "--header", "x-key: {}", "--pin", &pin(&elsewhere)]);
    let placeholder = scene.grant("pinned", AGENT, &[]);
    let request = scene.strongroom.request("GET", "/pinned/x").field("x-key", &placeholder);
    request.send().assert_refused(Refusal::UpstreamUntrusted);
}

#[test]
fn the_environment_cannot_add_roots() {
    let root = Root::new("A root in the environment").unwrap();
    let upstream = Upstream::start(root.server(HOST).unwrap(), hello).unwrap();
    let strongroom = Strongroom::new().resolving(HOST, upstream.address()).created();
    let file = strongroom.write("root.pem", root.pem());
    let mut up = strongroom.command(&[&["up"], strongroom.users()].concat());
    let output = process::run(up.env("SSL_CERT_FILE", &file).env("SSL_CERT_DIR", file.parent().unwrap()), b"");
    output.assert_code(0);
    strongroom.must(&["unlock"]);
    let key = strongroom_tests::strongroom::random_key("sk-");
    strongroom.must_with(&["credential", "add", CREDENTIAL, "--host", HOST, "--bearer"], key.as_bytes());
    strongroom.must(&["agent", "add", AGENT]);
    let placeholder = strongroom.must(&["grant", "add", CREDENTIAL, "--agent", AGENT]);
    let answer = strongroom.request("GET", "/openai/x").bearer(placeholder.trim()).send();
    answer.assert_refused(Refusal::UpstreamUntrusted);
}

#[test]
fn tls_1_2_alone_and_1_3_alone_are_both_spoken() {
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let only = |root: &Root| {
            let usual = root.server(HOST).unwrap();
            let mut config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
                .with_protocol_versions(&[version])
                .unwrap()
                .with_no_client_auth()
                .with_cert_resolver(usual.cert_resolver.clone());
            config.alpn_protocols = vec![b"http/1.1".to_vec()];
            Arc::new(config)
        };
        let scene = Scene::build_tls(Builder::default(), only, hello);
        assert_eq!(scene.get("/openai/x").send().text(), "hello", "{version:?}");
    }
}

#[test]
fn an_upstream_without_alpn_is_served_and_one_that_wants_another_protocol_is_not() {
    let with = |protocols: &'static [&'static [u8]]| {
        move |root: &Root| {
            let mut config = ServerConfig::clone(&root.server(HOST).unwrap());
            config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
            Arc::new(config)
        }
    };
    let scene = Scene::build_tls(Builder::default(), with(&[]), hello);
    assert_eq!(scene.get("/openai/x").send().text(), "hello");
    refused(with(&[b"spdy/1"]), Refusal::UpstreamProtocol);
}

/// In front of an upstream that speaks no TLS.
fn plain_scene(script: impl Fn(std::net::TcpStream) -> std::io::Result<()> + Send + Sync + 'static) -> Scene {
    let builder = Builder::default().timeout("first-byte = \"2s\"");
    Scene::before(builder, Upstream::start_plain(script).unwrap(), Root::new("Unused").unwrap())
}

#[test]
fn plain_text_is_a_protocol_error_and_gets_no_key() {
    let heard = Arc::new(std::sync::Mutex::new(Vec::new()));
    let hearing = heard.clone();
    let scene = plain_scene(move |mut socket| {
        socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi")?;
        let mut bytes = vec![0; 4096];
        let length = socket.read(&mut bytes)?;
        hearing.lock().unwrap().extend_from_slice(&bytes[..length]);
        Ok(())
    });
    scene.get("/openai/x").send().assert_refused(Refusal::UpstreamProtocol);
    let heard = within(Duration::from_secs(5), "the server hears something", || {
        Some(heard.lock().unwrap().clone()).filter(|heard| !heard.is_empty())
    });
    assert_eq!(Needles::of(scene.key.as_bytes()).find(&heard), None);
    assert_eq!(heard[0], 22, "a TLS handshake, and nothing else");
}

#[test]
fn an_upstream_that_hangs_up_in_the_handshake_has_its_code() {
    let scene = plain_scene(|mut socket| socket.read(&mut [0; 100]).map(drop));
    let begin = Instant::now();
    let answer = scene.get("/openai/x").send();
    let code = answer.refusal().expect("no answer could come from there");
    assert!(["upstream_protocol", "upstream_unreachable"].contains(&code.as_str()), "{code}");
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
}

#[test]
fn an_upstream_that_is_silent_in_the_handshake_times_out() {
    let scene = plain_scene(|mut socket| {
        while socket.read(&mut [0; 1024])? > 0 {}
        Ok(())
    });
    let begin = Instant::now();
    scene.get("/openai/x").send().assert_refused(Refusal::UpstreamTimeout);
    assert!(begin.elapsed() < Duration::from_secs(15), "{:?}", begin.elapsed());
}
