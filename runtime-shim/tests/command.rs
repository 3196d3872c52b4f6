//! Plugins that are plain programs: the message on stdin, its attributes in the
//! environment, the exit code as the outcome. The same guest runs as a component of
//! WASI 0.2 and, where `cargo xtask test` could build it, as a core module of 0.1.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

mod support;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use support::{App, gristmill, output, root, servers, wait_for, wasm_file};

const QUEUE: &str = "http://127.0.0.1:9324/000000000000/jobs";

fn component() -> PathBuf {
    wasm_file("guest_command")
}

/// Nothing on a machine that has no `wasm32-wasip1`.
fn module() -> Option<PathBuf> {
    servers::program("GRISTMILL_TEST_COMMAND_MODULE")
}

/// The program on the queue `jobs`, with further keys of trigger, options and component.
fn program(wasm: &Path, trigger: &str, options: &str, component: &str) -> String {
    format!(
        r#"
        spin_manifest_version = 2
        [application]
        name = "programs"
        [[trigger.sqs]]
        component = "program"
        queue_url = "{QUEUE}"
        {trigger}
        [application.trigger.sqs.program]
        backoff_cap_secs = 2
        {options}
        [component.program]
        source = '{}'
        {component}
        "#,
        wasm.display()
    )
}

fn start(wasm: &Path) -> App {
    App::start(&program(wasm, "", "", ""))
}

/// Waits for the message's copy in the dead-letter queue; returns its reason, which
/// is missing where redrive moved it.
fn dead_letters(app: &App, count: usize) -> BTreeMap<String, Value> {
    let mut letters = BTreeMap::new();
    wait_for("the dead letters", || {
        let receive = json!({
            "QueueName": "jobs-dlq",
            "MaxNumberOfMessages": 10,
            "MessageAttributeNames": ["All"],
        });
        let answer = app.sqs("ReceiveMessage", receive);
        for letter in answer["Messages"].as_array().into_iter().flatten() {
            let reason = letter["MessageAttributes"]["gristmill.reason"]["StringValue"].as_str();
            let reason = reason.map_or(Value::Null, |json| serde_json::from_str(json).unwrap());
            letters.insert(letter["Body"].as_str().unwrap().to_owned(), reason);
        }
        (letters.len() == count).then_some(())
    });
    letters
}

/// The stderr of a program that was rejected for this body.
fn stderr_of(app: &App, code: i32, body: &str) -> String {
    app.send("jobs", body);
    let error = dead_letters(app, 1)[body]["error"].clone();
    purge(app);
    let error = error.as_str().unwrap();
    let stderr = error.strip_prefix(&format!("exit code {code}: "));
    stderr.unwrap_or_else(|| panic!("{error}")).to_owned()
}

fn purge(app: &App) {
    app.sqs("PurgeQueue", json!({"QueueName": "jobs-dlq"}));
}

fn settled(app: &App, settlement: &str) -> usize {
    let label = format!("settlement=\"{settlement}\"");
    app.metric("gristmill_messages_settled_total", &label) as usize
}

fn outcomes(app: &App, outcome: &str) -> usize {
    let labels = format!("component=\"program\",outcome=\"{outcome}\"");
    app.metric("gristmill_invocations_total", &labels) as usize
}

fn wait_for_line(app: &App, parts: &[&str]) -> String {
    wait_for("a line in the log", || {
        let log = app.log();
        let mut lines = log.lines();
        let line = lines.find(|line| parts.iter().all(|part| line.contains(part)));
        line.map(str::to_owned)
    })
}

#[test]
fn exit_codes_of_a_component_are_outcomes() {
    exit_codes_are_outcomes(&component());
}

#[test]
fn exit_codes_of_a_core_module_are_outcomes() {
    if let Some(module) = module() {
        exit_codes_are_outcomes(&module);
    }
}

