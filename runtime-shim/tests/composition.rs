//! Components whose imports other components answer: what they share with them,
//! what they don't, and what is refused before anything runs.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

mod support;

use serde_json::Value;
use support::{App, get, gristmill, output, post, wait_for, wasm, wasm_file, with_probe};

/// The desk under `/desk/`; `dependencies` is the text of its table, `rest` what
/// else it has.
fn desk(dependencies: &str, rest: &str) -> String {
    let desk = wasm("guest_desk");
    with_probe(
        "desk",
        &format!(
            "[[trigger.http]]\nroute = \"/desk/...\"\ncomponent = \"desk\"\n\
             [component.desk]\nsource = {desk}\n{rest}\n\
             [component.desk.dependencies]\n{dependencies}\n"
        ),
    )
}

/// Both dependencies of the desk, each with `more` of its keys.
fn visits(more: &str) -> String {
    let path = wasm("guest_visits");
    format!("\"acme:visits\" = {{ path = {path}{more} }}\nshout = {{ path = {path}{more} }}")
}

/// Everything that the desk may be granted.
const GRANTS: &str = "key_value_stores = [\"results\"]\nsqlite_databases = [\"results\"]\n\
    variables = { colour = \"green\" }\nenvironment = { SHIFT = \"late\" }\n\
    allowed_outbound_hosts = [\"*://127.0.0.1:*\"]\n";

fn attempt(app: &App, what: &str, place: &str) -> String {
    post(&app.url(&format!("/desk/attempt/{what}")), place.as_bytes()).1
}

#[test]
fn dependencies_answer_what_a_component_imports() {
    let app = App::start(&desk(&visits(", inherit_configuration = true"), GRANTS));
    assert_eq!(get(&app.url("/desk/greet/Ada")).1, "Welcome, Ada.");
    assert_eq!(get(&app.url("/desk/shout/late")).1, "LATE");
    assert_eq!(get(&app.url("/desk/visit/Ada")).1, "Ok(1)");
    assert_eq!(get(&app.url("/desk/visit/Ada")).1, "Ok(2)");
    // They share a store with whoever else is granted it.
    assert_eq!(get(&app.url("/probe/kv/Ada")).1, "||");
    for (what, place, expected) in [
        ("variable", "colour", "\"green\""),
        ("config", "colour", "Some(\"green\")"),
        ("environment", "SHIFT", "Ok(\"late\") 0"),
        ("sqlite", "results", "open"),
        ("keyvalue", "results", "1"),
        ("key-value", "elsewhere", "Error::AccessDenied"),
        ("fetch", &app.url("/desk/greet/x"), "200"),
    ] {
        assert_eq!(attempt(&app, what, place), expected, "{what}");
    }
}

#[test]
fn what_is_not_inherited_is_refused_as_by_the_host() {
    for (more, switch) in [
        ("", ""),
        (", inherit_configuration = false", ""),
        ("", "dependencies_inherit_configuration = false"),
    ] {
        let app = App::start(&desk(&visits(more), &format!("{GRANTS}{switch}")));
        assert_eq!(get(&app.url("/desk/own/results")).1, "open");
        assert_eq!(
            get(&app.url("/desk/visit/Ada")).1,
            "Err(\"Error::AccessDenied\")"
        );
        let address = app.url("/");
        for (what, place, expected) in [
            ("key-value", "results", "Error::AccessDenied"),
            ("keyvalue", "results", "Error::AccessDenied"),
            ("sqlite", "results", "Error::AccessDenied"),
            ("variable", "colour", "Error::Undefined(\"colour\")"),
            (
                "config",
                "colour",
                "Error::Io(\"\\\"wasi:config/store\\\" is not permitted\")",
            ),
            (
                "all-config",
                "",
                "Error::Io(\"\\\"wasi:config/store\\\" is not permitted\")",
            ),
            ("environment", "SHIFT", "Err(NotPresent) 0"),
            (
                "fetch",
                &address,
                "Http(ErrorCode::InternalError(Some(\"\\\"wasi:http/outgoing-handler\\\" is not permitted\")))",
            ),
            (
                "redis",
                "redis://127.0.0.1",
                "Error::Other(\"\\\"fermyon:spin/redis\\\" is not permitted\")",
            ),
            (
                "mqtt",
                "mqtt://127.0.0.1",
                "Error::Other(\"\\\"fermyon:spin/mqtt\\\" is not permitted\")",
            ),
            (
                "postgres",
                "postgres://127.0.0.1",
                "Error::Other(\"\\\"fermyon:spin/postgres\\\" is not permitted\")",
            ),
            (
                "postgres3",
                "postgres://127.0.0.1",
                "Error::Other(\"\\\"spin:postgres/postgres\\\" is not permitted\")",
            ),
            (
                "postgres4",
                "postgres://127.0.0.1",
                "Error::Other(\"\\\"spin:postgres/postgres\\\" is not permitted\")",
            ),
        ] {
            assert_eq!(
                attempt(&app, what, place),
                expected,
                "{what} {more}{switch}"
            );
        }
        for (what, place) in [("tcp", "127.0.0.1:1"), ("look-up", "localhost:1")] {
            let told = attempt(&app, what, place);
            assert!(told.contains("PermissionDenied"), "{what}: {told}");
        }
        // A text of a length that needs more memory than the refusals have.
        let long = "x".repeat(300_000);
        let told = attempt(&app, "variable", &long);
        assert_eq!(told, format!("Error::Undefined(\"{long}\")"));
        assert_eq!(attempt(&app, "basics", "hello from a dependency"), "true");
        wait_for("the dependency's line", || {
            app.log().contains("hello from a dependency").then_some(())
        });
    }
}

