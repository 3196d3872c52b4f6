//! The binary as a plugin of Spin's triggers. The harness plays Spin's side: it
//! locks the manifest, asks each plugin for its flags, hands every flag to those
//! that know it, starts them with Spin's environment, and stops them as Spin does.
//! HTTP, which Spin itself would serve, is served by `gristmill up` on the same
//! state.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

mod support;

use std::collections::BTreeMap;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::{
    App, Process, get, gristmill, output, own_manifest, post, sqs_call, wait_for, wasm, with_probe,
    worker,
};

/// Flags of Spin 3.6 and 4, with a value where they take one.
const SPINS_FLAGS: [&[&str]; 17] = [
    &["-L", "logs"],
    &["--truncate-logs"],
    &["--disable-cache"],
    &["--cache", "cache.toml"],
    &["--disable-pooling"],
    &["--follow", "worker"],
    &["-q"],
    &["--runtime-config-file", "runtime-config.toml"],
    &["--state-dir", "state"],
    &["--allow-transient-write"],
    &["--key-value", "seed=planted"],
    &["--sqlite", "CREATE TABLE IF NOT EXISTS planted (a)"],
    &["--max-instance-memory", "67108864"],
    &["--variable", "behaviour=note"],
    &["--variable", "undeclared=x"],
    &["--experimental-wasi-otel"],
    &["--debug-info"],
];

/// Worker and tick, beside an HTTP component whose wasm is not there: it is none
/// of the plugins' business.
fn manifest() -> String {
    let tick = wasm("guest_tick");
    let worker = worker("max_messages = 5", "max_concurrency = 16");
    with_probe(
        "plugin",
        &format!(
            r#"
            [variables]
            behaviour = {{ default = "note" }}
            {worker}
            [[trigger.cron]]
            component = "tick"
            cron_expression = "* * * * * *"
            [application.trigger.cron.tick]
            timeout_secs = 10
            [component.tick]
            source = {tick}
            key_value_stores = ["results"]
            variables = {{ behaviour = "{{{{ behaviour }}}}" }}
            "#
        ),
    )
}

/// What Spin 3.6 makes of a manifest in `dir`.
fn lock(manifest: &str, dir: &Path) -> Value {
    let manifest: toml::Table = toml::from_str(manifest).unwrap();
    let manifest = serde_json::to_value(manifest).unwrap();
    let object = |value: &Value| value.as_object().cloned().unwrap_or_default();
    let mut triggers = Vec::new();
    for (kind, list) in object(&manifest["trigger"]) {
        for config in list.as_array().unwrap() {
            let id = format!("{}-{kind}-trigger", config["component"].as_str().unwrap());
            triggers.push(json!({"id": id, "trigger_type": kind, "trigger_config": config}));
        }
    }
    let components: Vec<Value> = object(&manifest["component"])
        .into_iter()
        .map(|(id, component)| {
            let mut metadata = serde_json::Map::new();
            for (key, locked) in [
                ("allowed_outbound_hosts", "allowed_outbound_hosts"),
                ("key_value_stores", "key_value_stores"),
                ("sqlite_databases", "databases"),
            ] {
                if let Some(list) = component.get(key) {
                    metadata.insert(locked.to_owned(), list.clone());
                }
            }
            let source = dir.join(component["source"].as_str().unwrap());
            let source = url::Url::from_file_path(source).unwrap();
            let mut locked = json!({
                "id": id,
                "source": {"content_type": "application/wasm", "source": source.as_str()},
            });
            for (key, field) in [("variables", "config"), ("environment", "env")] {
                if let Some(value) = component.get(key) {
                    locked[field] = value.clone();
                }
            }
            if !metadata.is_empty() {
                locked["metadata"] = metadata.into();
            }
            locked
        })
        .collect();
    let mut app = json!({
        "spin_lock_version": 0,
        "metadata": {
            "name": manifest["application"]["name"],
            "origin": url::Url::from_file_path(dir.join("spin.toml")).unwrap().as_str(),
            "triggers": object(&manifest["application"]["trigger"]),
        },
        "triggers": triggers,
        "components": components,
    });
    if let Some(variables) = manifest.get("variables") {
        app["variables"] = variables.clone();
    }
    app
}

