//! Whatever is put in wrongly: a clear error, nothing lost, no panic, no hang.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;

use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, UnixAddr, connect, send, socket};
use strongroom_protocol::frame;
use strongroom_tests::prelude::*;
use strongroom_tests::strongroom::random_key;

const USAGE: i32 = 64;
const CONFIGURATION: i32 = 78;

#[test]
fn arguments_that_make_no_sense_are_refused_with_words() {
    let scene = Scene::with(|exchange| exchange.respond("200 OK", &[], b""));
    let key = random_key("sk-");
    let wrong: &[&[&str]] = &[
        &["nonsense"],
        &["credential"],
        &["credential", "add"],
        &["credential", "nonsense", "x"],
        &["credential", "add", "x"],
        &["credential", "add", "x", "--bearer"],
        &["credential", "add", "x", "--host", "x.example"],
        &["credential", "add", "../x", "--host", "x.example", "--bearer"],
        &["credential", "add", "", "--host", "x.example", "--bearer"],
        &["credential", "add", "x", "--host", "http://x.example", "--bearer"],
        &["credential", "add", "x", "--host", "user@x.example", "--bearer"],
        &["credential", "add", "x", "--host", "x.example:0", "--bearer"],
        &["credential", "add", "x", "--host", "0x7f.1", "--bearer"],
        &["credential", "add", "x", "--host", "*.com", "--bearer"],
        &["credential", "add", "x", "--host", "x y.example", "--bearer"],
        &["credential", "add", "x", "--host", "x.example", "--header", "host: {}"],
        &["credential", "add", "x", "--host", "x.example", "--header", "x-api-key"],
        &["credential", "add", "x", "--host", "x.example", "--header", "x-api-key: {}{}"],
        &["credential", "add", "x", "--host", "x.example", "--bearer", "--ca", "/no/such/file"],
        &["credential", "add", "x", "--host", "x.example", "--bearer", "--ca", "/dev/null"],
        &["credential", "add", "x", "--provider", "no-such-provider"],
        &["credential", "add", "x", "--host", "x.example", "--bearer", "sk-a-key-as-an-argument"],
        &["agent", "add", "a b"],
        &["agent", "add"],
        &["grant", "add", CREDENTIAL],
        &["grant", "add", CREDENTIAL, "--agent", AGENT, "--rate", "0/hour"],
        &["grant", "add", CREDENTIAL, "--agent", AGENT, "--rate", "5/fortnight"],
        &["grant", "add", CREDENTIAL, "--agent", AGENT, "--rate", "many"],
        &["grant", "add", CREDENTIAL, "--agent", AGENT, "--expires", "-3d"],
        &["grant", "add", CREDENTIAL, "--agent", AGENT, "--expires", "soon"],
        &["grant", "add", CREDENTIAL, "--agent", AGENT, "--allow", "post /v1"],
        &["grant", "add", CREDENTIAL, "--agent", AGENT, "--allow", "GET v1"],
        &["audit", "--since", "yesterday"],
        &["completions", "no-such-shell"],
        &["status", "--no-such-option"],
        &["lock", "too", "many"],
    ];
    let before =
        (scene.strongroom.must(&["credential", "list", "--json"]), scene.strongroom.must(&["grant", "list", "--json"]));
    for arguments in wrong {
        let output = scene.strongroom.ctl_with(arguments, key.as_bytes());
        assert!(matches!(output.code, Some(1 | USAGE)), "{arguments:?}: {output:?}");
        assert!(!output.stderr.trim().is_empty() && output.stdout.is_empty(), "{arguments:?}: {output:?}");
        assert!(!output.stderr.contains("panicked") && !output.stderr.contains(&key), "{arguments:?}: {output:?}");
    }
    for arguments in
        [&["nonsense"][..], &["credential", "add"], &["status", "--no-such-option"], &["lock", "too", "many"]]
    {
        scene.strongroom.ctl(arguments).assert_code(USAGE);
    }
    let after =
        (scene.strongroom.must(&["credential", "list", "--json"]), scene.strongroom.must(&["grant", "list", "--json"]));
    assert_eq!(before, after);
    scene.strongroom.must_with(&["credential", "add", "x", "--host", "x.example", "--bearer"], key.as_bytes());
}

