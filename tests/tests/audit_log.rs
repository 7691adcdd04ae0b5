//! The log against whoever changes, moves, removes or cuts its files: it shows, or nothing is used meanwhile.

use std::fs;

use strongroom_tests::prelude::*;
use strongroom_tests::strongroom::files_below;

#[test]
fn the_audit_log_shows_that_it_was_changed() {
    let scene = Scene::with(|exchange| exchange.respond("200 OK", &[], b""));
    for number in 0..5 {
        assert_eq!(scene.get(&format!("/openai/number/{number}")).send().status(), 200);
    }
    let strongroom = &scene.strongroom;
    let whole: serde_json::Value = serde_json::from_str(&strongroom.must(&["audit", "verify", "--json"])).unwrap();
    let file = files_below(&strongroom.home().audit()).remove(0);
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replacen("/number/2", "/number/7", 1)).unwrap();
    let broken = strongroom.ctl(&["audit", "verify"]);
    broken.assert_code(1);
    let broken = strongroom.ctl(&["audit", "verify", "--json"]).json();
    let (at, lines) = (broken["broken_at"].as_u64().unwrap(), whole["lines"].as_u64().unwrap());
    assert!(whole["checkpoint"]["text"].is_string() && broken["checkpoint"].is_null(), "{broken}");
    assert!(1 < at && at < lines && broken["lines"] == at - 1, "{broken} of {lines}");
    fs::write(&file, &text).unwrap();
    strongroom.ctl(&["audit", "verify"]).assert_code(0);
}

/// As logrotate or an editor does it: nothing is used that nobody could read of.
#[test]
fn a_log_whose_file_is_renamed_stops_every_use_until_it_is_back() {
    let scene = Scene::with(|exchange| exchange.respond("200 OK", &[], b""));
    let strongroom = &scene.strongroom;
    assert_eq!(scene.get("/openai/before").send().status(), 200);
    let file = files_below(&strongroom.home().audit()).remove(0);
    let away = file.with_extension("jsonl.1");
    fs::rename(&file, &away).unwrap();
    let seen = scene.upstream.count();
    scene.get("/openai/unseen").send().assert_refused(Refusal::AuditUnavailable);
    assert_eq!(scene.upstream.count(), seen);
    assert_eq!(strongroom.status()["audit_broken"], true);
    assert!(strongroom.logs().contains("removed, renamed or replaced"), "{}", strongroom.logs());
    assert!(!file.exists(), "and no other takes its place");
    fs::rename(&away, &file).unwrap();
    let is_broken = |expected: bool| {
        within(Duration::from_secs(20), "status sees it", || {
            (strongroom.status()["audit_broken"] == expected).then_some(())
        });
    };
    is_broken(false);
    assert_eq!(scene.get("/openai/after").send().status(), 200);
    // Nobody has to ask for anything.
    fs::rename(&file, &away).unwrap();
    is_broken(true);
    fs::rename(&away, &file).unwrap();
    is_broken(false);
    strongroom.must(&["audit", "verify"]);
    strongroom.must(&["audit", "--yes", "verify"]);
    strongroom.ctl(&["audit", "--agent", "coder", "verify"]).assert_code(64);
    let audit = strongroom.audit();
    assert_eq!(audit.iter().filter(|line| line["event"] == "audit.gap").count(), 2);
    assert!(!audit.iter().any(|line| line["event"] == "audit.cut"), "nothing is missing");
}

