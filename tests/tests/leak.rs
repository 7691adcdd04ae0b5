//! After a thousand requests the real key is where it belongs, and nowhere else.

use std::fs;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use strongroom_ctl::demo::memory::{self, MemoryError};
use strongroom_ctl::demo::stage::{AGENT_USER, KEYD_USER};
use strongroom_tests::prelude::*;
use strongroom_tests::strongroom::files_below;

/// Answers with the key in every way, and streams it where it is asked to.
fn echo(exchange: &mut Exchange<'_>) -> std::io::Result<()> {
    let got = exchange.head().value("authorization").unwrap_or_default();
    let body = String::from_utf8_lossy(&exchange.body()?).into_owned();
    if exchange.head().target().starts_with("/stream") {
        exchange.begin("200 OK", &[("content-type", "text/event-stream"), ("x-echo", &got)])?;
        for number in 0..5 {
            exchange.chunk(format!("data: {number} {got}\n\n").as_bytes())?;
        }
        return exchange.end(&[]);
    }
    exchange.respond("200 OK", &[("x-echo", &got)], format!("{{\"got\":\"{got}\",\"body\":\"{body}\"}}").as_bytes())
}

fn send_a_thousand(scene: &Scene) {
    let way = &scene.strongroom.ways()[0];
    std::thread::scope(|scope| {
        for worker in 0..4 {
            scope.spawn(move || {
                let mut connection = Connection::open(way).unwrap();
                for number in 0..250 {
                    let request = match number % 5 {
                        0 => scene.post("/openai/stream", b"{\"stream\":true}"),
                        1 => scene.post("/openai/v1/plain", format!("worker {worker} number {number}").as_bytes()),
                        _ => scene.get(&format!("/openai/v1/plain/{worker}/{number}?marker=canary-in-the-query")),
                    };
                    let answer = request.send_over(&mut connection).unwrap();
                    assert_eq!(answer.status(), 200, "{answer:?}");
                    let all = answer.bytes();
                    assert_eq!(Needles::of(scene.key.as_bytes()).find(&all), None);
                    assert!(
                        String::from_utf8_lossy(&all).contains("****************"),
                        "the upstream did echo it: {answer:?}"
                    );
                }
            });
        }
    });
    assert_eq!(scene.upstream.count(), 1_000);
    let right = format!("Bearer {}", scene.key);
    assert!(scene.upstream.received().iter().all(|request| request.head.values("authorization") == [right.as_str()]));
}

#[test]
#[ignore = "needs root: reads the memory of processes of other users"]
fn after_a_thousand_requests_the_key_is_in_no_place_but_the_upstream() {
    let scene = Scene::build(Strongroom::new(), echo);
    send_a_thousand(&scene);
    let strongroom = &scene.strongroom;
    let (keyd, gatewayd) = (strongroom.keyd(), strongroom.gatewayd());
    let needles = Needles::of(scene.key.as_bytes());

    let scan = memory::scan(gatewayd, &needles, &[scene.placeholder.as_bytes(), b"canary-in-the-query"]).unwrap();
    assert!(scan.canaries > 0, "the scan read nothing: {scan:?}");
    assert_eq!(scan.found, Vec::<String>::new(), "gatewayd's memory: {scan:?}");
    // The same scan does find what gatewayd holds: it can find.
    let found = memory::scan(gatewayd, &Needles::of(scene.placeholder.as_bytes()), &[]).unwrap();
    assert!(found.found.iter().any(|found| found.contains("literal")), "{found:?}");

    for pid in [keyd, gatewayd] {
        for file in ["environ", "cmdline", "status"] {
            let bytes = fs::read(format!("/proc/{pid}/{file}")).unwrap();
            assert_eq!(needles.find(&bytes), None, "/proc/{pid}/{file}");
        }
        let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
        let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
        assert_eq!(core.split_whitespace().filter(|word| *word == "0").count(), 2, "{core}");
    }

    let files = files_below(&strongroom.root());
    let names: Vec<_> =
        files.iter().map(|file| file.strip_prefix(strongroom.root()).unwrap().display().to_string()).collect();
    for part in ["data/vault", "data/audit/", "log/keyd.log", "log/gatewayd.log"] {
        assert!(names.iter().any(|name| name.starts_with(part)), "{part} was not looked at: {names:?}");
    }
    assert!(!names.iter().any(|name| name.contains("core")), "{names:?}");
    for (file, name) in files.iter().zip(&names) {
        assert_eq!(needles.find(&fs::read(file).unwrap()), None, "{name}");
    }
    let uses = strongroom.audit().iter().filter(|record| record["decision"] == "allowed").count();
    assert_eq!(uses, 1_000, "and each use is on record");
}

