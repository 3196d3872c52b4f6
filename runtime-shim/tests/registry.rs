//! Applications from a registry, pushed as `spin registry push` does, and components
//! from a URL: what runs, what is kept, and what is refused.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

mod support;

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use gristmill::locked::{self, Whose};
use gristmill::manifest::{FileContent, FileMount, Manifest};
use gristmill::registry::{Downloads, Reference};
use gristmill::settings::Environment;
use serde_json::{Value, json};
use url::Url;

use support::push::{self, Layer, Mode, push};
use support::servers::Registry;
use support::{Process, get, gristmill, output, sqs_call, wait_for, wasm_file};

/// A folder to run in, a home and a cache of its own.
struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for name in ["run", "home"] {
            std::fs::create_dir(dir.path().join(name)).unwrap();
        }
        Self { dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = gristmill(&self.path("run"));
        for name in ["XDG_CACHE_HOME", "XDG_CONFIG_HOME", "DOCKER_CONFIG"] {
            command.env_remove(name);
        }
        command
            .args(arguments)
            .env("HOME", self.path("home"))
            .env("GRISTMILL_CACHE_DIR", self.path("cache"));
        command
    }

    fn up(&self, from: &str, more: &[&str]) -> Process {
        let any = "127.0.0.1:0";
        let mut command = self.command(&["up", "--from", from, "--listen", any]);
        command.args(["--queue-listen", any, "--admin-listen", any]);
        command.args(more);
        Process::start(command)
    }

    fn check(&self, from: &str, more: &[&str]) -> Output {
        output(self.command(&["check", "--from", from]).args(more))
    }

    fn sound(&self, from: &str, more: &[&str]) -> String {
        let output = self.check(from, more);
        let log = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{log}");
        log
    }

    /// Fails with this in its error; returns all of stderr.
    fn refused(&self, from: &str, more: &[&str], expected: &str) -> String {
        let output = self.check(from, more);
        let log = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{log}");
        let error = log.lines().find(|line| line.starts_with("error: "));
        let error = error.unwrap_or_else(|| panic!("no error in {log}"));
        assert!(error.contains(expected), "`{expected}` not in `{error}`");
        log
    }

    fn cached(&self, digest: &str) -> PathBuf {
        let hex = digest.strip_prefix("sha256:").unwrap();
        self.path("cache/blobs").join(hex)
    }
}

fn file_url(path: &Path) -> String {
    Url::from_file_path(path).unwrap().to_string()
}

fn component(id: &str, wasm: &str) -> Value {
    json!({
        "id": id,
        "metadata": {"key_value_stores": ["results"], "build": null},
        "source": {"content_type": "application/wasm", "source": file_url(&wasm_file(wasm))},
    })
}

/// One component, called by HTTP.
fn small() -> Value {
    json!({
        "spin_lock_version": 0,
        "metadata": {"name": "small", "version": "1.0.0", "origin": "file:///x/spin.toml",
            "triggers": {"http": {"base": "/"}}},
        "variables": {"greeting": {}},
        "triggers": [{"id": "t", "trigger_type": "http",
            "trigger_config": {"component": "probe", "route": "/probe/...", "executor": null}}],
        "components": [component("probe", "guest_probe")],
    })
}

/// Components called by HTTP, by a queue and by a schedule.
fn large() -> Value {
    let mut app = small();
    app["components"][0]["config"] = json!({"greeting": "{{ greeting }}"});
    let queue = "http://127.0.0.1:9324/000000000000/jobs";
    let more = [
        json!({"id": "q", "trigger_type": "sqs",
            "trigger_config": {"component": "worker", "queue_url": queue}}),
        json!({"id": "c", "trigger_type": "cron",
            "trigger_config": {"component": "tick", "cron_expression": "* * * * * *"}}),
    ];
    app["triggers"].as_array_mut().unwrap().extend(more);
    let more = [
        component("worker", "guest_worker"),
        component("tick", "guest_tick"),
    ];
    app["components"].as_array_mut().unwrap().extend(more);
    app["metadata"]["triggers"]["sqs"] = json!({"worker": {"max_concurrency": 3}});
    app
}

const GREETING: [&str; 2] = ["--variable", "greeting=hello"];

