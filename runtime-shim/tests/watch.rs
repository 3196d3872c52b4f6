//! `gristmill watch`, `gristmill build`: what changes is built and takes the place
//! of what runs.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

mod support;

use std::path::Path;

use support::{App, get, gristmill, output, wait_for, wasm_file, with_probe, worker};

/// `app` is made from the wasm that `which.txt` names.
fn manifest() -> String {
    let rest = format!(
        r#"{}
        [[trigger.http]]
        route = "/sleep/..."
        component = "app"
        [component.app]
        source = "made/app.wasm"
        key_value_stores = ["counters"]
        [component.app.build]
        command = ["mkdir -p ../made", "echo one >> tries", "cp \"$(cat which.txt)\" ../made/app.wasm"]
        workdir = "app"
        watch = ["*.txt"]
        "#,
        worker("", "")
    );
    with_probe("watch", &rest)
}

fn choose(dir: &Path, guest: &str) {
    std::fs::create_dir_all(dir.join("app")).unwrap();
    let file = wasm_file(guest).display().to_string();
    std::fs::write(dir.join("app/which.txt"), file).unwrap();
}

fn start() -> App {
    App::watch(&manifest(), |dir| choose(dir, "guest_probe"))
}

fn is_probe(app: &App) -> bool {
    get(&app.url("/sleep/0")) == (200, "awake".to_owned())
}

/// The source changes, its component is built, and takes over; messages go on.
#[test]
fn a_change_is_built_and_swapped() {
    let app = start();
    assert!(is_probe(&app));
    for n in 0..50 {
        app.send("jobs", &format!("before {n}"));
    }
    choose(app.dir(), "counter");
    for n in 0..50 {
        app.send("jobs", &format!("while {n}"));
    }
    wait_for("the other wasm", || (!is_probe(&app)).then_some(()));
    wait_for("every message", || {
        (app.depth("jobs") == (0, 0, 0)).then_some(())
    });
    for when in ["before", "while"] {
        for n in 0..50 {
            let (_, attempts) = get(&app.url(&format!("/probe/kv/attempts/{when}-{n}")));
            assert_eq!(attempts.lines().count(), 1, "{when} {n}");
        }
    }
    let log = app.log();
    assert!(log.contains("Building app: cp"), "{log}");
    assert!(log.contains("app/which.txt"), "{log}");
}

/// Mistakes are told, and change nothing; what repairs them does.
#[test]
fn mistakes_leave_running_what_runs() {
    let app = start();
    std::fs::write(app.dir().join("app/which.txt"), "/nowhere.wasm").unwrap();
    wait_for("the failed build", || {
        app.log()
            .contains("building component `app` failed")
            .then_some(())
    });
    assert!(is_probe(&app));

    std::fs::write(app.dir().join("spin.toml"), "nonsense").unwrap();
    wait_for("the bad manifest", || {
        app.log().contains("malformed").then_some(())
    });
    assert!(is_probe(&app));

    choose(app.dir(), "counter");
    std::fs::write(app.dir().join("spin.toml"), manifest()).unwrap();
    wait_for("the repaired application", || {
        (!is_probe(&app)).then_some(())
    });
}

/// Further files that are read count as well, and so does wasm that others build.
#[test]
fn without_builds_the_wasm_is_followed() {
    let app = App::watch_with(&manifest(), &["--skip-build"], |dir| {
        std::fs::create_dir(dir.join("made")).unwrap();
        std::fs::copy(wasm_file("guest_probe"), dir.join("made/app.wasm")).unwrap();
    });
    assert!(is_probe(&app));
    let partial = app.dir().join("made/app.partial");
    std::fs::copy(wasm_file("counter"), &partial).unwrap();
    std::fs::rename(&partial, app.dir().join("made/app.wasm")).unwrap();
    wait_for("the other wasm", || (!is_probe(&app)).then_some(()));

    let reloads = || app.metric("gristmill_reloads_total", "done") as u64;
    let before = reloads();
    std::fs::write(app.dir().join(".env"), "SPIN_VARIABLE_X=1\n").unwrap();
    wait_for("a reload", || (reloads() > before).then_some(()));
    assert!(!app.log().contains("Building"), "{}", app.log());
}

/// A repaired component does not leave behind those that changed with it.
#[test]
fn what_a_failed_build_left_undone_stays_due() {
    let second = r#"
        [component.zebra]
        source = "made/zebra.wasm"
        [component.zebra.build]
        command = "mkdir -p made && cp zebra.txt made/zebra.wasm"
        watch = ["zebra.txt"]
        "#;
    let app = App::watch(&format!("{}{second}", manifest()), |dir| {
        choose(dir, "guest_probe");
        std::fs::write(dir.join("zebra.txt"), "one").unwrap();
    });
    std::fs::write(app.dir().join("zebra.txt"), "two").unwrap();
    std::fs::write(app.dir().join("app/which.txt"), "/nowhere.wasm").unwrap();
    wait_for("the failed build", || {
        app.log()
            .contains("building component `app` failed")
            .then_some(())
    });
    choose(app.dir(), "counter");
    wait_for("the repaired component", || (!is_probe(&app)).then_some(()));
    let zebra = std::fs::read_to_string(app.dir().join("made/zebra.wasm")).unwrap();
    assert_eq!(zebra, "two");
}

/// The first start may fail, too: the next change tries again.
#[test]
fn a_first_start_that_fails_waits_for_a_change() {
    let app = App::watch(&manifest(), |dir| {
        choose(dir, "guest_probe");
        std::fs::write(dir.join("app/which.txt"), "/nowhere.wasm").unwrap();
        let dir = dir.to_owned();
        std::thread::spawn(move || {
            wait_for("the failed build", || {
                let log = std::fs::read_to_string(dir.join("app/tries")).unwrap_or_default();
                log.contains("one").then_some(())
            });
            choose(&dir, "guest_probe");
        });
    });
    assert!(is_probe(&app));
}

#[test]
fn build_runs_the_commands_and_tells_which_failed() {
    let dir = tempfile::tempdir().unwrap();
    choose(dir.path(), "guest_probe");
    std::fs::write(dir.path().join("spin.toml"), manifest()).unwrap();
    let built = output(gristmill(dir.path()).arg("build"));
    assert!(built.status.success(), "{built:?}");
    assert!(dir.path().join("made/app.wasm").is_file());

    std::fs::write(dir.path().join("app/which.txt"), "/nowhere.wasm").unwrap();
    let failed = output(gristmill(dir.path()).args(["build", "--component", "app"]));
    assert_eq!(failed.status.code(), Some(1));
    let said = String::from_utf8_lossy(&failed.stderr).into_owned();
    assert!(
        said.contains("building component `app` failed: `cp \"$(cat which.txt)\" ../made/app.wasm` ended with exit status: 1"),
        "{said}"
    );

    let unknown = output(gristmill(dir.path()).args(["build", "--component", "ghost"]));
    assert_eq!(unknown.status.code(), Some(1));
    let said = String::from_utf8_lossy(&unknown.stderr).into_owned();
    assert!(said.contains("`--component ghost`"), "{said}");
}