#[test]
fn an_answer_that_hides_a_key_by_its_encoding_does_not_pass() {
    let scene = Scene::with(|exchange| {
        let head = exchange.head();
        let asked = ["accept", "accept-charset", "a-im", "connect-accept-encoding"].map(|name| head.value(name));
        let key = head.value("authorization").unwrap_or_default();
        let wide: Vec<u8> = key.encode_utf16().flat_map(u16::to_be_bytes).collect();
        let marked = [b"\xfe\xff", &wide[..]].concat();
        match exchange.head().target() {
            "/asked" => exchange.respond("200 OK", &[], format!("{asked:?}").as_bytes()),
            "/labelled" => exchange.respond("200 OK", &[("content-type", "text/plain; charset=utf-16be")], &wide),
            "/marked" => exchange.respond("200 OK", &[("content-type", "text/plain")], &marked),
            "/table" => exchange.respond("200 OK", &[("content-type", "application/csv")], &marked),
            "/stored" => exchange.respond("200 OK", &[("x-goog-stored-content-encoding", "gzip")], key.as_bytes()),
            "/delta" => exchange.respond("226 IM Used", &[("im", "gzip")], b"x"),
            "/connect" => exchange.respond("200 OK", &[("connect-content-encoding", "gzip")], b"x"),
            "/twice" => exchange.respond("200 OK", &[("content-type", "a/b"), ("content-type", "c/d")], b"x"),
            _ => exchange.respond("200 OK", &[("content-type", "text/plain; charset=\"UTF-8\"")], key.as_bytes()),
        }
    });
    let ask = |path: &str| {
        let request = scene.get(&format!("/openai/{path}")).field("accept-charset", "utf-16").field("a-im", "gzip");
        request.field("accept", "text/plain;charset=utf-16be;q=1").field("connect-accept-encoding", "gzip")
    };
    assert_eq!(ask("asked").send().text(), r#"[Some("text/plain;q=1"), None, None, Some("identity")]"#);
    for path in ["plain", "stored"] {
        let plain = ask(path).send();
        assert!(plain.status() == 200 && plain.text().ends_with("****"), "the positive twin: {plain:?}");
    }
    for path in ["labelled", "delta", "connect"] {
        ask(path).send().assert_refused(Refusal::ResponseUnscrubbable);
    }
    ask("twice").send().assert_refused(Refusal::UpstreamProtocol);
    for path in ["marked", "table"] {
        let mut marked = ask(path).stream();
        assert!(marked.rest().is_err(), "{path}: its head went out before its first bytes came");
    }
    let right = format!("Bearer {}", scene.key);
    assert_eq!(scene.upstream.received().last().unwrap().head.values("authorization"), [right]);
}

/// One upstream says the key of another: who may use that one does not learn it so, and to who may not it is a text like any
/// other, whose masking would tell that it is a key.
#[test]
fn a_key_that_another_upstream_says_is_masked_for_who_may_use_it() {
    let said = Arc::new(Mutex::new(String::new()));
    let says = said.clone();
    let scene = Scene::with(move |exchange| {
        let text = says.lock().unwrap_or_else(PoisonError::into_inner).clone();
        exchange.respond("200 OK", &[("content-type", "text/plain")], text.as_bytes())
    });
    let key = scene.add_credential("elsewhere", &["--host", "api.elsewhere.example", "--bearer"]);
    scene.grant("elsewhere", AGENT, &[]);
    scene.strongroom.must(&["agent", "add", "other"]);
    let other = scene.grant(CREDENTIAL, "other", &[]);
    said.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&key);
    assert_eq!(scene.get("/openai/x").send().text(), "*".repeat(key.len()));
    assert_eq!(scene.strongroom.request("GET", "/openai/x").bearer(&other).send().text(), key, "its positive twin");
}

#[test]
fn no_command_shows_the_key() {
    let scene = Scene::with(echo);
    assert_eq!(scene.get("/openai/v1/x").send().status(), 200);
    let needles = Needles::of(scene.key.as_bytes());
    let commands: [&[&str]; 8] = [
        &["status", "--json"],
        &["credential", "list", "--json"],
        &["credential", "show", CREDENTIAL, "--json"],
        &["agent", "show", AGENT, "--json"],
        &["grant", "list", "--json"],
        &["audit", "--json"],
        &["audit"],
        &["doctor", "--json"],
    ];
    for command in commands {
        let output = scene.strongroom.ctl(command);
        assert_eq!(needles.find(format!("{output:?}").as_bytes()), None, "{command:?}");
        assert!(!output.stdout.is_empty(), "{command:?} said nothing: {output:?}");
    }
    assert!(
        scene.strongroom.must(&["grant", "list", "--json"]).contains(&scene.placeholder),
        "what may be shown is shown"
    );
}