/// `spin up` without its HTTP: where the plugins are, the application, and a
/// temporary folder.
struct Spin {
    plugins: tempfile::TempDir,
    working_dir: tempfile::TempDir,
    app_dir: PathBuf,
    local: bool,
}

impl Spin {
    /// For the application in `app_dir`, locked as `app`.
    fn new(app_dir: &Path, app: &Value) -> Self {
        let plugins = tempfile::tempdir().unwrap();
        for name in ["trigger-sqs", "trigger-cron"] {
            let folder = plugins.path().join(name);
            std::fs::create_dir(&folder).unwrap();
            symlink(env!("CARGO_BIN_EXE_gristmill"), folder.join(name)).unwrap();
        }
        let working_dir = tempfile::tempdir().unwrap();
        let text = serde_json::to_vec_pretty(app).unwrap();
        std::fs::write(working_dir.path().join("spin.lock"), text).unwrap();
        Self {
            plugins,
            working_dir,
            app_dir: app_dir.to_owned(),
            local: true,
        }
    }

    fn of_manifest(app_dir: &Path, text: &str) -> Self {
        Self::new(app_dir, &lock(text, app_dir))
    }

    /// The plugin of a trigger, without anything that Spin sets for a run.
    fn plugin(&self, kind: &str) -> Command {
        let name = format!("trigger-{kind}");
        let binary = self.plugins.path().join(&name).join(&name);
        let machine = gristmill(&self.app_dir);
        let mut command = Command::new(binary);
        command.current_dir(&self.app_dir);
        for (key, value) in machine.get_envs() {
            match value {
                Some(value) => command.env(key, value),
                None => command.env_remove(key),
            };
        }
        command
            .env("SPIN_VERSION", "3.6.3")
            .env("SPIN_BIN_PATH", "/usr/local/bin/spin");
        command
    }

    /// The flags that a plugin claims.
    fn launch_metadata(&self, kind: &str) -> Vec<BTreeMap<String, String>> {
        let told = output(self.plugin(kind).arg("--launch-metadata-only"));
        assert!(told.status.success(), "{told:?}");
        assert!(told.stdout.is_empty(), "{told:?}");
        let metadata: Value = serde_json::from_slice(&told.stderr).unwrap();
        serde_json::from_value(metadata["all_flags"].clone()).unwrap()
    }

    /// The command that Spin runs for a trigger, with those of `flags` that it claims.
    fn command(&self, kind: &str, flags: &[&[&str]]) -> Command {
        let claimed = self.launch_metadata(kind);
        let lock = self.working_dir.path().join("spin.lock");
        let mut command = self.plugin(kind);
        command
            .env(
                "SPIN_LOCKED_URL",
                url::Url::from_file_path(lock).unwrap().as_str(),
            )
            .env("SPIN_WORKING_DIR", self.working_dir.path());
        if self.local {
            command.env("SPIN_LOCAL_APP_DIR", &self.app_dir);
        }
        for group in flags {
            if claimed
                .iter()
                .any(|flag| flag.values().any(|name| name == group[0]))
            {
                command.args(*group);
            }
        }
        command
    }

    /// Starts a trigger, its queue on a free port.
    fn start(&self, kind: &str, flags: &[&[&str]]) -> Trigger {
        let mut all = vec![&["--queue-listen", "127.0.0.1:0"][..]];
        all.extend(flags);
        Trigger(Process::start(self.command(kind, &all)))
    }

    /// What a trigger says that does not start.
    fn refusal(&self, kind: &str) -> String {
        let flags: [&[&str]; 1] = [&["--queue-listen", "127.0.0.1:0"]];
        let refused: Output = output(&mut self.command(kind, &flags));
        assert_eq!(refused.status.code(), Some(1), "{refused:?}");
        String::from_utf8(refused.stderr).unwrap()
    }
}

struct Trigger(Process);

impl Trigger {
    fn queue(&self) -> &str {
        self.0.queue.as_deref().expect("it serves the queue")
    }