fn digest_of(wasm: &str) -> String {
    push::digest(&std::fs::read(wasm_file(wasm)).unwrap())
}

#[test]
fn an_application_runs_with_all_its_triggers_and_by_digest_without_the_registry() {
    let Some(registry) = Registry::start() else {
        return;
    };
    let digest = push(&registry, "team/app", "v1", large(), Mode::Simple);
    let place = Place::new();
    std::fs::write(place.path("run/.env"), "SPIN_VARIABLE_GREETING=from-env\n").unwrap();

    let from = format!("oci://{}/team/app:v1", registry.host());
    let app = place.up(&from, &[]);
    let url = |path: &str| format!("{}{path}", app.http.as_deref().unwrap());
    assert_eq!(
        get(&url("/probe/variable/greeting")),
        (200, "from-env".to_owned())
    );
    let queue = app.queue.as_deref().unwrap();
    let body = json!({"QueueUrl": format!("{queue}/000000000000/jobs"), "MessageBody": "ok"});
    let sent = sqs_call(queue, "SendMessage", &body);
    let id = sent["MessageId"].as_str().unwrap();
    wait_for("the message", || {
        (get(&url(&format!("/probe/kv/{id}"))).0 == 200).then_some(())
    });
    wait_for("a tick", || {
        (get(&url("/probe/kv/ticks")).0 == 200).then_some(())
    });
    assert!(place.path("run/.spin/gristmill-cache").is_dir());
    assert!(app.log.read().contains(&digest));
    drop(app);

    registry.stop();
    let pinned = format!("oci://{}/team/app@{digest}", registry.host());
    let app = place.up(&pinned, &[]);
    let url = format!("{}/probe/variable/greeting", app.http.as_deref().unwrap());
    assert_eq!(get(&url), (200, "from-env".to_owned()));
    drop(app);

    let log = place.refused(&from, &[], "cannot be reached");
    assert!(
        log.contains(&format!("last time it led to `{pinned}`")),
        "{log}"
    );
}

#[test]
fn only_what_is_selected_is_fetched() {
    let Some(registry) = Registry::start() else {
        return;
    };
    push(&registry, "app", "v1", large(), Mode::Simple);
    let from = format!("oci://{}/app:v1", registry.host());
    let place = Place::new();
    let selected = [&GREETING[..], &["--component", "worker"]].concat();
    place.sound(&from, &selected);
    assert!(place.cached(&digest_of("guest_worker")).exists());
    assert!(!place.cached(&digest_of("guest_probe")).exists());
    let triggered = [&GREETING[..], &["--trigger", "cron"]].concat();
    place.sound(&from, &triggered);
    assert!(place.cached(&digest_of("guest_tick")).exists());
    assert!(!place.cached(&digest_of("guest_probe")).exists());
    let unknown = [&GREETING[..], &["--component", "ghost"]].concat();
    place.refused(&from, &unknown, "`--component ghost`");
}

#[test]
fn a_variable_that_is_not_there_is_refused_before_anything_is_fetched() {
    let Some(registry) = Registry::start() else {
        return;
    };
    push(&registry, "app", "v1", small(), Mode::Simple);
    let from = format!("oci://{}/app:v1", registry.host());
    let place = Place::new();
    place.refused(&from, &[], "variable `greeting` is required");
    assert!(!place.cached(&digest_of("guest_probe")).exists());
    let typo = [&GREETING[..], &["--variable", "greting=x"]].concat();
    place.refused(&from, &typo, "greting");
}

#[test]
fn older_images_run() {
    let Some(registry) = Registry::start() else {
        return;
    };
    let mut app = small();
    app["metadata"].as_object_mut().unwrap().remove("triggers");
    app["metadata"]["trigger"] = json!({"type": "http", "base": "/"});
    push(&registry, "app", "latest", app, Mode::Older);
    // Without a tag, `latest` is meant.
    let from = format!("oci://{}/app", registry.host());
    Place::new().sound(&from, &GREETING);
}