#[test]
#[ignore = "needs root: acts under keyd's and other users"]
fn keyds_memory_is_unreadable_to_its_own_user() {
    let scene = Scene::with(echo);
    assert_eq!(scene.get("/openai/v1/x").send().status(), 200);
    // Opening is where the kernel checks; a child of the opener's own is what it may always open (Yama).
    let opens = |user: u32, script: &str| -> bool {
        let mut shell = Command::new("sh");
        shell.args(["-c", script]).uid(user).gid(user).current_dir("/").stdout(Stdio::null()).stderr(Stdio::null());
        shell.status().unwrap().success()
    };
    let ordinary = "sleep 30 & pid=$!; exec 3</proc/$pid/mem; seen=$?; kill $pid; exit $seen";
    assert!(opens(KEYD_USER, ordinary), "an ordinary process of that user can be opened, so the test can succeed");
    let keyd = scene.strongroom.keyd();
    assert_eq!(
        process::status_field(keyd, "Uid").unwrap().split_whitespace().next(),
        Some(KEYD_USER.to_string().as_str())
    );
    for file in ["mem", "environ", "maps", "auxv"] {
        assert!(!opens(KEYD_USER, &format!("exec 3</proc/{keyd}/{file}")), "{file} of keyd by its own user");
        assert!(!opens(AGENT_USER, &format!("exec 3</proc/{keyd}/{file}")), "{file} of keyd by an agent");
    }
    let gatewayd = scene.strongroom.gatewayd();
    assert!(!opens(AGENT_USER, &format!("exec 3</proc/{gatewayd}/mem")), "gatewayd's memory by an agent");
}

#[test]
#[ignore = "needs root: acts under an agent's user"]
fn an_agents_user_can_read_no_file_of_the_home() {
    let scene = Scene::with(echo);
    let strongroom = &scene.strongroom;
    let reads = |path: &std::path::Path| {
        let mut cat = Command::new("cat");
        cat.arg(path).uid(AGENT_USER).gid(AGENT_USER).current_dir("/").stdout(Stdio::null()).stderr(Stdio::null());
        cat.status().unwrap().success()
    };
    assert!(reads(&strongroom.write("for-all", "hello")), "what is open to all is read, so the test can succeed");
    let closed =
        files_below(&strongroom.root()).into_iter().filter(|file| !file.starts_with(&strongroom.home().config));
    let mut count = 0;
    for file in closed {
        let public = file.extension().is_some_and(|extension| extension == "pid" || extension == "began");
        assert!(public || !reads(&file), "{} is open to agents", file.display());
        count += 1;
    }
    assert!(count >= 4, "only {count} files were tried");
    for socket in [strongroom.home().admin_socket(), strongroom.home().gateway_socket()] {
        let output = process::run(strongroom.command(&["status", "--json"]).uid(AGENT_USER).gid(AGENT_USER), b"");
        assert_ne!(output.code, Some(0), "{} serves an agent's user: {output:?}", socket.display());
    }
}

#[test]
fn memory_that_may_not_be_read_is_said_so() {
    let scene = Scene::with(echo);
    let scan = memory::scan(scene.strongroom.keyd(), &Needles::of(scene.key.as_bytes()), &[]);
    // Root may read what is ordinary memory; nobody else may read anything.
    assert_eq!(scan.is_ok(), nix::unistd::geteuid().is_root(), "{scan:?}");
    if let Err(error) = scan {
        assert!(matches!(error, MemoryError::Forbidden(_)), "{error}");
    }
}

/// A tombstone's values are masked on until they are purged, and then there is nothing left to mask them by.
#[test]
fn a_purge_erases_the_values_of_all_that_had_the_name() {
    let scene = Scene::with(echo);
    let add = || scene.add_credential("again", &["--host", HOST, "--header", "x-api-key: {}"]);
    let remove = |how: &[&str]| scene.strongroom.must(&[&["credential", "remove", "again", "--yes"], how].concat());
    let first = add();
    remove(&[]);
    let second = add();
    let says_back = |key: &str| scene.post("/openai/x", key.as_bytes()).send().text().contains(key);
    assert!(!says_back(&first) && !says_back(&second), "both are masked");
    remove(&["--purge"]);
    assert!(says_back(&first) && says_back(&second), "neither value is there any more");
    scene.strongroom.ctl(&["credential", "remove", "again", "--purge", "--yes"]).assert_code(1);
}

/// Agents choose the paths, and people look at the log.
#[test]
fn no_path_steers_the_terminal_of_whoever_reads_the_audit_log_as_json() {
    let scene = Scene::with(echo);
    scene.get("/openai/a/%2e%2e%2f\u{9b}31m\u{202e}\u{85}").send().assert_refused(Refusal::BadRequest);
    let shown = within(Duration::from_secs(10), "it is on record", || {
        Some(scene.strongroom.must(&["audit", "--json"])).filter(|shown| shown.contains("%C2%9B31m"))
    });
    assert!(shown.contains("31m%E2%80%AE%C2%85"), "{shown}");
    assert!(shown.chars().all(|one| one == '\n' || !(one.is_control() || one == '\u{202e}')), "{shown}");
    scene.strongroom.must(&["audit", "verify"]);
}