    fn send(&self, body: &str) -> String {
        let url = format!("{}/000000000000/jobs", self.queue());
        let message = json!({"QueueUrl": url, "MessageBody": body});
        let answer = sqs_call(self.queue(), "SendMessage", &message);
        answer["MessageId"].as_str().unwrap().to_owned()
    }

    fn signal(&self, name: &str) {
        self.0.signal(name);
    }

    fn log(&self) -> String {
        self.0.log.read()
    }

    /// Waits for the end; returns exit code and log.
    fn end(mut self) -> (Option<i32>, String) {
        let status = wait_for("the trigger to end", || self.0.child.try_wait().unwrap());
        (status.code(), self.log())
    }
}

/// Whoever serves HTTP beside the plugins, here in place of Spin.
fn http_beside(manifest: &str) -> App {
    App::start_with(manifest, &["--trigger", "http", "--no-local-queue"], &[])
}

fn stored(http: &App, key: &str) -> String {
    wait_for(key, || match get(&http.url(&format!("/probe/kv/{key}"))) {
        (200, body) => Some(body),
        _ => None,
    })
}

#[test]
fn tells_spin_its_flags_and_its_help() {
    let dir = tempfile::tempdir().unwrap();
    let spin = Spin::of_manifest(dir.path(), &manifest());
    for kind in ["sqs", "cron"] {
        let claimed = spin.launch_metadata(kind);
        for group in SPINS_FLAGS {
            assert!(
                claimed
                    .iter()
                    .any(|flag| flag.values().any(|name| name == group[0])),
                "{kind}: {group:?}"
            );
        }
        let both = BTreeMap::from([
            ("short".to_owned(), "-L".to_owned()),
            ("long".to_owned(), "--log-dir".to_owned()),
        ]);
        assert!(claimed.contains(&both), "{kind}: {claimed:?}");
        assert!(
            claimed
                .iter()
                .all(|flag| !flag.values().any(|name| name == "--listen")),
            "`--listen` belongs to Spin's HTTP trigger"
        );

        let help = output(spin.plugin(kind).arg("--help-args-only"));
        assert!(help.status.success() && help.stderr.is_empty(), "{help:?}");
        let help = String::from_utf8(help.stdout).unwrap();
        assert!(help.contains("--state-dir <DIR>"), "{help}");
        assert!(!help.contains("Usage"), "{help}");

        let wrong = output(spin.plugin(kind).arg("--no-such-flag"));
        assert_eq!(wrong.status.code(), Some(2), "{wrong:?}");
    }
}

#[test]
fn a_program_is_run_for_messages_and_ticks() {
    let dir = tempfile::tempdir().unwrap();
    let program = wasm("guest_command");
    let manifest = format!(
        r#"
        spin_manifest_version = 2
        [application]
        name = "programs"
        [[trigger.sqs]]
        component = "program"
        queue_url = "http://127.0.0.1:9324/000000000000/jobs"
        [[trigger.cron]]
        component = "tick"
        cron_expression = "* * * * * *"
        [component.program]
        source = {program}
        [component.tick]
        source = {program}
        environment = {{ BEHAVIOUR = "print a tick" }}
        "#
    );
    let spin = Spin::of_manifest(dir.path(), &manifest);
    for (kind, logged) in [("sqs", "exit code 3: no such order"), ("cron", "a tick")] {
        let trigger = spin.start(kind, &[]);
        if kind == "sqs" {
            trigger.send("exit 3 no such order");
        }
        wait_for(logged, || trigger.log().contains(logged).then_some(()));
    }
}