#[test]
fn a_damaged_cache_heals() {
    let Some(registry) = Registry::start() else {
        return;
    };
    let digest = push(&registry, "app", "v1", small(), Mode::Simple);
    let from = format!("oci://{}/app@{digest}", registry.host());
    let place = Place::new();
    place.sound(&from, &GREETING);

    let wasm = place.cached(&digest_of("guest_probe"));
    let whole = std::fs::read(&wasm).unwrap();
    for damaged in [&wasm, &place.cached(&digest)] {
        let mut bytes = std::fs::read(damaged).unwrap();
        bytes[20] ^= 1;
        std::fs::write(damaged, bytes).unwrap();
        let log = place.sound(&from, &GREETING);
        assert!(log.contains("is damaged: fetched anew"), "{log}");
        let log = place.sound(&from, &GREETING);
        assert!(!log.contains("damaged"), "{log}");
    }
    assert!(std::fs::read(&wasm).unwrap() == whole);

    std::fs::write(&wasm, "cut off").unwrap();
    registry.stop();
    place.refused(&from, &GREETING, "cannot be reached");
}

#[test]
fn what_was_changed_on_its_way_is_refused() {
    let Some(registry) = Registry::start() else {
        return;
    };
    let digest = push(&registry, "app", "v1", small(), Mode::Simple);
    let wasm = digest_of("guest_probe");
    let from = format!("oci://{}/app@{digest}", registry.host());
    let place = Place::new();

    let blob = registry.blob(&wasm);
    let mut changed = std::fs::read(&blob).unwrap();
    changed[20] ^= 1;
    std::fs::write(&blob, &changed).unwrap();
    let found = push::digest(&changed);
    let expected = format!("has the digest `{found}`, expected `{wasm}`");
    place.refused(&from, &GREETING, &expected);
    assert!(!place.cached(&wasm).exists() && !place.cached(&found).exists());
    let left = std::fs::read_dir(place.path("cache/partial")).unwrap();
    assert_eq!(left.count(), 0);

    let nowhere = push::digest(b"nowhere");
    let from = format!("oci://{}/app@{nowhere}", registry.host());
    place.refused(&from, &GREETING, "has no `oci://");
}

#[test]
fn says_what_is_wrong_and_what_to_do() {
    let Some(registry) = Registry::start() else {
        return;
    };
    let place = Place::new();
    let host = registry.host();
    let wasm = Layer::new("application/wasm", &b"\0asm"[..]);
    let config = Layer::new("application/vnd.wasm.config.v0+json", &b"{}"[..]);
    let image = Layer::new("application/vnd.oci.image.layer.v1.tar+gzip", &b"layer"[..]);
    for layer in [&wasm, &config, &image] {
        push::push_blob(&registry, "app", layer);
    }
    let manifest = |layers: &[Value]| {
        json!({"schemaVersion": 2, "mediaType": push::MANIFEST,
            "config": config.descriptor(), "layers": layers})
    };
    let mut lying = Layer::new(push::WASM, &b"\0asm"[..]).descriptor();
    lying["size"] = json!(10_u64 << 30);
    for (tag, layers) in [
        ("component", vec![wasm.descriptor()]),
        ("image", vec![image.descriptor()]),
    ] {
        push::push_manifest(&registry, "app", tag, &manifest(&layers));
    }
    let index = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": []});
    push::push_manifest(&registry, "app", "index", &index);
    for (from, expected) in [
        (
            format!("oci://{host}/app:gone"),
            format!("`{host}` has no `oci://{host}/app:gone`: check repository, tag and digest"),
        ),
        (
            format!("oci://{host}/nobody/nothing:v1"),
            format!("has no `oci://{host}/nobody/nothing:v1`"),
        ),
        (
            format!("oci://{host}/app:component"),
            "it is one component without an application around it".to_owned(),
        ),
        (
            format!("oci://{host}/app:image"),
            "is not a Spin application: no layer has the media type \
             `application/vnd.fermyon.spin.application.v1+config`"
                .to_owned(),
        ),
        (
            format!("oci://{host}/app:index"),
            "it is an index of images".to_owned(),
        ),
        (
            "oci://127.0.0.1:1/app:v1".to_owned(),
            "`127.0.0.1:1` cannot be reached".to_owned(),
        ),
    ] {
        place.refused(&from, &[], &expected);
    }
    let bare = format!("{host}/app:v1");
    let hint =
        format!("no file `{bare}`; if an application in a registry is meant, write `oci://{bare}`");
    place.refused(&bare, &[], &hint);
    let usage = place.check("oci://host", &[]);
    assert_eq!(usage.status.code(), Some(2));
    let usage = String::from_utf8(usage.stderr).unwrap();
    assert!(usage.contains("the repository is missing"), "{usage}");
}

