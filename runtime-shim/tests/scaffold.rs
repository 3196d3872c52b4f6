//! From `gristmill new` to a plugin at work, as its author goes: build, test,
//! check, run. The guide for authors is followed to the letter.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use support::{App, get, gristmill, output, post, root, wait_for, wasm_file};

/// Folders that are always the same, so that cargo's files do not pile up: one
/// for each test, because tests run side by side.
fn fresh(test: &str) -> PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR"))
        .join("scaffold")
        .join(test);
    if dir.exists() {
        fs::remove_dir_all(&dir).unwrap();
    }
    fs::create_dir_all(&dir).unwrap();
    dir
}

fn scaffold(trigger: &str) -> PathBuf {
    let dir = fresh(trigger);
    let name = format!("new-{trigger}");
    let made = output(gristmill(&dir).args(["new", &name, "--trigger", trigger]));
    let printed = succeeded(&made);
    assert!(
        printed.starts_with(&format!("Created {name}\n")),
        "{printed}"
    );
    dir.join(name)
}

/// What it printed.
fn succeeded(output: &Output) -> String {
    let stdout = String::from_utf8_lossy(&output.stdout);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stdout}\n{stderr}");
    stdout.into_owned()
}

/// Where the components of this repository are built.
fn target_dir() -> PathBuf {
    let gristmill = Path::new(env!("CARGO_BIN_EXE_gristmill"));
    gristmill.ancestors().nth(2).unwrap().to_owned()
}

/// `cargo` without a network: what a plugin needs is here, in the versions of
/// this repository.
fn cargo(plugin: &Path, args: &[&str]) -> String {
    let lock = plugin.join("Cargo.lock");
    if !lock.exists() {
        fs::copy(root().join("Cargo.lock"), lock).unwrap();
    }
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command
        .current_dir(plugin)
        .args(args)
        .env("CARGO_TARGET_DIR", target_dir())
        .env("CARGO_NET_OFFLINE", "true");
    succeeded(&output(&mut command))
}

/// Builds, and puts the component where its manifest expects it.
fn build(plugin: &Path) {
    cargo(plugin, &["build", "--release", "--target", "wasm32-wasip2"]);
    let name = plugin
        .file_name()
        .unwrap()
        .to_str()
        .unwrap()
        .replace('-', "_");
    let built = wasm_file(&name);
    let expected = plugin.join("target/wasm32-wasip2/release");
    fs::create_dir_all(&expected).unwrap();
    fs::copy(&built, expected.join(built.file_name().unwrap())).unwrap();
}

/// Runs the plugin on free ports, with its state elsewhere.
fn run(plugin: &Path) -> App {
    let manifest = fs::read_to_string(plugin.join("spin.toml")).unwrap();
    let here = format!("source = \"{}/", plugin.display());
    App::start(&manifest.replace("source = \"", &here))
}

/// Builds, tests and checks a new plugin, and runs it.
fn at_work(trigger: &str) -> App {
    let plugin = scaffold(trigger);
    cargo(&plugin, &["fmt", "--check"]);
    let tested = cargo(&plugin, &["test"]);
    assert!(
        tested.contains("test result: ok. ") && !tested.contains("ok. 0 passed"),
        "{tested}"
    );
    build(&plugin);
    let checked = output(gristmill(&plugin).arg("check"));
    let listed = succeeded(&checked);
    assert!(
        listed.contains(&format!("`new-{trigger}` is sound;")),
        "{listed}"
    );
    assert_eq!(String::from_utf8_lossy(&checked.stderr), "");
    run(&plugin)
}

#[test]
fn a_new_http_plugin_answers() {
    let app = at_work("http");
    assert_eq!(get(&app.url("/Ada")), (200, "Hello, Ada!\n".to_owned()));
    assert_eq!(get(&app.url("/")), (200, "Hello, world!\n".to_owned()));
    assert_eq!(post(&app.url("/Ada"), b"").0, 405);
}