fn exit_codes_are_outcomes(wasm: &Path) {
    let app = start(wasm);
    let rejected = [
        ("exit 1", "exit code 1"),
        ("exit 3 no such order", "exit code 3: no such order"),
        ("exit 74 reject: I", "exit code 74: reject: I"),
        ("exit 255 the last", "exit code 255: the last"),
        ("exit -1", "exit code 255"),
    ];
    let tried_again = ["exit 75 reject: not now", "trap", "allocate"];
    let done = ["ok", "exit 0 fine", "exit 256", " "];
    for body in done {
        app.send("jobs", body);
    }
    for (body, _) in rejected {
        app.send("jobs", body);
    }
    for body in tried_again {
        app.send("jobs", body);
    }
    let letters = dead_letters(&app, rejected.len() + tried_again.len());
    for (body, error) in rejected {
        let reason = &letters[body];
        assert_eq!(reason["error"], error, "{body}");
        assert_eq!(reason["outcome"], "rejected", "{body}");
        assert_eq!(reason["receive_count"], 1, "{body}");
        assert_eq!(reason["component"], "program", "{body}");
    }
    for body in tried_again {
        assert_eq!(letters[body], Value::Null, "redrive took `{body}`");
    }
    wait_for_line(
        &app,
        &[
            "message failed: error: exit code 75: reject: not now",
            "retry_in_secs",
        ],
    );
    wait_for("the queue to be empty", || {
        (app.depth("jobs") == (0, 0, 0)).then_some(())
    });
    assert_eq!(settled(&app, "deleted"), done.len());
    assert_eq!(settled(&app, "dead_lettered"), rejected.len());
    assert_eq!(settled(&app, "retried"), 3 * 5);
    assert_eq!(outcomes(&app, "completed"), done.len());
    assert_eq!(outcomes(&app, "error"), rejected.len() + 5);
    assert_eq!(outcomes(&app, "trap"), 2 * 5);
}

#[test]
fn a_component_reads_the_body_whole() {
    reads_the_body_whole(&component());
}

#[test]
fn a_core_module_reads_the_body_whole() {
    if let Some(module) = module() {
        reads_the_body_whole(&module);
    }
}

fn reads_the_body_whole(wasm: &Path) {
    let app = start(wasm);
    let large = format!("body\n{}", "Mühle 🌾\r\n\t".repeat(1 << 17));
    let long_line = format!("body {}", "x".repeat(300_000));
    let odd = "body \t\u{7f}\u{80}\u{fffd}\u{2028}\u{10ffff}\n\r\n";
    // The most that SQS allows, but for the reason that the copy carries.
    let large = &large[..large.floor_char_boundary((1 << 20) - 4096)];
    for body in [large, &long_line, odd] {
        let seen = stderr_of(&app, 3, body);
        assert_eq!(
            seen,
            format!("{} bytes, {:016x}", body.len(), fnv(body.as_bytes()))
        );
    }
}

#[test]
fn a_program_may_leave_its_stdin_alone() {
    for wasm in [Some(component()), module()].into_iter().flatten() {
        let behaviour = "environment = { BEHAVIOUR = \"ok\" }";
        let app = App::start(&program(&wasm, "", "", behaviour));
        app.send("jobs", &"unread ".repeat(140_000));
        wait_for("the settlement", || {
            (settled(&app, "deleted") == 1).then_some(())
        });
    }
}

#[test]
fn a_component_finds_attributes_in_its_environment() {
    finds_attributes_in_its_environment(&component());
}

#[test]
fn a_core_module_finds_attributes_in_its_environment() {
    if let Some(module) = module() {
        finds_attributes_in_its_environment(&module);
    }
}

fn finds_attributes_in_its_environment(wasm: &Path) {
    let trigger = r#"
        system_attributes = ["ApproximateReceiveCount"]
        message_attributes = ["trace.*", "trace_id", "blob", "SentTimestamp", "long"]
    "#;
    let own = r#"environment = { OWN = "is kept", GRISTMILL_QUEUE = "is replaced" }"#;
    let app = App::start(&program(wasm, trigger, "", own));
    let long = "l".repeat(16 * 1024 + 1);
    let message = json!({
        "QueueName": "jobs",
        "MessageBody": "environment",
        "MessageAttributes": {
            "trace.parent": {"DataType": "Number.int", "StringValue": "7"},
            "trace.id": {"DataType": "String", "StringValue": "one"},
            "trace_id": {"DataType": "String", "StringValue": "or the other"},
            "blob": {"DataType": "Binary", "BinaryValue": "AAH/"},
            "SentTimestamp": {"DataType": "String", "StringValue": "größer"},
            "long": {"DataType": "String", "StringValue": long},
            "secret": {"DataType": "String", "StringValue": "not asked for"},
        }
    });
    let sent = app.sqs("SendMessage", message);
    let id = sent["MessageId"].as_str().unwrap();
    let reason = dead_letters(&app, 1)["environment"].clone();
    let seen = reason["error"].as_str().unwrap();
    let seen = seen.strip_prefix("exit code 4: ").unwrap();
    let expected = format!(
        "GRISTMILL_ATTRIBUTE_BLOB_BASE64=AAH/\n\
         GRISTMILL_ATTRIBUTE_SENTTIMESTAMP=größer\n\
         GRISTMILL_ATTRIBUTE_TRACE_PARENT=7\n\
         GRISTMILL_MESSAGE_ID={id}\n\
         GRISTMILL_OMITTED=GRISTMILL_ATTRIBUTE_LONG GRISTMILL_ATTRIBUTE_TRACE_ID\n\
         GRISTMILL_QUEUE=jobs\n\
         GRISTMILL_RECEIVE_COUNT=1\n\
         GRISTMILL_SYSTEM_ATTRIBUTE_APPROXIMATERECEIVECOUNT=1\n\
         GRISTMILL_TRIGGER=sqs\n\
         OWN=is kept"
    );
    assert_eq!(seen, expected);
}