#[test]
fn what_is_too_large_is_refused() {
    let Some(registry) = Registry::start() else {
        return;
    };
    let place = Place::new();
    for (tag, size, expected) in [
        (
            "huge",
            10_u64 << 30,
            "is too large: 10737418240 bytes, at most 2147483648",
        ),
        (
            "more",
            1000,
            "it is larger than the 1000 bytes that were announced",
        ),
    ] {
        let mut app = small();
        let mut layers = push::assemble(&mut app, Mode::Simple);
        let application = Layer::new(
            "application/vnd.fermyon.spin.application.v1+config",
            app.to_string(),
        );
        layers.push(application);
        let mut manifest = json!({"schemaVersion": 2, "mediaType": push::MANIFEST});
        manifest["config"] = layers[1].descriptor();
        manifest["layers"] = layers.iter().map(Layer::descriptor).collect();
        manifest["layers"][0]["size"] = json!(size);
        for layer in &layers {
            push::push_blob(&registry, "app", layer);
        }
        push::push_manifest(&registry, "app", tag, &manifest);
        let from = format!("oci://{}/app:{tag}", registry.host());
        place.refused(&from, &GREETING, expected);
        assert!(!place.cached(&digest_of("guest_probe")).exists());
    }
}

#[test]
fn a_private_registry_opens_for_those_who_logged_in() {
    let Some(registry) = Registry::start_private() else {
        return;
    };
    let host = registry.host();
    push(&registry, "app", "v1", small(), Mode::Simple);
    let from = format!("oci://{host}/app:v1");
    let place = Place::new();
    let log = place.refused(&from, &GREETING, "does not let anonymous users read `app`");
    let hint = format!("log in by `spin registry login {host}` or `docker login {host}`");
    assert!(log.contains(&hint), "{log}");

    let encoded = |password: &str| BASE64_STANDARD.encode(format!("{}:{password}", Registry::USER));
    let docker = |password: &str| json!({"auths": {&host: {"auth": encoded(password)}}});
    let file = place.path("home/.docker/config.json");
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    std::fs::write(&file, docker("friday the 13th").to_string()).unwrap();
    let log = place.refused(&from, &GREETING, "does not let the user in");
    assert!(!log.contains("friday"), "{log}");
    assert!(!log.contains(&encoded("friday the 13th")), "{log}");

    std::fs::write(&file, docker(Registry::PASSWORD).to_string()).unwrap();
    let mut loud = place.command(&["check", "--from", &from]);
    loud.args(GREETING).env("GRISTMILL_LOG", "trace");
    let output = output(&mut loud);
    let log = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{log}");
    assert!(!log.contains(Registry::PASSWORD), "the password is logged");
    assert!(!log.contains(&encoded(Registry::PASSWORD)), "it is logged");
}

#[cfg(target_os = "linux")]
#[test]
fn what_spin_registry_login_wrote_counts() {
    let Some(registry) = Registry::start_private() else {
        return;
    };
    push(&registry, "app", "v1", small(), Mode::Simple);
    let place = Place::new();
    let pair = BASE64_STANDARD.encode(format!("{}:{}", Registry::USER, Registry::PASSWORD));
    let file = place.path("home/.config/fermyon/registry-auth.json");
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    let auths = json!({"auths": {registry.host(): pair}});
    std::fs::write(&file, auths.to_string()).unwrap();
    let from = format!("oci://{}/app:v1", registry.host());
    place.sound(&from, &GREETING);
}

#[test]
fn a_registry_that_speaks_tls_must_be_trusted() {
    let Some(plain) = Registry::start() else {
        return;
    };
    push(&plain, "app", "v1", small(), Mode::Simple);
    let registry = Registry::start_tls(&plain).unwrap();
    let from = format!("oci://{}/app:v1", registry.host());
    let place = Place::new();
    let untrusted = format!(
        "`{}` has a certificate that is not trusted",
        registry.host()
    );
    place.refused(&from, &GREETING, &untrusted);
    let mut trusting = place.command(&["check", "--from", &from]);
    trusting.args(GREETING);
    let checked = output(trusting.env("SSL_CERT_FILE", registry.ca_file()));
    let log = String::from_utf8(checked.stderr).unwrap();
    assert!(checked.status.success(), "{log}");
}

