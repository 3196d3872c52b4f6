//! `files` of components, through the real host: what is granted is seen, and
//! nothing else is. The locked form is tested in `plugin`.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

mod support;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use support::{App, get, gristmill, output, wait_for, wasm, with_probe, worker};

/// Components `NAME` under `/NAME/`, each with its keys.
fn manifest(components: &[(&str, &str)]) -> String {
    let files = wasm("guest_files");
    let mut text = "spin_manifest_version = 2\n[application]\nname = \"files\"\n".to_owned();
    for (name, keys) in components {
        let component = format!(
            "[[trigger.http]]\nroute = \"/{name}/...\"\ncomponent = \"{name}\"\n\
             [component.{name}]\nsource = {files}\n{keys}\n"
        );
        text.push_str(&component);
    }
    text
}

const BINARY: [u8; 5] = [0, 255, 13, 10, 26];

fn prepare(dir: &Path) {
    for (path, content) in [
        ("assets/a.txt", &b"alpha"[..]),
        ("assets/deep/er/b.bin", &BINARY),
        ("assets/secrets/key.txt", b"key"),
        ("assets/.hidden", b"hidden"),
        ("site/index.html", b"<p>"),
        ("other.txt", b"other"),
    ] {
        let path = dir.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
}

fn start(components: &[(&str, &str)], args: &[&str]) -> App {
    App::start_prepared(prepare, &manifest(components), args, &[])
}

/// What component `name` answers.
fn ask(app: &App, name: &str, verb: &str, path: &str) -> (u16, String) {
    get(&app.url(&format!("/{name}/{verb}?path={path}")))
}

fn seen(app: &App, name: &str) -> Vec<String> {
    let (status, list) = ask(app, name, "list", "/");
    assert_eq!(status, 200, "{list}");
    list.lines().map(str::to_owned).collect()
}

/// What `up` and `check` say to a manifest that they refuse.
fn refusal(prepare_more: impl Fn(&Path), keys: &str) -> String {
    let dir = tempfile::tempdir().unwrap();
    prepare(dir.path());
    prepare_more(dir.path());
    fs::write(dir.path().join("spin.toml"), manifest(&[("a", keys)])).unwrap();
    // `check` first: it ends also where `up` would go on.
    let mut errors = ["check", "up"].map(|command| {
        let mut refused = gristmill(dir.path());
        refused.arg(command);
        if command == "up" {
            refused.args(["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"]);
        }
        let refused = output(&mut refused);
        let error = String::from_utf8(refused.stderr).unwrap();
        assert_eq!(refused.status.code(), Some(1), "{error}");
        error
            .lines()
            .find(|line| line.starts_with("error: "))
            .unwrap()
            .to_owned()
    });
    assert_eq!(errors[0], errors[1]);
    std::mem::take(&mut errors[0])
}

#[test]
fn each_component_sees_its_own_files() {
    let app = start(
        &[
            (
                "a",
                "files = [\"assets/**/*\"]\nexclude_files = [\"assets/secrets/*\"]",
            ),
            (
                "b",
                "files = [{ source = \"site\", destination = \"/www\" }, \"other.txt\"]",
            ),
            ("none", ""),
        ],
        &[],
    );
    let of_a = ["/assets/.hidden", "/assets/a.txt", "/assets/deep/er/b.bin"];
    assert_eq!(seen(&app, "a"), of_a);
    assert_eq!(seen(&app, "b"), ["/other.txt", "/www/index.html"]);
    assert_eq!(ask(&app, "none", "list", "/").0, 500);
    assert_eq!(ask(&app, "none", "nothing", "").0, 200);

    for path in ["/assets/a.txt", "assets/a.txt", "./assets/deep/../a.txt"] {
        assert_eq!(
            ask(&app, "a", "read", path),
            (200, "alpha".to_owned()),
            "{path}"
        );
    }
    assert_eq!(ask(&app, "a", "size", "assets/a.txt").1, "5");
    assert_eq!(ask(&app, "b", "read", "/www/index.html").1, "<p>");
    for (name, path) in [
        ("a", "assets/secrets/key.txt"),
        ("a", "other.txt"),
        ("a", "www/index.html"),
        ("b", "assets/a.txt"),
        ("none", "assets/a.txt"),
    ] {
        assert_eq!(ask(&app, name, "read", path).0, 500, "{name} reads {path}");
    }
}

#[test]
fn content_is_what_it_is() {
    let app = start(
        &[("a", "files = [\"assets/deep/**/*\", \"assets/**/*\"]")],
        &[],
    );
    let url = app.url("/a/read?path=assets/deep/er/b.bin");
    let mut answer = support::agent().get(&url).call().unwrap();
    assert_eq!(answer.body_mut().read_to_vec().unwrap(), BINARY);
}

#[test]
fn a_destination_is_any_path() {
    for (files, expected) in [
        (
            "{ source = \"assets/deep\", destination = \"/\" }",
            "/er/b.bin",
        ),
        (
            "{ source = \"./assets/deep/\", destination = \"x\" }",
            "/x/er/b.bin",
        ),
        (
            "{ source = \"site\", destination = \"/x/y/\" }",
            "/x/y/index.html",
        ),
        (
            "{ source = \"other.txt\", destination = \"/new/name\" }",
            "/new/name",
        ),
        ("\"site\"", "/site/index.html"),
        ("\"./o*.txt\"", "/other.txt"),
    ] {
        let app = start(&[("a", &format!("files = [{files}]"))], &[]);
        assert_eq!(seen(&app, "a"), [expected], "{files}");
    }
}

#[test]
fn nothing_can_be_written() {
    let app = start(&[("a", "files = [\"assets/**/*\"]")], &[]);
    for (verb, path) in [
        ("create", "new.txt"),
        ("create", "assets/a.txt"),
        ("append", "assets/a.txt"),
        ("make-folder", "new"),
        ("remove", "assets/a.txt"),
        ("rename", "assets/a.txt"),
    ] {
        let refused = (500, "PermissionDenied".to_owned());
        assert_eq!(ask(&app, "a", verb, path), refused, "{verb} {path}");
    }
    assert_eq!(ask(&app, "a", "read", "assets/a.txt").1, "alpha");
    assert_eq!(fs::read(app.dir().join("assets/a.txt")).unwrap(), b"alpha");
}

#[test]
fn nobody_gets_out() {
    let app = start(
        &[
            ("a", "files = [\"assets/a.txt\"]"),
            ("b", "files = [\"site/*\"]"),
        ],
        &[],
    );
    let own = app.dir().join("other.txt");
    for path in [
        "../other.txt",
        "/../other.txt",
        "assets/../../other.txt",
        "../b/site/index.html",
        "/../../../../../../../../etc/passwd",
        "/etc/passwd",
        "/proc/self/environ",
        own.to_str().unwrap(),
    ] {
        assert_eq!(ask(&app, "a", "read", path).0, 500, "{path}");
    }
    for folder in ["..", "/..", "assets/../.."] {
        let (status, list) = ask(&app, "a", "list", folder);
        assert!(
            status == 500 || list == "/../assets/a.txt",
            "{folder}: {list}"
        );
    }
}

/// The state folder has passwords and sessions in it. It is nobody's, whatever a
/// pattern says.
#[test]
fn the_state_folder_is_never_granted() {
    let app = start(
        &[("a", "files = [\"**/*\"]\nkey_value_stores = [\"default\"]")],
        &[],
    );
    assert!(app.dir().join(".spin/sqlite_key_value.db").exists());
    let all = seen(&app, "a");
    assert!(all.contains(&"/spin.toml".to_owned()), "{all:?}");
    assert!(!all.iter().any(|path| path.contains(".spin")), "{all:?}");
}

#[test]
fn a_link_grants_nothing() {
    for (target, expected) in [
        ("/etc/passwd", "symbolic link to `/etc/passwd`"),
        ("../other.txt", "other.txt`, which `files` does not grant"),
        ("secrets/key.txt", "key.txt`, which `files` does not grant"),
    ] {
        let link = |dir: &Path| symlink(target, dir.join("assets/link")).unwrap();
        let keys = "files = [\"assets/**/*\"]\nexclude_files = [\"assets/secrets/*\"]";
        let error = refusal(link, keys);
        assert!(error.contains("component `a`: `"), "{error}");
        assert!(error.contains(expected), "`{expected}` not in {error}");
    }
    let linked_folder = |dir: &Path| symlink("../site", dir.join("assets/link")).unwrap();
    let error = refusal(linked_folder, "files = [\"assets/link/*\"]");
    assert!(error.contains("which `files` does not grant"), "{error}");

    let prepare_links = |dir: &Path| {
        prepare(dir);
        symlink("a.txt", dir.join("assets/link")).unwrap();
        symlink("../nowhere", dir.join("assets/broken")).unwrap();
    };
    let manifest = manifest(&[("a", "files = [\"assets/*\"]")]);
    let app = App::start_prepared(prepare_links, &manifest, &[], &[]);
    assert_eq!(ask(&app, "a", "read", "assets/link").1, "alpha");
    assert_eq!(seen(&app, "a").len(), 3);
}

#[test]
fn what_cannot_be_granted_is_refused_at_start() {
    for (keys, expected) in [
        (
            "files = [\"assets/none.txt\"]",
            "`files` has `assets/none.txt`, and there is no such",
        ),
        (
            "files = [{ source = \"none\", destination = \"/\" }]",
            "`files` has `none`, and there is no such",
        ),
        (
            "files = [\"asets/**/*\"]",
            "the pattern `asets/**/*`, which matches no file",
        ),
        (
            "files = [\"assets/**\"]",
            "`assets/**`, which matches folders alone: write `assets/**/*`",
        ),
        ("files = [\"../*\"]", "`files` has `../*`, which leads out"),
        (
            "files = [\"/etc/*\"]",
            "`files` has `/etc/*`, which leads out",
        ),
        (
            "files = [{ source = \"other.txt\", destination = \"/\" }]",
            "`files` has `other.txt`, a file: its destination must end",
        ),
        (
            "files = [{ source = \"site\", destination = \"/../x\" }]",
            "`files` has the destination `/../x`",
        ),
        (
            "files = [\"other.txt\", { source = \"assets/a.txt\", destination = \"other.txt\" }]",
            "`files` has two files for `/other.txt`",
        ),
        ("files = [\"a/**b\"]", "`a/**b` is not a pattern"),
    ] {
        let error = refusal(|_| (), keys);
        assert!(error.contains("component `a`: "), "{error}");
        assert!(error.contains(expected), "`{expected}` not in {error}");
    }
    let error = refusal(|_| (), "files = [{ source = \"site\" }]");
    assert!(error.contains("is malformed"), "{error}");
}

#[test]
fn files_are_those_of_the_start_and_copies_go_with_the_host() {
    let mut app = start(&[("a", "files = [\"assets/*\"]")], &[]);
    let copies = app.dir().join(".spin/gristmill-files");
    let count = || fs::read_dir(&copies).unwrap().count();
    fs::write(app.dir().join("assets/a.txt"), "changed").unwrap();
    assert_eq!(ask(&app, "a", "read", "assets/a.txt").1, "alpha");
    // The gate, a lock and a folder.
    assert_eq!(count(), 3);

    // Killed: the next one takes the old copies away.
    app.restart();
    assert_eq!(count(), 3);
    assert_eq!(ask(&app, "a", "read", "assets/a.txt").1, "changed");
    // Another host on the same state leaves this one's alone.
    let checked = output(gristmill(app.dir()).arg("check"));
    assert!(checked.status.success(), "{checked:?}");
    assert_eq!(ask(&app, "a", "read", "assets/a.txt").1, "changed");

    app.signal("-TERM");
    assert!(app.wait().0.success());
    assert_eq!(count(), 1);
}

#[test]
fn transient_writes_are_in_the_copies_alone() {
    let args = ["--allow-transient-write"];
    let mut app = start(&[("a", "files = [\"assets/*\"]")], &args);
    for (verb, path) in [
        ("create", "assets/new.txt"),
        ("append", "assets/a.txt"),
        ("make-folder", "new"),
    ] {
        assert_eq!(
            ask(&app, "a", verb, path),
            (200, "done".to_owned()),
            "{verb}"
        );
    }
    assert_eq!(ask(&app, "a", "read", "assets/new.txt").1, "created");
    assert_eq!(ask(&app, "a", "read", "assets/a.txt").1, "alphamore");
    assert_eq!(ask(&app, "a", "read", "../../../../other.txt").0, 500);
    assert_eq!(fs::read(app.dir().join("assets/a.txt")).unwrap(), b"alpha");
    app.restart();
    assert_eq!(ask(&app, "a", "read", "assets/a.txt").1, "alpha");
}

#[test]
fn queue_consumers_have_files_and_an_environment() {
    let keys = "[component.worker]\nfiles = [\"assets/*\"]\nenvironment = { GREETING = \"hello\" }";
    let manifest = with_probe("files", &worker("", "")).replace("[component.worker]", keys);
    let app = App::start_prepared(prepare, &manifest, &[], &[("GREETING", "the host's")]);
    for (message, expected) in [("read assets/a.txt", "alpha"), ("env GREETING", "hello")] {
        let id = app.send("jobs", message);
        wait_for(message, || {
            (get(&app.url(&format!("/probe/kv/{id}"))).0 == 200).then_some(())
        });
        assert_eq!(get(&app.url("/probe/kv/answer")).1, expected);
    }
}

#[test]
fn scheduled_components_have_an_environment() {
    let tick = wasm("guest_tick");
    let rest = format!(
        r#"
        [[trigger.cron]]
        component = "tick"
        cron_expression = "* * * * * *"
        [component.tick]
        source = {tick}
        key_value_stores = ["results"]
        environment = {{ GREETING = "hello" }}
        "#
    );
    let app = App::start(&with_probe("files", &rest));
    let greeting = wait_for("a tick", || {
        let (status, greeting) = get(&app.url("/probe/kv/greeting"));
        (status == 200).then_some(greeting)
    });
    assert_eq!(greeting, "hello");
}