/// The longest values that ten attributes can have, and the program's own name.
#[test]
fn a_program_takes_a_large_environment() {
    for wasm in [Some(component()), module()].into_iter().flatten() {
        let app = App::start(&program(&wasm, "message_attributes = [\"All\"]", "", ""));
        let value = "v".repeat(16 * 1024);
        let attribute = json!({"DataType": "String", "StringValue": value});
        let names = (0..10).map(|n| format!("a{n}"));
        let attributes: BTreeMap<_, _> = names.map(|name| (name, attribute.clone())).collect();
        app.sqs(
            "SendMessage",
            json!({
                "QueueName": "jobs",
                "MessageBody": "environment",
                "MessageAttributes": attributes,
            }),
        );
        // A message that has ten attributes already cannot carry a reason.
        let hash = fnv(value.as_bytes());
        let seen = wait_for_line(&app, &["message rejected: exit code 4", "ATTRIBUTE_A0"]);
        for n in 0..10 {
            let expected = format!("GRISTMILL_ATTRIBUTE_A{n}: 16384 bytes, {hash:016x}");
            assert!(app.log().contains(&expected), "{seen}");
        }
        drop(app);

        let app = start(&wasm);
        assert_eq!(stderr_of(&app, 5, "arguments"), r#"["program"]"#);
    }
}

#[test]
fn what_a_program_prints_is_logged_within_bounds() {
    for wasm in [Some(component()), module()].into_iter().flatten() {
        let app = start(&wasm);
        app.send("jobs", "print grist for the mill");
        for stream in ["stdout", "stderr"] {
            let line = format!("{stream}: grist for the mill");
            wait_for_line(&app, &[&line, "program", &format!("stream=\"{stream}\"")]);
        }

        // 64 MiB, of which the log gets one, and the message is done all the same.
        app.send("jobs", "flood");
        wait_for("its settlement", || {
            (settled(&app, "deleted") == 2).then_some(())
        });
        let log = app.log();
        let flood = log.matches("flood ").count() * "flood ".len();
        assert!((900_000..1_100_000).contains(&flood), "{flood}");
        assert_eq!(log.matches("it prints too much").count(), 1);

        // The reason is the end of it, and text.
        let reason = stderr_of(&app, 6, "bytes");
        assert!(
            reason.starts_with('…') && reason.ends_with("\u{fffd}the end"),
            "{reason}"
        );
        assert!(reason.len() <= 2048 + 3, "{}", reason.len());
    }
}

#[test]
fn a_program_that_never_ends_is_stopped() {
    for wasm in [Some(component()), module()].into_iter().flatten() {
        let app = App::start(&program(&wasm, "", "timeout_secs = 1", ""));
        app.send("jobs", "loop");
        wait_for_line(&app, &["message failed: no answer within 1"]);
        app.send("jobs", "ok");
        wait_for("an honest message", || {
            (settled(&app, "deleted") == 1).then_some(())
        });
        assert!(outcomes(&app, "timeout") >= 1);
    }
}

#[test]
fn a_program_runs_on_a_schedule() {
    for wasm in [Some(component()), module()].into_iter().flatten() {
        for (behaviour, line) in [
            ("tick", "tick "),
            (
                "tick fail",
                "scheduled call failed: error: exit code 7: asked to fail",
            ),
            (
                "trap",
                "scheduled call failed: trap: the component panicked",
            ),
        ] {
            let manifest = format!(
                "spin_manifest_version = 2\n[application]\nname = \"programs\"\n\
                 [[trigger.cron]]\ncomponent = \"program\"\ncron_expression = \"* * * * * *\"\n\
                 [component.program]\nsource = '{}'\n\
                 environment = {{ BEHAVIOUR = \"{behaviour}\" }}\n",
                wasm.display()
            );
            let app = App::start(&manifest);
            let line = wait_for_line(&app, &[line]);
            if behaviour == "tick" {
                let (_, rest) = line.split_once("tick ").unwrap();
                let timestamp: u64 = rest.split(' ').next().unwrap().parse().unwrap();
                assert!(timestamp > 1_700_000_000, "{line}");
                wait_for("the outcome", || {
                    (outcomes(&app, "completed") > 0).then_some(())
                });
                assert_eq!(outcomes(&app, "error"), 0);
            }
        }
    }
}

#[test]
fn of_two_exports_the_handler_is_called() {
    let app = start(&wasm_file("guest_both"));
    app.send("jobs", "grist");
    wait_for_line(&app, &["the handler got grist"]);
    assert!(!app.log().contains("the program was run"));
}

#[test]
fn check_shows_what_a_program_is() {
    for wasm in [Some(component()), module()].into_iter().flatten() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("spin.toml"), program(&wasm, "", "", "")).unwrap();
        let checked = output(gristmill(dir.path()).args(["check", "--json"]));
        assert!(checked.status.success(), "{checked:?}");
        let report: Value = serde_json::from_slice(&checked.stdout).unwrap();
        let exports = json!([{"trigger": "messages, schedules", "export": "wasi:cli/run"}]);
        assert_eq!(report["components"][0]["exports"], exports);
        assert_eq!(report["warnings"], json!([]));
    }
}