#[test]
fn what_is_missing_or_there_already_is_named() {
    let strongroom = Strongroom::new().start();
    let backup = strongroom.root().join("b1");
    let backup = backup.to_str().unwrap();
    strongroom.must(&["backup", backup]);
    for (arguments, words) in [
        (&["agent", "show", "nope"][..], "there is no agent 'nope'. Run 'strongroom agent list'"),
        (&["agent", "revoke", "nope"], "there is no agent 'nope'."),
        (&["credential", "show", "nope"], "there is no credential 'nope'."),
        (&["grant", "show", "c", "--agent", "nope"], "there is no grant of 'c' to 'nope'."),
        (&["env", "--agent", "nope"], "there is no agent 'nope'."),
        (&["slot", "remove", "99", "--yes"], "there is no slot 99."),
        (&["backup", backup], "b1 is there already. Choose another file."),
    ] {
        let output = strongroom.ctl(arguments);
        assert!(output.assert_code(1).stderr.contains(words), "{arguments:?}: {output:?}");
    }
    let nothing = strongroom.ctl(&["audit", "--agent", "nope", "--json"]);
    assert_eq!((nothing.code, nothing.stdout.as_str(), nothing.stderr.as_str()), (Some(0), "", "No line matches.\n"));
    assert_eq!(strongroom.ctl(&["audit"]).stderr, "");
}

/// Standard input is the key's alone: nobody is told to give the passphrase there.
#[test]
fn without_a_terminal_a_new_key_needs_its_passphrase_from_a_file() {
    let strongroom = Strongroom::new().start();
    let key = random_key("sk-");
    for arguments in
        [&["credential", "add", "q", "--host", "a.example", "--bearer"][..], &["credential", "rotate", "q"]]
    {
        let mut command = strongroom.command(arguments);
        let output = process::run(command.env_remove("STRONGROOM_PASSPHRASE_FILE"), key.as_bytes());
        output.assert_code(USAGE);
        assert!(
            output.stderr.contains("Give it with --passphrase-file FILE; standard input is the key's."),
            "{arguments:?}: {output:?}"
        );
    }
    let mut command = strongroom.command(&["agent", "add", "a"]);
    let output = process::run(command.env_remove("STRONGROOM_PASSPHRASE_FILE"), b"");
    assert!(output.assert_code(USAGE).stderr.contains("--passphrase-file FILE, or on standard input."), "{output:?}");
}

/// clap counts what the variable gives as given on the command line.
#[test]
fn the_passphrase_files_variable_is_in_no_usage() {
    let strongroom = Strongroom::new().created();
    let output = strongroom.ctl(&["env"]);
    assert!(output.assert_code(USAGE).stderr.contains("--agent <AGENT>"), "{output:?}");
    assert!(!output.stderr.contains("passphrase-file"), "{output:?}");
}

#[test]
fn values_that_cannot_be_keys_are_refused() {
    let strongroom = Strongroom::new().start();
    let long = vec![b'k'; 100_000];
    let random = random_key("sk-");
    let values: [&[u8]; 6] = [
        b"",
        b"\n",
        b"has a space in the middle 0123456789",
        b"has\ttab-0123456789abcdefghij",
        b"\xff\xfe0123456789abcdefghijkl\x00",
        &long,
    ];
    for value in values {
        let output = strongroom.ctl_with(&["credential", "add", "x", "--host", "x.example", "--bearer"], value);
        output.assert_code(1);
    }
    strongroom.must_with(&["credential", "add", "x", "--host", "x.example", "--bearer"], random.as_bytes());
}

