//! Tests of the log's writer: rotation, recovery, and a disk that fills up.
#![allow(clippy::unwrap_used)]

use std::fs;

use super::*;
use crate::audit::record::tests::{at, request};

pub const KEY: [u8; 32] = [0x55; 32];

pub fn log(directory: &Path) -> AuditLog {
    try_open(directory).unwrap()
}

fn try_open(directory: &Path) -> Result<AuditLog, AuditError> {
    let mut log = AuditLog::open(directory)?;
    log.unlocked(&KEY)?;
    Ok(log)
}

impl AuditLog {
    pub fn head(&self) -> Head {
        self.chain.as_ref().expect("unlocked").head
    }
}

fn record() -> Record {
    request("request-1", "coder", "openai")
}

fn text(directory: &Path, number: u32) -> String {
    fs::read_to_string(files::path_of(directory, number)).unwrap()
}

fn assert_whole(log: &AuditLog) {
    let verified = log.verify(&KEY, 0).unwrap();
    assert_eq!((verified.broken_at, verified.end, verified.next), (None, true, log.head().next));
}

#[test]
fn lines_are_numbered_chained_and_private() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path().join("audit");
    let mut log = log(&directory);
    assert_eq!(log.append(&record(), at(1)).unwrap(), 1);
    assert_eq!(log.append(&record(), at(2)).unwrap(), 2);
    let text = text(&directory, 1);
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(Stamp::of(lines[0].as_bytes()).unwrap(), Stamp { seq: 1, before: Link::FIRST });
    let after_first = Link::FIRST.next(&KEY, lines[0].as_bytes());
    assert_eq!(Stamp::of(lines[1].as_bytes()).unwrap(), Stamp { seq: 2, before: after_first });
    assert_whole(&log);
    use std::os::unix::fs::MetadataExt;
    assert_eq!(fs::metadata(&directory).unwrap().mode() & 0o777, 0o700);
    assert_eq!(fs::metadata(files::path_of(&directory, 1)).unwrap().mode() & 0o777, 0o600);
}

#[test]
fn a_log_goes_on_where_it_stopped_and_across_files() {
    let directory = tempfile::tempdir().unwrap();
    for round in 0..4 {
        let mut log = log(directory.path());
        log.rotate_at = 2000;
        assert_eq!(log.head().next, round * 10 + 1);
        for number in 0..10 {
            log.append(&record(), at(number)).unwrap();
        }
        assert_whole(&log);
    }
    let numbers = files::numbers(directory.path()).unwrap();
    assert!(numbers.len() > 4, "{numbers:?}");
    for &number in &numbers {
        assert!(text(directory.path(), number).len() <= 2000);
    }
    // A file that was begun and never written to, as a crash leaves it.
    File::create(files::path_of(directory.path(), numbers.last().unwrap() + 1)).unwrap();
    let mut log = log(directory.path());
    log.append(&record(), at(0)).unwrap();
    assert_whole(&log);
}

#[test]
fn a_torn_tail_is_cut_and_noted() {
    let directory = tempfile::tempdir().unwrap();
    let mut first = log(directory.path());
    first.append(&record(), at(1)).unwrap();
    first.append(&record(), at(2)).unwrap();
    drop(first);
    let whole = text(directory.path(), 1);
    let second_line = whole.lines().next().unwrap().len() + 1;
    for kept in second_line + 1..whole.len() - 1 {
        fs::write(files::path_of(directory.path(), 1), &whole[..kept]).unwrap();
        let mut log = log(directory.path());
        assert_eq!(log.append(&record(), at(3)).unwrap(), 3, "one whole line, then the note");
        assert_whole(&log);
        let text = text(directory.path(), 1);
        let note: serde_json::Value = serde_json::from_str(text.lines().nth(1).unwrap()).unwrap();
        assert_eq!((&note["event"], &note["bytes_cut"]), (&"audit.recovered".into(), &(kept - second_line).into()));
    }
    // The twin: an end that is whole is not touched and nothing is noted.
    fs::write(files::path_of(directory.path(), 1), &whole).unwrap();
    assert_eq!(log(directory.path()).head().next, 3);
    assert_eq!(text(directory.path(), 1), whole);
}

#[test]
fn a_torn_first_line_is_cut_too() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(files::path_of(directory.path(), 1), "{\"seq\":1,\"ti").unwrap();
    let mut log = log(directory.path());
    assert_eq!(log.append(&record(), at(1)).unwrap(), 2);
    assert_whole(&log);
}