#[test]
fn processes_share_a_cache() {
    let Some(registry) = Registry::start() else {
        return;
    };
    push(&registry, "app", "v1", small(), Mode::Simple);
    let from = format!("oci://{}/app:v1", registry.host());
    let place = Place::new();
    std::thread::scope(|scope| {
        let started: Vec<_> = (0..4)
            .map(|number| {
                let (place, from) = (&place, &from);
                let state = place.path(&format!("state-{number}"));
                scope.spawn(move || {
                    let state = ["--state-dir", state.to_str().unwrap()];
                    place.sound(from, &[&GREETING[..], &state].concat());
                })
            })
            .collect();
        for checked in started {
            checked.join().unwrap();
        }
    });
    let left = std::fs::read_dir(place.path("cache/partial")).unwrap();
    assert_eq!(left.count(), 0);
}

/// What `Downloads` makes of an application, for the components that it is told.
struct Fetched {
    place: Place,
    manifest: Manifest,
}

impl Fetched {
    fn try_new(from: &str) -> Result<Self, String> {
        Self::again(Place::new(), from)
    }

    fn again(place: Place, from: &str) -> Result<Self, String> {
        let environment: Environment = [("HOME", place.path("home").to_str().unwrap())]
            .into_iter()
            .collect();
        let downloads = Downloads::new(Some(place.path("cache")), &environment);
        let reference: Reference = from.parse().unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .unwrap();
        let manifest = runtime.block_on(async {
            let image = downloads.pull(&reference, false).await;
            let image = image.map_err(|error| error.to_string())?;
            let manifest = locked::parse(image.application(), Whose::Registry, Path::new(from));
            let mut manifest = manifest.map_err(|error| error.to_string())?;
            let reached: BTreeSet<_> = manifest.components.keys().cloned().collect();
            let provided = downloads.provide(&mut manifest, &reached, Some(&image));
            provided.await.map_err(|error| error.to_string())?;
            Ok::<_, String>(manifest)
        })?;
        Ok(Self { place, manifest })
    }

    /// The one folder of the component's files.
    fn folder(&self) -> PathBuf {
        let component = self.manifest.components.values().next().unwrap();
        let [mount] = &component.files[..] else {
            panic!("one folder: {:?}", component.files)
        };
        let FileMount::Given {
            content: FileContent::Cached(folder),
            path,
        } = mount
        else {
            panic!("a folder: {mount:?}")
        };
        assert_eq!(path, "/");
        let folder = folder.clone();
        assert!(folder.starts_with(self.place.path("cache/files")));
        folder
    }
}

#[test]
fn files_come_whole_however_they_were_pushed() {
    let Some(registry) = Registry::start() else {
        return;
    };
    let assets = tempfile::tempdir().unwrap();
    let files = [
        ("index.html", "<p>small enough to be inlined</p>".to_owned()),
        ("deep/er/large.css", "p { color: red }\n".repeat(1000)),
        ("deep/copy.css", "p { color: red }\n".repeat(1000)),
        ("empty", String::new()),
    ];
    for (name, content) in &files {
        let path = assets.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }
    let mut app = small();
    app["components"][0]["files"] = json!([{"source": file_url(assets.path()), "path": "/"}]);
    for (tag, mode) in [("simple", Mode::Simple), ("archive", Mode::Archive)] {
        push(&registry, "app", tag, app.clone(), mode);
        let from = format!("oci://{}/app:{tag}", registry.host());
        let fetched = Fetched::try_new(&from).unwrap_or_else(|e| panic!("{e}"));
        let folder = fetched.folder();
        let whole = |folder: &Path| {
            for (name, content) in &files {
                let found = std::fs::read_to_string(folder.join(name)).unwrap();
                assert!(found == *content, "{tag}: {name}");
            }
        };
        whole(&folder);

        // A component that may write to its files must not change what the next one reads.
        std::fs::write(folder.join("deep/copy.css"), "changed").unwrap();
        let again = Fetched::again(fetched.place, &from).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(again.folder(), folder);
        whole(&folder);
        std::fs::write(folder.join("stray"), "new").unwrap();
        let again = Fetched::again(again.place, &from).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(again.folder(), folder);
        assert!(!folder.join("stray").exists());
    }
}