#[test]
fn queues_and_schedules_run_beside_spins_http_on_the_same_state() {
    let http = http_beside(&manifest());
    // HTTP is Spin's: its components may be anything at all.
    let mut app = lock(&manifest(), http.dir());
    let components = app["components"].as_array_mut().unwrap();
    let probe = components.iter_mut().find(|c| c["id"] == "probe").unwrap();
    probe["source"]["source"] = json!("file:///nowhere/probe.wasm");
    probe["files"] = json!([{"source": "file:///nowhere", "path": "/"}]);
    let spin = Spin::new(http.dir(), &app);

    let sqs = spin.start("sqs", &[]);
    let cron = spin.start("cron", &[]);
    assert_eq!(sqs.0.admin, None, "no admin port unless asked for");
    assert_eq!(cron.0.admin, None);
    assert_eq!(cron.0.queue, None, "the queue is the sqs trigger's");
    let id = sqs.send("ok from spin");
    assert_eq!(stored(&http, &id), "ok from spin");
    assert!(!stored(&http, "ticks").is_empty());
    assert!(http.dir().join(".spin/queue/queue.sqlite3").exists());

    for trigger in [sqs, cron] {
        trigger.signal("-TERM");
        let (code, log) = trigger.end();
        assert_eq!(code, Some(0), "{log}");
        assert!(log.contains("all work is finished"), "{log}");
    }
}

/// This repository's own application: what is posted to HTTP is handled by the
/// queue's plugin and read back by HTTP; the schedules' plugin starts, too.
#[test]
fn our_own_application_runs_in_three_processes() {
    let dir = tempfile::tempdir().unwrap();
    let manifest = own_manifest();
    let spin = Spin::of_manifest(dir.path(), &manifest);
    let sqs = spin.start("sqs", &[]);
    let cron = spin.start("cron", &[]);
    let origin = sqs.queue();
    let queue = format!("{origin}/000000000000/messages");
    let state = dir.path().join(".spin").display().to_string();
    let http = App::start_with(
        &manifest,
        &[
            "--trigger",
            "http",
            "--no-local-queue",
            "--state-dir",
            &state,
        ],
        &[
            ("SPIN_VARIABLE_SQS_ORIGIN", origin),
            ("SPIN_VARIABLE_MESSAGES_QUEUE_URL", &queue),
        ],
    );
    let (status, accepted) = post(&http.url("/process_message"), b"{\"by\": \"spin\"}");
    assert_eq!(status, 202, "{accepted}");
    let accepted: Value = serde_json::from_str(&accepted).unwrap();
    let url = http.url(accepted["status_url"].as_str().unwrap());
    let handled = wait_for("the message", || match get(&url) {
        (200, body) => Some(body),
        _ => None,
    });
    let handled: Value = serde_json::from_str(&handled).unwrap();
    assert_eq!(handled["body"], json!({"by": "spin"}));
    for trigger in [sqs, cron] {
        trigger.signal("-TERM");
        let (code, log) = trigger.end();
        assert_eq!(code, Some(0), "{log}");
    }
}

#[test]
fn takes_every_flag_of_spin() {
    let http = App::start_with(
        &manifest(),
        &[
            "--trigger",
            "http",
            "--no-local-queue",
            "--state-dir",
            "state",
        ],
        &[],
    );
    let config = "[key_value_store.results]\ntype = \"spin\"\n\
                  path = \"state/sqlite_key_value-results.db\"\n";
    std::fs::write(http.dir().join("runtime-config.toml"), config).unwrap();
    let spin = Spin::of_manifest(http.dir(), &manifest());
    let sqs = spin.start("sqs", &SPINS_FLAGS);
    let cron = spin.start("cron", &SPINS_FLAGS);
    let id = sqs.send("print with flags");
    assert_eq!(stored(&http, &id), "print with flags");
    wait_for("the printed line in its file", || {
        let printed = std::fs::read_to_string(http.dir().join("logs/worker_stdout.txt"));
        (printed.ok()? == "with flags\n").then_some(())
    });
    assert!(!stored(&http, "ticks").is_empty());
    assert!(http.dir().join("state/queue/queue.sqlite3").exists());
    for trigger in [sqs, cron] {
        trigger.signal("-INT");
        let (code, log) = trigger.end();
        assert_eq!(code, Some(0), "{log}");
    }
    let planted = rusqlite::Connection::open(http.dir().join("state/sqlite_db.db")).unwrap();
    let rows: i64 = planted
        .query_row("SELECT count(*) FROM planted", [], |row| row.get(0))
        .unwrap();
    assert_eq!(rows, 0);
    let planted = rusqlite::Connection::open(http.dir().join("state/sqlite_key_value.db")).unwrap();
    let value: Vec<u8> = planted
        .query_row(
            "SELECT value FROM spin_key_value WHERE store = 'default' AND key = 'seed'",
            [],
            |row| row.get(0),
        )
        .unwrap();
    assert_eq!(value, b"planted");
}