/// A module with a memory and an empty `_start`, which imports `name` from `from`.
fn importing(from: &str, name: &str) -> Vec<u8> {
    let mut module = b"\0asm\x01\0\0\0".to_vec();
    let mut section = |id: u8, content: &[u8]| {
        module.extend([id, u8::try_from(content.len()).unwrap()]);
        module.extend(content);
    };
    let text = |text: &str| [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
    section(1, &[1, 0x60, 0, 0]);
    section(2, &[&[1], &text(from)[..], &text(name), &[0, 0]].concat());
    section(3, &[1, 0]);
    section(5, &[1, 0, 1]);
    section(
        7,
        &[&[2], &text("memory")[..], &[2, 0], &text("_start"), &[0, 1]].concat(),
    );
    section(10, &[1, 2, 0, 0x0b]);
    module
}

#[test]
fn what_is_no_program_is_refused_at_start() {
    let dir = tempfile::tempdir().unwrap();
    let old_spin = dir.path().join("old.wasm");
    std::fs::write(&old_spin, importing("spin-config", "get-config")).unwrap();
    let old_wasi = dir.path().join("unstable.wasm");
    std::fs::write(&old_wasi, importing("wasi_unstable", "proc_exit")).unwrap();
    let component = component();
    for (wasm, manifest, expected) in [
        (&old_spin, program(&old_spin, "", "", ""), "`spin-config`"),
        (&old_wasi, program(&old_wasi, "", "", ""), "`wasi_unstable`"),
        (
            &component,
            program(&component, "", "", "").replace(
                "[component.program]",
                "[[trigger.http]]\nroute = \"/...\"\ncomponent = \"program\"\n[component.program]",
            ),
            "does not export `wasi:http/incoming-handler`: it exports `wasi:cli/run`",
        ),
    ] {
        std::fs::write(dir.path().join("spin.toml"), manifest).unwrap();
        let refused = output(gristmill(dir.path()).args(["up", "--listen", "127.0.0.1:0"]));
        assert_eq!(refused.status.code(), Some(1));
        let error = String::from_utf8(refused.stderr).unwrap();
        assert!(error.contains(expected), "{error}");
        if wasm != &component {
            assert!(error.contains("cannot become a component"), "{error}");
            assert!(error.contains(&wasm.display().to_string()), "{error}");
        }
    }
}

/// What `WasmEdge` made of the module.
struct Ran {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

fn wasmedge(wasmedge: &Path, module: &Path, environment: &[String], body: &str) -> Ran {
    let mut command = Command::new(wasmedge);
    for variable in environment {
        command.args(["--env", variable]);
    }
    let mut child = command
        .arg(module)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(body.as_bytes()).unwrap();
    drop(stdin);
    let ran = child.wait_with_output().unwrap();
    Ran {
        code: ran.status.code(),
        stdout: String::from_utf8(ran.stdout).unwrap(),
        stderr: String::from_utf8(ran.stderr).unwrap(),
    }
}

#[test]
fn the_same_module_does_the_same_under_wasmedge() {
    let Some(program_of_debian) = servers::program_if_any("GRISTMILL_TEST_WASMEDGE") else {
        return;
    };
    let Some(module) = module() else { return };
    let run = |environment: &[String], body: &str| {
        wasmedge(&program_of_debian, &module, environment, body)
    };
    let trigger = "message_attributes = [\"All\"]";
    let app = App::start(&program(&module, trigger, "", ""));

    // Rejected: the same code, and the same stderr as the reason.
    let large = format!("body\n{}", "Mühle 🌾\n".repeat(50_000));
    for body in [
        "exit 3 no such order",
        "exit 1",
        "exit 255 x",
        &large,
        "body",
    ] {
        let ran = run(&[], body);
        app.send("jobs", body);
        let mut expected = format!("exit code {}", ran.code.unwrap());
        if !ran.stderr.is_empty() {
            write!(expected, ": {}", ran.stderr).unwrap();
        }
        assert_eq!(dead_letters(&app, 1)[body]["error"], expected);
        purge(&app);
    }

    // The same environment, attributes included.
    let attributes = json!({"tenant": {"DataType": "String", "StringValue": "größer = besser"}});
    let sent = app.sqs(
        "SendMessage",
        json!({
            "QueueName": "jobs",
            "MessageBody": "environment",
            "MessageAttributes": attributes,
        }),
    );
    let id = sent["MessageId"].as_str().unwrap();
    let environment = [
        "GRISTMILL_TRIGGER=sqs".to_owned(),
        "GRISTMILL_QUEUE=jobs".to_owned(),
        "GRISTMILL_RECEIVE_COUNT=1".to_owned(),
        format!("GRISTMILL_MESSAGE_ID={id}"),
        "GRISTMILL_ATTRIBUTE_TENANT=größer = besser".to_owned(),
    ];
    let ran = run(&environment, "environment");
    assert_eq!(ran.code, Some(4));
    let error = dead_letters(&app, 1)["environment"]["error"].clone();
    assert_eq!(error, format!("exit code 4: {}", ran.stderr));

    // Done: code 0, and both streams in the log.
    let ran = run(&[], "print grist for the mill");
    assert_eq!(ran.code, Some(0));
    app.send("jobs", "print grist for the mill");
    for (stream, printed) in [("stdout", ran.stdout), ("stderr", ran.stderr)] {
        assert!(printed.ends_with(": grist for the mill\n"), "{printed}");
        let stream = format!("stream=\"{stream}\"");
        wait_for_line(&app, &[printed.trim_end(), &stream]);
    }

    // Again later: 75, or a trap, which a shell sees as some other code.
    assert_eq!(run(&[], "exit 75 later").code, Some(75));
    app.send("jobs", "exit 75 later");
    wait_for_line(&app, &["message failed: error: exit code 75: later"]);
    let ran = run(&[], "trap");
    assert!(!matches!(ran.code, Some(0 | 75)), "{:?}", ran.code);
    app.send("jobs", "trap");
    wait_for_line(&app, &["message failed: trap"]);
}

/// `examples/command`, by its own manifest, and from a shell.
#[test]
fn the_example_takes_orders() {
    let Some(wasm) = servers::program("GRISTMILL_TEST_EXAMPLE_COMMAND") else {
        return;
    };
    let manifest = std::fs::read_to_string(root().join("examples/command/spin.toml")).unwrap();
    let source = "source = \"orders.wasm\"";
    assert!(manifest.contains(source), "{manifest}");
    let manifest = manifest.replace(source, &format!("source = '{}'", wasm.display()));

    let app = App::start(&manifest);
    let id = app.send("orders", "ada\n2 450\n1 100");
    wait_for_line(&app, &[&format!("{id}: ada owes 1000 cents")]);
    app.send("orders", "ada\n2 450\ntwo teas");
    let said = "line 3: `two teas` is no quantity and price";
    wait_for_line(&app, &["message rejected: exit code 65", said]);

    let paused = manifest.replace("PAUSED = \"\"", "PAUSED = \"yes\"");
    let app = App::start(&paused);
    app.send("orders", "ada\n2 450");
    wait_for_line(&app, &["message failed: error: exit code 75: paused"]);

    let Some(program_of_debian) = servers::program_if_any("GRISTMILL_TEST_WASMEDGE") else {
        return;
    };
    let ran = wasmedge(&program_of_debian, &wasm, &[], "ada\n2 450\n1 100");
    assert_eq!(ran.stdout, "an order: ada owes 1000 cents\n");
    assert_eq!(ran.code, Some(0));
    let ran = wasmedge(&program_of_debian, &wasm, &[], "ada\n2 450\ntwo teas");
    assert_eq!((ran.code, ran.stderr), (Some(65), format!("{said}\n")));
}

/// FNV-1a, as the guest has it.
fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