#[test]
fn a_component_sees_its_files_and_changes_nobody_elses() {
    let Some(registry) = Registry::start() else {
        return;
    };
    let assets = tempfile::tempdir().unwrap();
    std::fs::write(assets.path().join("page.txt"), "as pushed").unwrap();
    let mut app = small();
    app["variables"] = json!({});
    app["components"][0] = component("probe", "guest_files");
    app["components"][0]["files"] = json!([{"source": file_url(assets.path()), "path": "/"}]);
    push(&registry, "files", "v1", app, Mode::Archive);
    let from = format!("oci://{}/files:v1", registry.host());
    let place = Place::new();
    for flags in [&[][..], &["--allow-transient-write"], &[]] {
        let process = place.up(&from, flags);
        let http = process.http.as_deref().unwrap();
        let ask = |verb: &str| get(&format!("{http}/probe/{verb}?path=page.txt"));
        assert_eq!(ask("read"), (200, "as pushed".to_owned()), "{flags:?}");
        let written = ask("append").0 == 200;
        assert_eq!(written, !flags.is_empty(), "{flags:?}");
    }
}

#[test]
fn a_file_cannot_lead_out_of_its_folder_or_be_one_of_this_machine() {
    let Some(registry) = Registry::start() else {
        return;
    };
    for (tag, file, expected) in [
        (
            "up",
            json!({"path": "../x", "inline": "eA=="}),
            "name `../x`, which is not",
        ),
        (
            "root",
            json!({"path": "/x", "inline": "eA=="}),
            "name `/x`, which is not",
        ),
        (
            "local",
            json!({"path": "x", "source": "file:///etc/passwd"}),
            "`x`: it has neither `source` nor `inline` nor `digest`",
        ),
        (
            "gone",
            json!({"path": "x", "digest": push::digest(b"gone")}),
            "component `probe`: no layer of the image holds `sha256:",
        ),
        (
            "other",
            json!({"path": "x", "inline": "eA==", "digest": push::digest(b"y")}),
            "does not have the digest",
        ),
    ] {
        let mut app = small();
        let mut layers = push::assemble(&mut app, Mode::Simple);
        app["components"][0]["files"] = json!([file]);
        let kind = "application/vnd.fermyon.spin.application.v1+config";
        layers.push(Layer::new(kind, app.to_string()));
        for layer in &layers {
            push::push_blob(&registry, "app", layer);
        }
        let manifest = json!({"schemaVersion": 2, "mediaType": push::MANIFEST,
            "config": layers[1].descriptor(),
            "layers": layers.iter().map(Layer::descriptor).collect::<Vec<_>>()});
        push::push_manifest(&registry, "app", tag, &manifest);
        let from = format!("oci://{}/app:{tag}", registry.host());
        let error = Fetched::try_new(&from).err().expect(tag);
        assert!(error.contains(expected), "`{expected}` not in `{error}`");
    }
}

#[test]
fn a_component_comes_from_a_url_if_it_is_the_one_that_is_meant() {
    let Some(registry) = Registry::start() else {
        return;
    };
    push(&registry, "app", "v1", small(), Mode::Simple);
    let digest = digest_of("guest_probe");
    let url = format!("http://{}/v2/app/blobs/{digest}", registry.host());
    let manifest = |url: &str, digest: &str| {
        format!(
            "spin_manifest_version = 2\n[application]\nname = \"t\"\n\
             [[trigger.http]]\nroute = \"/...\"\ncomponent = \"a\"\n\
             [component.a]\nkey_value_stores = [\"results\"]\n\
             source = {{ url = \"{url}\", digest = \"{digest}\" }}\n"
        )
    };
    let place = Place::new();
    let file = place.path("run/spin.toml");
    for (url, digest, expected) in [
        (
            url.as_str(),
            push::digest(b"another"),
            "has the digest `sha256:",
        ),
        (url.as_str(), "sha256:00".to_owned(), "is not a digest"),
        ("ftp://h/x", digest.clone(), "is not an HTTP or HTTPS URL"),
        (
            "http://127.0.0.1:1/x?token=s3cret",
            push::digest(b"another"),
            "`127.0.0.1:1` cannot be reached",
        ),
    ] {
        std::fs::write(&file, manifest(url, &digest)).unwrap();
        let log = place.refused("spin.toml", &[], expected);
        assert!(!log.contains("s3cret"), "{log}");
    }
    std::fs::write(&file, manifest(&url, &digest.clone())).unwrap();
    place.sound("spin.toml", &[]);
    registry.stop();
    place.sound("spin.toml", &[]);
}