/// One Ctrl-C under Spin: SIGINT from the terminal, then a SIGTERM from each of the
/// two Spin processes above. What was begun is finished all the same.
#[test]
fn one_interrupt_that_comes_thrice_drains() {
    let http = http_beside(&manifest());
    let spin = Spin::of_manifest(http.dir(), &manifest());
    let sqs = spin.start("sqs", &[&["--sqs-admin-listen", "127.0.0.1:0"]]);
    let admin = sqs.0.admin.clone().expect("an admin port");
    sqs.send("sleep 5000");
    stored(&http, "attempts/sleep-5000");
    assert_eq!(get(&format!("{admin}/livez")).0, 200);
    let stopped = Instant::now();
    for signal in ["-INT", "-TERM", "-TERM"] {
        sqs.signal(signal);
    }
    let (code, log) = sqs.end();
    assert_eq!(code, Some(0), "{log}");
    assert!(stopped.elapsed() > Duration::from_secs(1), "{log}");
    assert!(log.contains("all work is finished"), "{log}");

    // Nothing is left for another time.
    let again = spin.start("sqs", &[]);
    let url = format!("{}/000000000000/jobs", again.queue());
    let depth = sqs_call(
        again.queue(),
        "GetQueueAttributes",
        &json!({"QueueUrl": url, "AttributeNames": ["All"]}),
    );
    assert_eq!(depth["Attributes"]["ApproximateNumberOfMessages"], "0");
    assert_eq!(
        depth["Attributes"]["ApproximateNumberOfMessagesNotVisible"],
        "0"
    );
}

/// A second signal that is not an echo of the first means it.
#[test]
fn a_second_interrupt_cuts_work_off() {
    let http = http_beside(&manifest());
    let spin = Spin::of_manifest(http.dir(), &manifest());
    let mut sqs = spin.start("sqs", &[]);
    sqs.send("sleep 20000");
    stored(&http, "attempts/sleep-20000");
    sqs.signal("-TERM");
    wait_for("the drain to begin", || {
        sqs.log()
            .contains("finishing what is under way")
            .then_some(())
    });
    let status = wait_for("the second signal to count", || {
        sqs.signal("-TERM");
        sqs.0.child.try_wait().unwrap()
    });
    let log = sqs.log();
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(
        log.contains("a second signal (SIGTERM) cut work off"),
        "{log}"
    );
}

/// Spin's own processes can be killed without a word to the plugin.
#[test]
fn ends_when_spin_has_ended() {
    let http = http_beside(&manifest());
    let spin = Spin::of_manifest(http.dir(), &manifest());
    let plugin = spin.command("sqs", &[&["--queue-listen", "127.0.0.1:0"]]);
    // A process between, which the plugin has for its parent.
    let mut between = Command::new("sh");
    between
        .args(["-c", "\"$0\" \"$@\" & echo \"$!\" > plugin.pid; wait"])
        .arg(plugin.get_program())
        .args(plugin.get_args())
        .current_dir(&spin.app_dir);
    for (key, value) in plugin.get_envs() {
        match value {
            Some(value) => between.env(key, value),
            None => between.env_remove(key),
        };
    }
    let trigger = Trigger(Process::start(between));
    let pid = std::fs::read_to_string(http.dir().join("plugin.pid")).unwrap();
    let process = PathBuf::from(format!("/proc/{}", pid.trim()));
    assert!(process.exists());
    trigger.signal("-KILL");
    wait_for("the plugin to end", || {
        // A zombie whose new parent does not look has no command line.
        let alive = std::fs::read(process.join("cmdline")).is_ok_and(|line| !line.is_empty());
        (!alive).then_some(())
    });
    let log = trigger.log();
    assert!(log.contains("the end of Spin: finishing"), "{log}");
}