#[test]
fn a_new_batch_plugin_handles_messages() {
    let app = at_work("batch");
    app.send("new-batch", r#"{"name": "Ada"}"#);
    app.send("new-batch", "nonsense");
    wait_for("the message", || {
        app.log().contains("Hello, Ada!").then_some(())
    });
    wait_for("the dead letter", || {
        (app.depth("new-batch-dlq").0 == 1).then_some(())
    });
    wait_for("an empty queue", || {
        (app.depth("new-batch") == (0, 0, 0)).then_some(())
    });
}

#[test]
fn a_new_queue_plugin_handles_messages() {
    let app = at_work("queue");
    app.send("new-queue", r#"{"name": "Ada"}"#);
    wait_for("the message", || {
        app.log().contains("Hello, Ada!").then_some(())
    });
    app.send("new-queue", "nonsense");
    wait_for("the dead letter", || {
        (app.depth("new-queue-dlq").0 == 1).then_some(())
    });
    wait_for("an empty queue", || {
        (app.depth("new-queue") == (0, 0, 0)).then_some(())
    });
}

#[test]
fn a_new_cron_plugin_is_called() {
    let app = at_work("cron");
    wait_for("a tick", || app.log().contains("It is ").then_some(()));
    let calls = app.metric(
        "gristmill_invocations_total",
        "\"new-cron\",outcome=\"completed\"",
    );
    assert!(calls >= 1.0, "{calls}");
}

#[test]
fn what_cannot_be_made_is_refused_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let full = dir.path().join("full");
    fs::create_dir(&full).unwrap();
    fs::write(full.join("mine"), "mine").unwrap();
    for (args, code, expected) in [
        (
            &["new", "full", "--trigger", "http"][..],
            1,
            "error: `full` is not empty: choose another folder with `--into`",
        ),
        (
            &["new", "x", "--trigger", "http", "--into", "full/mine"],
            1,
            "error: `full/mine` is there and is not a folder",
        ),
        (
            &["new", "Hello", "--trigger", "http"],
            2,
            "lower-case letters",
        ),
        (
            &["new", "../x", "--trigger", "http"],
            2,
            "lower-case letters",
        ),
        (&["new", "match", "--trigger", "http"], 2, "nothing to Rust"),
        (
            &["new", "x", "--trigger", "smoke"],
            2,
            "expected `http`, `queue`, `batch` or `cron`",
        ),
        (&["new", "x"], 2, "--trigger"),
    ] {
        let refused = output(gristmill(dir.path()).args(args));
        let stderr = String::from_utf8(refused.stderr).unwrap();
        assert_eq!(refused.status.code(), Some(code), "{args:?}: {stderr}");
        assert!(stderr.contains(expected), "`{expected}` not in\n{stderr}");
        assert!(refused.stdout.is_empty());
    }
    let left = fs::read_dir(dir.path()).unwrap().count();
    assert_eq!((left, fs::read_dir(full).unwrap().count()), (1, 1));
}

#[test]
fn a_folder_may_be_named_and_may_be_there_if_it_is_empty() {
    let dir = tempfile::tempdir().unwrap();
    let into = |folder: &str| {
        let args = ["new", "mill", "--trigger", "cron", "--into", folder];
        succeeded(&output(gristmill(dir.path()).args(args)));
        let package = fs::read_to_string(dir.path().join(folder).join("Cargo.toml")).unwrap();
        assert!(package.contains("name = \"mill\""), "{package}");
    };
    into("plugins/one");
    fs::create_dir(dir.path().join("two")).unwrap();
    into("two");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
}

/// A command of the guide, and what it shows of the answer.
struct Step {
    command: String,
    shown: Vec<String>,
}

/// The terminal session of the guide.
fn session() -> Vec<Step> {
    let guide = fs::read_to_string(root().join("docs/guides/first-plugin.md")).unwrap();
    let (_, tail) = guide.split_once("```console\n").unwrap();
    let (session, _) = tail.split_once("```").unwrap();
    let mut steps: Vec<Step> = Vec::new();
    for line in session.replace("\\\n", "").lines() {
        match (line.strip_prefix("$ "), steps.last_mut()) {
            (Some(command), _) => steps.push(Step {
                command: command.to_owned(),
                shown: Vec::new(),
            }),
            (None, Some(step)) => step.shown.push(line.to_owned()),
            (None, None) => panic!("`{line}` is not the answer to anything"),
        }
    }
    steps
}

/// Whether `printed` has a line with the parts of `shown`, between which `…`
/// stands for anything.
fn shows(printed: &str, shown: &str) -> bool {
    printed.lines().any(|line| {
        let mut rest = Some(line);
        for part in shown.split('…') {
            rest = rest.and_then(|rest| rest.split_once(part.trim()).map(|(_, after)| after));
        }
        rest.is_some()
    })
}

fn in_a_shell(dir: &Path, command: &str) -> String {
    let programs = Path::new(env!("CARGO_BIN_EXE_gristmill")).parent().unwrap();
    let path = std::env::var("PATH").unwrap();
    let mut shell = Command::new("sh");
    shell
        .current_dir(dir)
        .args(["-ec", command])
        .env("PATH", format!("{}:{path}", programs.display()));
    succeeded(&output(&mut shell))
}

#[test]
fn the_guide_works_to_the_letter() {
    let mut dir = fresh("guide");
    let mut app: Option<App> = None;
    for Step { command, shown } in session() {
        let words: Vec<&str> = command.split_whitespace().collect();
        let printed = match words[..] {
            ["cd", folder] => {
                dir = dir.join(folder);
                String::new()
            }
            ["cargo", "build", ..] => {
                build(&dir);
                String::new()
            }
            ["cargo", ref args @ ..] => cargo(&dir, args),
            ["gristmill", "up", "&"] => {
                let running = run(&dir);
                let started = format!(
                    "Queue {}\nAdmin {}\nReady\n",
                    running.queue_origin(),
                    running.admin("")
                );
                app = Some(running);
                // The guide shows the ports that are taken by default.
                assert_eq!(shown.len(), 3, "{shown:?}");
                let words = |text: &str| {
                    let first = |line: &str| line.split(' ').next().map(str::to_owned);
                    text.lines().filter_map(first).collect::<Vec<_>>()
                };
                assert_eq!(words(&started), words(&shown.join("\n")));
                continue;
            }
            ["kill", "%1"] => {
                let mut running = app.take().expect("it runs");
                running.signal("-TERM");
                let (status, log) = running.wait();
                assert!(status.success(), "{log}");
                String::new()
            }
            _ => match &app {
                None => in_a_shell(&dir, &command),
                Some(app) => {
                    let origin = app.queue_origin();
                    let printed =
                        in_a_shell(&dir, &command.replace("http://127.0.0.1:9324", origin));
                    wait_for("what the guide shows", || {
                        let all = format!("{printed}\n{}", app.log());
                        shown.iter().all(|line| shows(&all, line)).then_some(all)
                    })
                }
            },
        };
        for line in shown {
            assert!(
                shows(&printed, &line),
                "{command}: `{line}` not in\n{printed}"
            );
        }
    }
    assert!(app.is_none(), "the guide ends with nothing running");
}