#[test]
fn configuration_that_is_wrong_is_78_and_names_the_place() {
    let strongroom = Strongroom::new().created();
    strongroom.ctl(&["config", "check"]).assert_code(0);
    let home = strongroom.home();
    let cases = [
        (home.gatewayd_config(), "\nno-such-key = 1\n", "2"),
        (home.gatewayd_config(), "listen = 7\n", "1"),
        (home.gatewayd_config(), "listen = [\"nowhere\"]\n", "listen"),
        (home.gatewayd_config(), "listen = [\n", "1"),
        (home.gatewayd_config(), "[resolve]\n\"a b\" = \"127.0.0.1:1\"\n", "a b"),
        (home.gatewayd_config(), "[resolve]\n\"x.example\" = \"not an address\"\n", "not an address"),
        (home.gatewayd_config(), "[timeouts]\ndial = \"a while\"\n", "2"),
        (home.gatewayd_config(), "[limits]\nconnections = -1\n", "2"),
        (home.gatewayd_config(), "allow-private-upstreams = [\"10.0.0.0/99\"]\n", "10.0.0.0/99"),
        (home.keyd_config(), "\n\nno-such-key = 1\n", "3"),
        (home.keyd_config(), "admin-uids = \"me\"\n", "1"),
        (home.keyd_config(), "gateway-uid = -5\n", "1"),
        (home.keyd_config(), "admin-uids = [65534]\n", "65534 stands for nobody"),
        (home.keyd_config(), "auto-lock = \"a while\"\n", "1"),
    ];
    for (file, text, place) in cases {
        let right = fs::read(&file).unwrap();
        fs::write(&file, text).unwrap();
        let output = strongroom.ctl(&["config", "check"]);
        output.assert_code(CONFIGURATION);
        assert!(output.stderr.contains(place), "{text:?}: no {place:?} in {output:?}");
        let up = strongroom.ctl(&[&["up"], strongroom.users()].concat());
        up.assert_code(CONFIGURATION);
        fs::write(&file, right).unwrap();
    }
    fs::write(home.gatewayd_config(), b"listen = [\"\xff\xfe\"]").unwrap();
    strongroom.ctl(&["config", "check"]).assert_code(CONFIGURATION);
    fs::remove_file(home.gatewayd_config()).unwrap();
    strongroom.ctl(&["config", "check"]).assert_code(0);
}

#[test]
fn garbage_on_every_socket_harms_nobody() {
    let scene = Scene::with(|exchange| exchange.respond("200 OK", &[], b"hello"));
    let strongroom = &scene.strongroom;
    let pids = (strongroom.keyd(), strongroom.gatewayd());
    let frame = |version: u16, length: u32, payload: &[u8]| {
        [b"SR".as_slice(), &version.to_le_bytes(), &length.to_le_bytes(), payload].concat()
    };
    let pieces: Vec<Vec<u8>> = vec![
        Vec::new(),
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        (0..=255).collect(),
        vec![0; 70_000],
        frame(frame::VERSION, u32::MAX, b""),
        frame(frame::VERSION, 1_000, b"short"),
        frame(frame::VERSION, 4, b"\xff\xff\xff\xff"),
        frame(frame::VERSION, 12, &[0; 12]),
        frame(99, 1, b"\0"),
        frame(frame::VERSION, 0, b""),
    ];
    for piece in &pieces {
        for path in [strongroom.home().admin_socket(), strongroom.home().agent_socket()] {
            let mut socket = UnixStream::connect(&path).unwrap();
            // Being hung up on in the middle is a fine answer.
            let _ = socket.write_all(piece);
            let _ = socket.shutdown(std::net::Shutdown::Write);
            socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            match socket.read_to_end(&mut Vec::new()) {
                Ok(_) => {}
                Err(error) => {
                    assert_ne!(error.kind(), std::io::ErrorKind::WouldBlock, "{} hangs on {piece:?}", path.display())
                }
            }
        }
        let mut tcp = TcpStream::connect(strongroom.address()).unwrap();
        let _ = tcp.write_all(piece);
        let _ = tcp.shutdown(std::net::Shutdown::Write);
        tcp.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let end = tcp.read_to_end(&mut Vec::new());
        assert!(!end.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock), "TCP hangs on {piece:?}");

        let packets = socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None).unwrap();
        connect(packets.as_raw_fd(), &UnixAddr::new(&strongroom.home().gateway_socket()).unwrap()).unwrap();
        // Root is not gatewayd and is turned away; an ordinary user's own test is, and keyd hangs up on nonsense.
        let _ = send(packets.as_raw_fd(), piece, MsgFlags::MSG_NOSIGNAL);
    }
    assert_eq!((strongroom.keyd(), strongroom.gatewayd()), pids, "both live");
    let answer = within(Duration::from_secs(5), "service", || {
        Some(scene.get("/openai/x").send()).filter(|answer| answer.refusal().is_none())
    });
    assert_eq!(answer.text(), "hello");
    assert!(!strongroom.logs().contains("panicked"), "{}", strongroom.logs());
}