#[test]
fn a_log_with_a_foreign_end_is_not_continued() {
    let directory = tempfile::tempdir().unwrap();
    log(directory.path()).append(&record(), at(1)).unwrap();
    let good = text(directory.path(), 1);
    for bad in [
        format!("{good}garbage\n"),
        "\n".to_owned(),
        format!("{}\n", "x".repeat(3 * LONGEST_LINE)),
        "x".repeat(3 * LONGEST_LINE),
    ] {
        fs::write(files::path_of(directory.path(), 1), &bad).unwrap();
        assert!(matches!(try_open(directory.path()), Err(AuditError::Damaged { .. })));
        assert_eq!(text(directory.path(), 1), bad, "and not touched");
    }
    fs::write(files::path_of(directory.path(), 1), &good).unwrap();
    assert_eq!(log(directory.path()).head().next, 2);
    // Later files without the earlier: the chain's value is lost.
    fs::rename(files::path_of(directory.path(), 1), directory.path().join("elsewhere")).unwrap();
    File::create(files::path_of(directory.path(), 2)).unwrap();
    assert!(matches!(try_open(directory.path()), Err(AuditError::Damaged { .. })));
}

#[test]
fn a_record_that_is_too_long_is_refused_and_harms_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let mut log = log(directory.path());
    let Record::Request(mut long) = record() else { panic!("a request") };
    long.path = Some("/".repeat(LONGEST_LINE));
    assert!(matches!(log.append(&Record::Request(long.clone()), at(1)), Err(AuditError::TooLong(_))));
    // Sixteen KiB of characters that JSON writes as six each still fit.
    long.path = Some("\u{1}".repeat(16 * 1024));
    assert_eq!(log.append(&Record::Request(long), at(1)).unwrap(), 1);
    assert_whole(&log);
    assert_eq!(log.read(0, &Filter::default()).unwrap().lines.len(), 1);
}

#[test]
fn without_the_key_nothing_is_written_and_with_it_the_log_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let mut log = AuditLog::open(directory.path()).unwrap();
    assert!(matches!(log.append(&record(), at(1)), Err(AuditError::Locked)));
    assert!(matches!(log.verify(&KEY, 0), Err(AuditError::Locked)));
    for round in 0..3 {
        log.unlocked(&KEY).unwrap();
        assert_eq!(log.append(&record(), at(1)).unwrap(), round + 1);
        log.locked();
        assert!(matches!(log.append(&record(), at(1)), Err(AuditError::Locked)));
        assert_eq!(log.read(0, &Filter::default()).unwrap().next, round + 2, "reading needs no key");
    }
    log.unlocked(&KEY).unwrap();
    assert_whole(&log);
}

#[test]
fn the_file_to_sync_is_the_one_that_lines_go_to() {
    let directory = tempfile::tempdir().unwrap();
    let mut log = log(directory.path());
    log.append(&record(), at(1)).unwrap();
    let first = log.file();
    log.rotate_at = 1;
    log.append(&record(), at(1)).unwrap();
    let second = log.file();
    assert_eq!(first.metadata().unwrap().len(), text(directory.path(), 1).len() as u64);
    assert_eq!(second.metadata().unwrap().len(), text(directory.path(), 2).len() as u64);
    assert!(!Arc::ptr_eq(&first, &second));
}

/// `rm`, `mv` as logrotate does it, a directory that is moved, and `sed -i`, which leaves a copy in the name's place.
#[test]
fn a_file_that_lost_its_name_is_not_written_and_goes_on_when_it_is_back() {
    let directory = tempfile::tempdir().unwrap();
    let (audit, away) = (directory.path().join("audit"), directory.path().join("away"));
    let mut log = log(&audit);
    let path = files::path_of(&audit, 1);
    let away_with = |from: &Path| fs::rename(from, &away).unwrap();
    let back_to = |to: &Path| fs::rename(&away, to).unwrap();
    let moved = [(&|| away_with(&path)) as &dyn Fn(), &|| away_with(&audit), &|| {
        away_with(&path);
        fs::copy(&away, &path).unwrap();
    }];
    for (at, (lose, find)) in moved.into_iter().zip([&path, &audit, &path]).enumerate() {
        log.append(&record(), at_second(at)).unwrap();
        let (head, length) = (log.head(), log.file().metadata().unwrap().len());
        assert!(log.in_place().is_ok());
        lose();
        for _ in 0..2 {
            assert!(matches!(log.in_place(), Err(AuditError::Gone { .. })), "{at}");
            assert!(matches!(log.append(&record(), at_second(at)), Err(AuditError::Gone { .. })), "{at}");
        }
        assert_eq!((log.head(), log.file().metadata().unwrap().len()), (head, length), "{at}");
        back_to(find);
        log.append(&record(), at_second(at)).unwrap();
        assert_whole(&log);
    }
    // Whoever has locked the vault may move it as they like.
    log.locked();
    fs::rename(&path, &away).unwrap();
    assert!(log.in_place().is_ok());
    fs::rename(&away, &path).unwrap();
    assert_eq!(log.unlocked(&KEY).unwrap().lines_lost, 0);
    assert_eq!(log.append(&record(), at(9)).unwrap(), 7);
    assert_whole(&log);
}