#[test]
fn a_log_that_is_lost_says_itself_that_lines_are_missing() {
    let scene = Scene::with(|exchange| exchange.respond("200 OK", &[], b""));
    let strongroom = &scene.strongroom;
    let remove = || {
        files_below(&strongroom.home().audit()).iter().for_each(|file| fs::remove_file(file).unwrap());
    };
    let cuts = || -> Vec<_> { strongroom.audit().into_iter().filter(|line| line["event"] == "audit.cut").collect() };
    assert_eq!(scene.get("/openai/secret/deed").send().status(), 200);
    // While it is written: what can be done is to unlock anew.
    remove();
    scene.get("/openai/x").send().assert_refused(Refusal::AuditUnavailable);
    strongroom.must(&["lock"]);
    strongroom.must(&["unlock"]);
    assert_eq!(scene.get("/openai/x").send().status(), 200);
    let lost = cuts();
    assert_eq!(lost.len(), 1, "{lost:?}");
    assert!(lost[0]["lines_lost"].as_u64() > Some(2), "{lost:?}");
    // Across a restart the vault knows.
    remove();
    strongroom.must(&["down"]);
    strongroom.up();
    strongroom.must(&["unlock"]);
    let generation = strongroom.status()["generation"].clone();
    let lost = cuts();
    assert_eq!(lost.len(), 1, "{lost:?}");
    assert_eq!((&lost[0]["generation"], &lost[0]["log_generation"]), (&generation, &0.into()));
    assert!(strongroom.logs().contains("lines are missing at the end of the audit log"));
    assert_eq!(scene.get("/openai/x").send().status(), 200);
    strongroom.must(&["audit", "verify"]);
    strongroom.must(&["down"]);
    strongroom.up();
    strongroom.must(&["unlock"]);
    assert_eq!(cuts(), lost, "said once");
}

/// The twin: a crash right after changes of every kind is no cut.
#[test]
fn a_log_of_which_nothing_is_missing_is_never_said_to_be_cut() {
    let scene = Scene::with(|exchange| exchange.respond("200 OK", &[], b""));
    let strongroom = &scene.strongroom;
    let crash = || {
        let keyd = strongroom.keyd();
        process::signal(keyd, process::Signal::SIGKILL);
        process::wait_until_gone(keyd, Duration::from_secs(5));
        strongroom.up();
        strongroom.must(&["unlock"]);
        let audit = strongroom.audit();
        let alarms = audit.iter().filter(|line| line["event"] == "audit.cut" || line["event"] == "vault.rolled-back");
        assert_eq!(alarms.count(), 0, "{audit:#?}");
    };
    std::thread::scope(|scope| {
        for name in ["one", "two", "three", "four"] {
            scope.spawn(move || strongroom.must(&["agent", "add", name]));
        }
    });
    crash();
    let backup = strongroom.root().join("backup").to_str().unwrap().to_owned();
    strongroom.must(&["backup", &backup]);
    strongroom.must(&["credential", "remove", CREDENTIAL, "--purge", "--yes"]);
    crash();
    strongroom.must(&["restore", &backup, "--yes"]);
    crash();
}

#[test]
fn lines_that_were_cut_off_under_a_lock_show_against_a_checkpoint() {
    let scene = Scene::with(|exchange| exchange.respond("200 OK", &[], b""));
    let strongroom = &scene.strongroom;
    let checkpoint = || strongroom.must(&["audit", "verify"]).rsplit_once(": ").unwrap().1.to_owned();
    let against = |kept: &str| strongroom.ctl(&["audit", "verify", "--checkpoint", kept]);
    let before = checkpoint();
    against(&before).assert_code(0);
    assert_eq!(scene.get("/openai/secret/deed").send().status(), 200);
    let after = checkpoint();
    for kept in [&before, &after] {
        against(kept).assert_code(0);
    }

    strongroom.must(&["lock"]);
    let file = files_below(&strongroom.home().audit()).remove(0);
    let text = fs::read_to_string(&file).unwrap();
    let deed = text.lines().take_while(|line| !line.contains("/secret/deed")).map(|line| format!("{line}\n"));
    fs::write(&file, deed.collect::<String>()).unwrap();
    strongroom.must(&["unlock"]);

    strongroom.must(&["audit", "verify"]);
    against(&before).assert_code(0);
    let cut = against(&after);
    cut.assert_code(1);
    assert!(cut.stderr.contains("cut off"), "{cut:?}");
    // As many lines again do not hide it.
    for _ in 0..5 {
        assert_eq!(scene.get("/openai/other/deed").send().status(), 200);
    }
    against(&after).assert_code(1);
    let shown = strongroom.ctl(&["audit", "verify", "--json", "--checkpoint", &after]);
    assert_eq!(shown.json()["goes_on_from_checkpoint"], false);
    against("12 abc").assert_code(64);
}