/// A configuration that somebody named and that is not there would narrow nothing.
#[test]
fn a_named_configuration_that_is_not_there_is_78() {
    let strongroom = Strongroom::new().created();
    for program in ["strongroom-keyd", "strongroom-gatewayd"] {
        for option in ["--config", "--check-config"] {
            let mut command = std::process::Command::new(strongroom_tests::programs::path(program));
            command.env_clear().env("STRONGROOM_HOME", strongroom.root()).args([option, "/no/such/file.toml"]);
            let output = process::run(&mut command, b"");
            assert_eq!(output.code, Some(78), "{program} {option}: {output:?}");
            assert!(output.stderr.contains("/no/such/file.toml"), "{output:?}");
        }
    }
}

#[test]
fn a_damaged_vault_is_said_so_and_left_alone() {
    let strongroom = Strongroom::new().created();
    let right = fs::read(strongroom.home().vault()).unwrap();
    let mut flipped = right.clone();
    flipped[right.len() / 2] ^= 1;
    for (what, bytes) in [
        ("flipped", flipped),
        ("short", right[..right.len() - 7].to_vec()),
        ("empty", Vec::new()),
        ("other", b"not a vault".to_vec()),
    ] {
        fs::write(strongroom.home().vault(), &bytes).unwrap();
        let up = strongroom.ctl(&[&["up"], strongroom.users()].concat());
        let unlock = strongroom.ctl(&["unlock"]);
        assert!(
            unlock.code != Some(0) && unlock.code != Some(77),
            "{what}: a damaged file is no wrong passphrase: {up:?} {unlock:?}"
        );
        assert!(!format!("{up:?}{unlock:?}").contains("panicked"), "{what}: {up:?} {unlock:?}");
        // Everything that looks at it says so, and not only who has the passphrase.
        let said = unlock.stderr.trim_start_matches("strongroom: ").trim_end();
        let (status, slots) = (strongroom.ctl(&["status"]), strongroom.ctl(&["slot", "list"]));
        assert!(status.code == Some(0) && status.stdout.contains(said), "{what}: {said} in {status:?}");
        assert!(slots.code == Some(1) && slots.stderr.contains(said), "{what}: {said} in {slots:?}");
        let doctor = strongroom.ctl(&["doctor"]);
        assert!(doctor.code == Some(1) && doctor.stdout.contains("The file cannot be used"), "{what}: {doctor:?}");
        assert_eq!(fs::read(strongroom.home().vault()).unwrap(), bytes, "{what}: the file was touched");
        strongroom.ctl(&["down"]);
    }
    fs::write(strongroom.home().vault(), &right).unwrap();
    strongroom.up();
    strongroom.must(&["unlock"]);
}