#[test]
fn what_is_inherited_can_be_chosen() {
    let more = ", inherit_configuration = [\"key_value_stores\", \"environment\"]";
    let app = App::start(&desk(&visits(more), GRANTS));
    assert_eq!(get(&app.url("/desk/visit/Ada")).1, "Ok(1)");
    assert_eq!(attempt(&app, "keyvalue", "results"), "1");
    assert_eq!(attempt(&app, "environment", "SHIFT"), "Ok(\"late\") 0");
    assert_eq!(attempt(&app, "sqlite", "results"), "Error::AccessDenied");
    let colour = attempt(&app, "variable", "colour");
    assert_eq!(colour, "Error::Undefined(\"colour\")");
}

#[test]
fn each_import_may_have_a_dependency_of_its_own() {
    let path = wasm("guest_visits");
    let dependencies = format!(
        "\"acme:visits/register@1.0.0\" = {{ path = {path}, inherit_configuration = true }}\n\
         \"acme:visits/greeting\" = {{ component = \"manners\", \
         export = \"acme:manners/greeting@2.1.0\" }}\n\
         shout = {{ component = \"manners\" }}\n"
    );
    let rest = format!("{GRANTS}[component.manners]\nsource = {path}\n");
    let app = App::start(&desk(&dependencies, &rest));
    assert_eq!(get(&app.url("/desk/greet/Ada")).1, "How do you do, Ada?");
    assert_eq!(get(&app.url("/desk/shout/late")).1, "LATE");
    assert_eq!(get(&app.url("/desk/visit/Ada")).1, "Ok(1)");
}

#[test]
fn several_triggers_share_components_and_hold_some_of_their_own() {
    let (desk_wasm, tick, worker) = (wasm("guest_desk"), wasm("guest_tick"), wasm("guest_worker"));
    let dependencies = visits(", inherit_configuration = true");
    let queue = |component: &str, queue: &str| {
        format!(
            "[[trigger.sqs]]\ncomponent = {component}\n\
             queue_url = \"http://127.0.0.1:9324/000000000000/{queue}\"\n"
        )
    };
    let inline = |wasm: &str| format!("{{ source = {wasm}, key_value_stores = [\"results\"] }}");
    let rest = format!(
        "{GRANTS}{}{}{}[[trigger.cron]]\ncron_expression = \"* * * * * *\"\ncomponent = {}\n\
         [[trigger.http]]\nroute = \"/elsewhere/...\"\ncomponent = \"desk\"\n\
         [[trigger.http]]\nroute = \"/inline/...\"\n\
         component = {{ source = {desk_wasm}, key_value_stores = [\"results\"], dependencies = {{ \
         \"acme:visits\" = {{ path = {path}, inherit_configuration = true }}, \
         shout = {{ path = {path} }} }} }}\n",
        queue("\"desk\"", "guests"),
        queue("\"desk\"", "more-guests"),
        queue(&inline(&worker), "jobs"),
        inline(&tick),
        path = wasm("guest_visits"),
    );
    let app = App::start(&desk(&dependencies, &rest));
    app.send("guests", "Ada");
    app.send("more-guests", "Ben");
    let id = app.send("jobs", "ok");
    for (key, expected) in [("Ada", "|"), ("Ben", "|"), (&id, "ok")] {
        wait_for("the message's effect", || {
            (get(&app.url(&format!("/probe/kv/{key}"))).1 == expected).then_some(())
        });
    }
    wait_for("a tick", || {
        (get(&app.url("/probe/kv/ticks")).0 == 200).then_some(())
    });
    assert_eq!(get(&app.url("/elsewhere/visit/Eve")).1, "Ok(1)");
    assert_eq!(get(&app.url("/inline/visit/Eve")).1, "Ok(2)");
}

