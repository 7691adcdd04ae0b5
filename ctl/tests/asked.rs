//! What the program asks keyd, and in which order, where nobody sits at a terminal.
//!
//! Runs the built program with a keyd of the test's own, which knows one of each kind and notes what it is asked.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use strongroom_protocol::admin::{
    AgentView, CredentialView, Failure, KeyDerivation, Operation, Reply, Request, SlotKind, SlotView, Status, Thing,
    VaultState,
};
use strongroom_protocol::frame::{self, ADMIN_LIMIT, HEADER};
use strongroom_protocol::home::Home;

#[test]
fn what_is_not_there_fails_before_any_question() {
    for (there, missing) in [
        (&["credential", "remove", "known"][..], &["credential", "remove", "nosuch"][..]),
        (&["credential", "remove", "known", "--purge"], &["credential", "remove", "nosuch", "--purge"]),
        (&["agent", "remove", "known"], &["agent", "remove", "nosuch"]),
        (&["slot", "remove", "1"], &["slot", "remove", "9"]),
    ] {
        let (output, operations) = run(missing);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{missing:?}: {said}");
        assert!(said.contains("there is no") && said.contains(missing[2]), "{missing:?}: {said}");
        assert!(!operations.contains(&"Status".to_owned()), "no passphrase is asked for: {operations:?}");
        // What is there still needs the answer, and is left alone without.
        let (output, operations) = run(there);
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(64) && said.contains("say --yes"), "{there:?}: {said}");
        assert!(!operations.iter().any(|one| one.contains("Remove")), "{there:?}: {operations:?}");
        let (output, operations) = run(&[there, &["--yes"]].concat());
        assert_eq!(output.status.code(), Some(0), "{there:?}");
        assert!(operations.last().is_some_and(|one| one.contains("Remove")), "{there:?}: {operations:?}");
    }
}

#[test]
fn an_agent_with_another_ones_uid_is_added_with_a_warning() {
    let (output, operations) = run(&["agent", "add", "new", "--uid", "61011", "--uid", "61010"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(0) && operations.contains(&"AgentAdd".to_owned()), "{said}");
    assert!(said.contains("uid 61010 is bound to other agents too (known)") && !said.contains("61011"), "{said}");
    assert!(output.stdout.is_empty());
    let (output, _) = run(&["agent", "add", "new", "--uid", "61011"]);
    assert_eq!((output.status.code(), output.stderr), (Some(0), vec![]));
}

/// Exit code and words, and what keyd was asked.
fn run(words: &[&str]) -> (Output, Vec<String>) {
    let folder = tempfile::tempdir().unwrap();
    let home = Home::under(&folder.path().join("home"));
    for directory in [&home.config, &home.data, &home.run] {
        fs::DirBuilder::new().recursive(true).mode(0o755).create(directory).unwrap();
    }
    let passphrase = folder.path().join("passphrase");
    fs::write(&passphrase, "correct horse").unwrap();
    let operations = serve(&home);
    let output = Command::new(env!("CARGO_BIN_EXE_strongroom"))
        .args(words)
        .env("STRONGROOM_HOME", folder.path().join("home"))
        .env("STRONGROOM_PASSPHRASE_FILE", &passphrase)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let operations = operations.lock().unwrap().clone();
    (output, operations)
}

/// Serves admin.sock until the test ends; notes the names of what it is asked.
fn serve(home: &Home) -> Arc<Mutex<Vec<String>>> {
    let listener = UnixListener::bind(home.admin_socket()).unwrap();
    let operations = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&operations);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            while let Some(operation) = receive(&mut stream) {
                let text = format!("{operation:?}");
                noted.lock().unwrap().push(text.split([' ', '(']).next().unwrap().to_owned());
                stream.write_all(&frame::encode(&answer(operation), ADMIN_LIMIT).unwrap()).unwrap();
            }
        }
    });
    operations
}

fn receive(stream: &mut UnixStream) -> Option<Operation> {
    let mut header = [0; HEADER];
    stream.read_exact(&mut header).ok()?;
    let mut payload = vec![0; frame::payload_length(&header, ADMIN_LIMIT).unwrap()];
    stream.read_exact(&mut payload).unwrap();
    Some(frame::decode::<Request>(&payload).unwrap().operation)
}

fn answer(operation: Operation) -> Reply {
    let is_known = |name: &strongroom_protocol::Name| name.as_str() == "known";
    match operation {
        Operation::Status => Reply::Status(status()),
        Operation::CredentialShow { name } if is_known(&name) => {
            Reply::Credentials { items: vec![credential()], more: false }
        }
        Operation::CredentialRemove { name, .. } if is_known(&name) => Reply::Done,
        Operation::CredentialShow { .. } | Operation::CredentialRemove { .. } => {
            Reply::Failed(Failure::NoSuch(Thing::Credential))
        }
        Operation::AgentShow { name } if is_known(&name) => Reply::Agents { items: vec![agent()], more: false },
        Operation::AgentList { after: None } => Reply::Agents { items: vec![agent()], more: false },
        Operation::AgentAdd { .. } => Reply::Done,
        Operation::AgentRemove { name } if is_known(&name) => Reply::Done,
        Operation::AgentShow { .. } | Operation::AgentRemove { .. } => Reply::Failed(Failure::NoSuch(Thing::Agent)),
        Operation::SlotList => {
            let one = |id| SlotView { id, kind: SlotKind::Passphrase, added: None, by: None };
            Reply::Slots(vec![one(0), one(1)])
        }
        Operation::SlotRemove { id: 1 } => Reply::Done,
        _ => Reply::Failed(Failure::Internal),
    }
}

/// The cheapest derivation that is accepted.
fn status() -> Status {
    Status {
        version: "0".to_owned(),
        state: VaultState::Unlocked,
        keyd_pid: std::process::id(),
        gatewayd_pid: None,
        exchanges: 0,
        unlock: Some(KeyDerivation { salt: [0; 16], memory_kib: 19 * 1024, passes: 2, lanes: 1 }),
        generation: Some(1),
        audit_broken: false,
        mismatches: vec![],
    }
}

fn credential() -> CredentialView {
    CredentialView {
        name: "known".parse().unwrap(),
        provider: None,
        hosts: vec![],
        sites: vec![],
        route: None,
        roots: 0,
        variables: vec![],
        deny: vec![],
        version: 1,
        rotated: 0,
        created: 0,
        scrubbed: true,
        grants: 0,
        http2: false,
        pins: vec![],
        keep_cookies: false,
        allow_range: false,
    }
}

fn agent() -> AgentView {
    AgentView {
        name: "known".parse().unwrap(),
        created: 0,
        revoked: None,
        grants: 0,
        uids: vec![61_010],
        unit: None,
        token: false,
        egress: vec![],
    }
}