/// An application from a registry has no folder: its state ends with `spin up`.
#[test]
fn without_a_local_folder_state_is_in_the_working_directory() {
    let dir = tempfile::tempdir().unwrap();
    let mut spin = Spin::of_manifest(dir.path(), &manifest());
    spin.local = false;
    let sqs = spin.start("sqs", &[]);
    assert!(
        spin.working_dir
            .path()
            .join("state/queue/queue.sqlite3")
            .exists()
    );
    assert!(!dir.path().join(".spin").exists());
    assert!(sqs.log().contains("end with `spin up`"), "{}", sqs.log());
}

#[test]
fn an_inline_source_runs() {
    use base64::Engine as _;
    let http = http_beside(&manifest());
    let mut app = lock(&manifest(), http.dir());
    let bytes = std::fs::read(support::wasm_file("guest_worker")).unwrap();
    let components = app["components"].as_array_mut().unwrap();
    let worker = components.iter_mut().find(|c| c["id"] == "worker").unwrap();
    worker["source"] = json!({
        "content_type": "application/wasm",
        "inline": base64::prelude::BASE64_STANDARD.encode(bytes),
    });
    let spin = Spin::new(http.dir(), &app);
    let sqs = spin.start("sqs", &[]);
    let id = sqs.send("ok inline");
    assert_eq!(stored(&http, &id), "ok inline");
}

/// The answer of the worker to a message.
fn answer(http: &App, sqs: &Trigger, message: &str) -> String {
    let id = sqs.send(message);
    stored(http, &id);
    stored(http, "answer")
}

/// Spin hands its own copies over as a folder, or with `--direct-mounts` any folder;
/// `files` may also have single files and their bytes.
#[test]
fn a_locked_component_sees_its_files() {
    let http = http_beside(&manifest());
    let assets = tempfile::tempdir().unwrap();
    std::fs::write(assets.path().join("a.txt"), "from a folder").unwrap();
    std::fs::write(http.dir().join("secret.txt"), "secret").unwrap();
    symlink(http.dir().join("secret.txt"), assets.path().join("leak")).unwrap();
    let url = |path: &Path| url::Url::from_file_path(path).unwrap().to_string();
    let with_files = |files: Value| {
        let mut app = lock(&manifest(), http.dir());
        let components = app["components"].as_array_mut().unwrap();
        let worker = components.iter_mut().find(|c| c["id"] == "worker").unwrap();
        worker["files"] = files;
        Spin::new(http.dir(), &app)
    };
    let folder = with_files(json!([{"source": url(assets.path()), "path": "/"}]));
    let sqs = folder.start("sqs", &[]);
    assert_eq!(answer(&http, &sqs, "read /a.txt"), "from a folder");
    assert_eq!(answer(&http, &sqs, "read a.txt"), "from a folder");
    for refused in ["read leak", "read ../secret.txt", "write b.txt"] {
        let refused = answer(&http, &sqs, refused);
        assert!(refused.starts_with("error: "), "{refused}");
    }
    assert!(!assets.path().join("b.txt").exists());
    drop(sqs);

    let sqs = folder.start("sqs", &[&["--allow-transient-write"]]);
    assert_eq!(answer(&http, &sqs, "write b.txt"), "done");
    assert_eq!(answer(&http, &sqs, "read b.txt"), "written");
    drop(sqs);

    let single = url(&assets.path().join("a.txt"));
    let mixed = with_files(json!([
        {"source": single, "path": "/one/renamed.txt"},
        {"inline": "aW5saW5l", "path": "two.txt"},
        {"source": url(assets.path()), "path": "/folder"},
    ]));
    // The link leads out of what was granted.
    let error = mixed.refusal("sqs");
    assert!(error.contains("a symbolic link to"), "{error}");
    std::fs::remove_file(assets.path().join("leak")).unwrap();
    let sqs = mixed.start("sqs", &[]);
    assert_eq!(answer(&http, &sqs, "read one/renamed.txt"), "from a folder");
    assert_eq!(answer(&http, &sqs, "read two.txt"), "inline");
    assert_eq!(answer(&http, &sqs, "read folder/b.txt"), "written");
}