/// Runs `gristmill check`: what it printed, and what it complained about.
fn check(manifest: &str, args: &[&str]) -> (Option<i32>, String, String) {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("spin.toml"), manifest).unwrap();
    std::fs::write(dir.path().join("core.wasm"), b"\0asm\x01\0\0\0").unwrap();
    std::fs::write(dir.path().join("text.wasm"), b"\0asm\x0d\0\x01\0 no").unwrap();
    std::fs::copy(wasm_file("guest_tick"), dir.path().join("tick.wasm")).unwrap();
    std::fs::copy(wasm_file("guest_visits"), dir.path().join("visits.wasm")).unwrap();
    let output = output(gristmill(dir.path()).arg("check").args(args));
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (
        output.status.code(),
        text(output.stdout),
        text(output.stderr),
    )
}

#[test]
fn what_does_not_fit_is_named_before_anything_runs() {
    let shout = "shout = { path = \"visits.wasm\" }";
    let both = "\"acme:visits\" = { path = \"visits.wasm\" }";
    for (dependencies, expected) in [
        (
            format!("{both}\n{shout}\n\"acme:visitors\" = {{ path = \"visits.wasm\" }}"),
            "error: component `desk`: dependency `acme:visitors` answers none of its imports: those \
             that the host does not answer are `acme:visits/register@1.0.0`, \
             `acme:visits/greeting@1.0.0`, `shout`",
        ),
        (
            format!("\"acme:visits@2.0.0\" = {{ path = \"visits.wasm\" }}\n{shout}"),
            "dependency `acme:visits@2.0.0` answers none of its imports",
        ),
        (
            format!("\"acme:visits\" = {{ path = \"tick.wasm\" }}\n{shout}"),
            "error: component `desk`: dependency `acme:visits`: `./tick.wasm` does not export \
             `acme:visits/register@1.0.0` for the import `acme:visits/register@1.0.0`: it exports \
             `handle-cron-event`; another name can be given by `export = \"…\"`",
        ),
        (
            format!(
                "\"acme:visits/register\" = {{ path = \"visits.wasm\", export = \"acme:visits/greeting@1.0.0\" }}\n{shout}"
            ),
            "error: component `desk`: dependency `acme:visits/register`: the export \
             `acme:visits/greeting@1.0.0` of `./visits.wasm` does not fit the import \
             `acme:visits/register@1.0.0`: ",
        ),
        (
            format!("\"acme:visits\" = {{ path = \"core.wasm\" }}\n{shout}"),
            "error: component `desk`: dependency `acme:visits`: `./core.wasm` is a core \
             WebAssembly module that cannot become a component (",
        ),
        (
            format!("\"acme:visits\" = {{ path = \"text.wasm\" }}\n{shout}"),
            "error: component `desk`: dependency `acme:visits`: `./text.wasm` cannot be a \
             dependency: ",
        ),
        (
            format!("\"acme:visits\" = {{ path = \"gone.wasm\" }}\n{shout}"),
            "error: component `desk`: dependency `acme:visits`: cannot read `./gone.wasm`: ",
        ),
        (
            format!("\"acme:visits\" = \"^1.0\"\n{shout}"),
            "error: component `desk`: dependency `acme:visits` is version `^1.0` of a package in \
             a registry, and this version of gristmill reads dependencies from files only: fetch \
             it and write `{ path = \"…\" }`",
        ),
        (
            both.to_owned(),
            "error: component `desk` cannot be linked: ",
        ),
    ] {
        let (code, _, stderr) = check(&desk(&dependencies, ""), &[]);
        assert_eq!(code, Some(1), "{stderr}");
        assert!(stderr.contains(expected), "`{expected}` not in\n{stderr}");
    }
}