fn at_second(number: usize) -> SystemTime {
    at(number as u64)
}

#[test]
fn a_log_that_is_lost_begins_anew_with_the_next_unlocking_and_knows_how_much_is_missing() {
    let directory = tempfile::tempdir().unwrap();
    let mut log = log(directory.path());
    for number in 0..5 {
        log.append(&record(), at(number)).unwrap();
    }
    // A copy that was put back is the log, though it is another file.
    let path = files::path_of(directory.path(), 1);
    let whole = text(directory.path(), 1);
    fs::remove_file(&path).unwrap();
    fs::write(&path, &whole).unwrap();
    assert!(matches!(log.append(&record(), at(5)), Err(AuditError::Gone { .. })));
    assert_eq!(log.unlocked(&KEY).unwrap(), Found { generation: None, lines_lost: 0 });
    assert_eq!(log.append(&record(), at(5)).unwrap(), 6);
    assert_whole(&log);
    // Cut back while the vault was locked.
    log.locked();
    fs::write(&path, &whole).unwrap();
    assert_eq!(log.unlocked(&KEY).unwrap(), Found { generation: None, lines_lost: 1 });
    // Lost altogether.
    fs::remove_file(&path).unwrap();
    assert!(log.append(&record(), at(6)).is_err());
    assert_eq!(log.unlocked(&KEY).unwrap(), Found { generation: Some(0), lines_lost: 5 });
    assert_eq!(log.append(&record(), at(7)).unwrap(), 1);
    assert_whole(&log);
    assert_eq!(log.unlocked(&KEY).unwrap().lines_lost, 0, "said once");
}

/// A limit on file sizes stands in for a full disk: the kernel writes what fits and refuses the rest. The limit is the
/// process's, so the same test runs itself as a child.
#[test]
fn a_full_disk_refuses_keeps_the_log_valid_and_heals_by_itself() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    use nix::sys::signal::{SigSet, Signal};

    if std::env::var_os("STRONGROOM_TEST_FULL_DISK").is_none() {
        let status = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "audit::writer::tests::a_full_disk_refuses_keeps_the_log_valid_and_heals_by_itself"])
            .env("STRONGROOM_TEST_FULL_DISK", "1")
            .stdout(std::process::Stdio::null())
            .status()
            .unwrap();
        assert!(status.success());
        return;
    }
    // Blocked, the signal that comes with the limit is an error of the write instead.
    SigSet::from(Signal::SIGXFSZ).thread_block().unwrap();
    let (_, hard) = getrlimit(Resource::RLIMIT_FSIZE).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let mut log = log(directory.path());
    log.append(&record(), at(1)).unwrap();
    let one = text(directory.path(), 1);
    for room in [0, 1, 100, one.len() - 1] {
        let before = text(directory.path(), 1);
        let head = log.head();
        setrlimit(Resource::RLIMIT_FSIZE, u64::try_from(before.len() + room).unwrap(), hard).unwrap();
        assert!(matches!(log.append(&record(), at(2)), Err(AuditError::Write { .. })), "{room} bytes of room");
        assert_eq!(log.head(), head);
        assert_eq!(text(directory.path(), 1), before, "no part of a line is left");
        setrlimit(Resource::RLIMIT_FSIZE, hard, hard).unwrap();
        log.append(&record(), at(3)).unwrap();
        assert_whole(&log);
    }
    // A torn tail found while the disk is full is noted when there is room.
    drop(log);
    let whole = text(directory.path(), 1);
    fs::write(files::path_of(directory.path(), 1), format!("{whole}{{\"torn")).unwrap();
    setrlimit(Resource::RLIMIT_FSIZE, u64::try_from(whole.len()).unwrap(), hard).unwrap();
    let mut log = try_open(directory.path()).unwrap();
    assert_eq!(text(directory.path(), 1), whole);
    assert!(log.append(&record(), at(4)).is_err());
    setrlimit(Resource::RLIMIT_FSIZE, hard, hard).unwrap();
    log.append(&record(), at(5)).unwrap();
    assert!(text(directory.path(), 1).contains("\"bytes_cut\":6}"));
    assert_whole(&log);
}

#[test]
fn the_worked_example_in_audit_md_is_true() {
    let directory = tempfile::tempdir().unwrap();
    let mut log = log(directory.path());
    let event = Event::by(EventKind::VaultUnlock, 1000).at_generation(4);
    log.append(&Record::Event(event), at(0)).unwrap();
    log.append(&record(), at(1)).unwrap();
    let made = format!("{}head {}\n", text(directory.path(), 1), log.head().link.to_hex());
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("AUDIT.md")).unwrap();
    let written =
        page.split("```text\n").nth(1).and_then(|rest| rest.split("```").next()).expect("AUDIT.md has a block of text");
    assert_eq!(written, made);
}