#[test]
fn a_locked_components_environment_is_its_own() {
    let with_env = manifest()
        .replace(
            "[component.worker]",
            "[component.worker]\nenvironment = { GREETING = \"hello\" }",
        )
        .replace(
            "[component.tick]",
            "[component.tick]\nenvironment = { GREETING = \"good day\" }",
        );
    let http = http_beside(&with_env);
    let spin = Spin::of_manifest(http.dir(), &with_env);
    let (sqs, cron) = (spin.start("sqs", &[]), spin.start("cron", &[]));
    assert_eq!(answer(&http, &sqs, "env GREETING"), "hello");
    assert!(answer(&http, &sqs, "env SPIN_LOCKED_URL").starts_with("error: "));
    assert_eq!(stored(&http, "greeting"), "good day");
    drop(cron);
}

#[test]
fn dependencies_are_joined_with_what_they_belong_to() {
    let http = http_beside(&manifest());
    let mut app = lock(&manifest(), http.dir());
    let content = |name: &str| {
        let file = support::wasm_file(name);
        json!({"content_type": "application/wasm", "source": format!("file://{}", file.display())})
    };
    let components = app["components"].as_array_mut().unwrap();
    let worker = components.iter_mut().find(|c| c["id"] == "worker").unwrap();
    worker["source"] = content("guest_desk");
    worker["dependencies"] = json!({
        "acme:visits": {"source": content("guest_visits"), "export": null, "inherit": "All"},
        "shout": {"source": content("guest_visits"), "export": null},
    });
    let spin = Spin::new(http.dir(), &app);
    let sqs = spin.start("sqs", &[]);
    sqs.send("Ada");
    assert_eq!(stored(&http, "Ada"), "|");
}

#[test]
fn refuses_at_start_what_it_cannot_do() {
    let dir = tempfile::tempdir().unwrap();
    let change = |edit: &dyn Fn(&mut Value)| {
        let mut app = lock(&manifest(), dir.path());
        edit(&mut app);
        Spin::new(dir.path(), &app).refusal("sqs")
    };
    let of_worker = |app: &mut Value, key: &str, value: Value| {
        let components = app["components"].as_array_mut().unwrap();
        let worker = components.iter_mut().find(|c| c["id"] == "worker").unwrap();
        worker[key] = value;
    };
    let error = change(&|app| app["must_understand"] = json!(["profiles"]));
    assert!(error.contains("`profiles` must be understood"), "{error}");
    for (file, expected) in [
        (
            json!({"source": "file:///nowhere/at-all", "path": "/"}),
            "component `worker`: `files` has `/nowhere/at-all`, and there is no such",
        ),
        (
            json!({"digest": "sha256:00", "path": "/a.txt"}),
            "component `worker`: its file `/a.txt` is not on this machine",
        ),
        (
            json!({"inline": "%", "path": "/a.txt"}),
            "`files` of component `worker` of the locked application: `/a.txt`: its inline",
        ),
        (
            json!({"inline": "YQ==", "path": "/../a.txt"}),
            "component `worker`: `files` has the destination `/../a.txt`",
        ),
    ] {
        let error = change(&|app| of_worker(app, "files", json!([file])));
        assert!(error.contains(expected), "`{expected}` not in {error}");
    }
    let error = change(&|app| {
        let dependency = json!({"a:b/c": {"source": {"source": "file:///d"}, "export": null}});
        of_worker(app, "dependencies", dependency);
    });
    assert!(
        error.contains("component `worker`: dependency `a:b/c`: cannot read `/d`"),
        "{error}"
    );
    let error = change(&|app| of_worker(app, "source", json!({"digest": "sha256:00"})));
    assert!(error.contains("known by its digest alone"), "{error}");
    let error = change(&|app| app["triggers"] = json!([]));
    assert!(error.contains("nothing to run"), "{error}");

    let spin = Spin::of_manifest(dir.path(), &manifest());
    let alone = output(&mut spin.plugin("cron"));
    assert_eq!(alone.status.code(), Some(1));
    let error = String::from_utf8(alone.stderr).unwrap();
    assert!(
        error.contains("`trigger-cron` is started by `spin up`"),
        "{error}"
    );
}