#[test]
fn check_names_dependencies_and_what_the_whole_imports() {
    let dependencies = "\"acme:visits\" = { path = \"visits.wasm\", \
        inherit_configuration = [\"key_value_stores\"] }\n\
        shout = { path = \"visits.wasm\" }";
    let manifest = desk(dependencies, "key_value_stores = [\"results\"]");
    let (code, stdout, stderr) = check(&manifest, &["--component", "desk"]);
    assert_eq!((code, stderr.as_str()), (Some(0), ""), "{stdout}");
    for expected in [
        "  dependency shout ./visits.wasm, inherits nothing\n",
        "  dependency acme:visits ./visits.wasm, inherits key_value_stores\n",
        "exports  HTTP handler",
    ] {
        assert!(stdout.contains(expected), "`{expected}` not in\n{stdout}");
    }
    let (_, stdout, _) = check(&manifest, &["--component", "desk", "--json"]);
    let report: Value = serde_json::from_str(&stdout).unwrap();
    let components = report["components"].as_array().unwrap();
    let desk = components.iter().find(|c| c["id"] == "desk").unwrap();
    assert_eq!(
        desk["dependencies"],
        serde_json::json!([
            {"name": "shout", "wasm": "./visits.wasm", "export": null, "inherits": []},
            {"name": "acme:visits", "wasm": "./visits.wasm", "export": null,
             "inherits": ["key_value_stores"]},
        ])
    );
    // The desk itself imports no wasi:keyvalue: that is its dependency's, as are
    // SQLite and the rest, which it does not inherit.
    let capabilities = desk["capabilities"].as_array().unwrap();
    let named = |name: &str| capabilities.iter().find(|c| c["capability"] == name);
    assert_eq!(
        named("key-value").unwrap()["interfaces"],
        serde_json::json!([
            "fermyon:spin/key-value@2.0.0",
            "wasi:keyvalue/atomics@0.2.0-draft2",
            "wasi:keyvalue/store@0.2.0-draft2"
        ])
    );
    assert!(
        named("sqlite").is_none() && named("redis").is_none(),
        "{desk:#}"
    );
}

#[test]
fn a_composition_that_no_sandbox_has_room_for_is_refused_at_start() {
    let manifest = desk(&visits(", inherit_configuration = true"), GRANTS);
    for (bytes, expected) in [
        // Less than a memory of one of them.
        (
            "1048576",
            "is too large for a sandbox: a memory of it begins with ",
        ),
        // Enough for each of the three, but not for all.
        (
            "2097152",
            "error: component `desk` does not start in a sandbox: its memories need ",
        ),
    ] {
        let args = ["--max-instance-memory", bytes];
        let (code, _, stderr) = check(&manifest, &args);
        assert_eq!(code, Some(1), "{stderr}");
        assert!(stderr.contains(expected), "`{expected}` not in\n{stderr}");
        assert!(
            stderr.contains("give it more with `--max-instance-memory"),
            "{stderr}"
        );
    }
}

#[test]
fn what_was_composed_is_compiled_once() {
    let mut app = App::start(&desk(&visits(""), ""));
    let cached = |app: &App| {
        let files = walk(app.dir());
        let mut files: Vec<_> = files
            .into_iter()
            .filter(|file| file.extension().is_some_and(|kind| kind == "cwasm"))
            .map(|file| (file.clone(), file.metadata().unwrap().modified().unwrap()))
            .collect();
        files.sort();
        files
    };
    let before = cached(&app);
    assert_eq!(before.len(), 2);
    app.restart();
    assert_eq!(cached(&app), before);
    assert_eq!(get(&app.url("/desk/shout/late")).1, "LATE");
}

/// The files under `dir`.
fn walk(dir: &std::path::Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    entries
        .flat_map(|path| {
            if path.is_dir() {
                walk(&path)
            } else {
                vec![path]
            }
        })
        .collect()
}