/// A server that answers as it is told, and remembers what it was asked.
struct Stub {
    host: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Stub {
    /// `answer` gets the request's head in lower case, and gives status, headers and body.
    fn start(answer: impl Fn(&str) -> (u16, String, Vec<u8>) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&asked);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let _ = Self::serve(stream, &answer, &heard);
            }
        });
        Self { host, asked }
    }

    fn serve(
        mut stream: TcpStream,
        answer: &impl Fn(&str) -> (u16, String, Vec<u8>),
        heard: &Mutex<Vec<String>>,
    ) -> std::io::Result<()> {
        let mut head = String::new();
        let mut lines = BufReader::new(stream.try_clone()?);
        while lines.read_line(&mut head)? > 2 {}
        heard.lock().unwrap().push(head.clone());
        let (status, headers, body) = answer(&head);
        let length = body.len();
        let head = format!(
            "HTTP/1.1 {status} x\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n"
        );
        stream.write_all(head.as_bytes())?;
        stream.write_all(&body)
    }

    fn heard(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

#[test]
fn a_token_goes_to_the_registry_alone() {
    let mut app = small();
    let mut layers = push::assemble(&mut app, Mode::Simple);
    let kind = "application/vnd.fermyon.spin.application.v1+config";
    layers.push(Layer::new(kind, app.to_string()));
    let manifest = json!({"schemaVersion": 2, "mediaType": push::MANIFEST,
        "config": layers[1].descriptor(),
        "layers": layers.iter().map(Layer::descriptor).collect::<Vec<_>>()});

    let blobs = layers.clone();
    let storage = Stub::start(move |head| {
        let blob = blobs.iter().find(|layer| head.contains(&layer.digest()));
        (200, String::new(), blob.unwrap().data.clone())
    });
    let elsewhere = storage.host.clone();
    let registry = Stub::start(move |head| {
        let path = head.split(' ').nth(1).unwrap_or_default();
        let lower = head.to_lowercase();
        let host = lower.lines().find_map(|line| line.strip_prefix("host: "));
        let host = host.unwrap_or_default().trim();
        if path.starts_with("/token") {
            let body = json!({"token": "t0ken"}).to_string();
            return (200, String::new(), body.into());
        }
        if !head.contains("Bearer t0ken") {
            let challenge = format!(
                "www-authenticate: Bearer realm=\"http://{host}/token\",service=\"stub\"\r\n"
            );
            return (401, challenge, Vec::new());
        }
        if path.contains("/manifests/") {
            return (200, String::new(), manifest.to_string().into());
        }
        let location = format!("location: http://{elsewhere}{path}\r\n");
        (307, location, Vec::new())
    });

    let place = Place::new();
    let pair = BASE64_STANDARD.encode("me:mine");
    let docker = json!({"auths": {&registry.host: {"auth": pair}}});
    std::fs::create_dir_all(place.path("home/.docker")).unwrap();
    std::fs::write(place.path("home/.docker/config.json"), docker.to_string()).unwrap();
    let from = format!("oci://{}/team/app:v1", registry.host);
    place.sound(&from, &GREETING);

    let asked = registry.heard();
    let tokens: Vec<_> = asked
        .iter()
        .filter(|head| head.contains("/token?"))
        .collect();
    assert_eq!(tokens.len(), 1, "a token is asked for once: {asked:?}");
    assert!(tokens[0].contains("service=stub&scope=repository%3Ateam%2Fapp%3Apull"));
    assert!(tokens[0].contains(&format!("Basic {pair}")));
    let stored = storage.heard();
    assert_eq!(stored.len(), 2, "{stored:?}");
    for head in stored {
        assert!(!head.to_lowercase().contains("authorization"), "{head}");
    }
}
