//! Where values of variables come from, through the real host. There is no real
//! Vault on this machine: a small server inside the test gives the answers that
//! Vault's documentation describes for its key-value engine of version 2.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

mod support;

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use support::{App, get, gristmill, output, wasm};

const TOKEN: &str = "hvs.hunter2-token";

/// Answers like Vault, and remembers the paths that were asked for.
struct Vault {
    origin: String,
    asked: Arc<Mutex<Vec<String>>>,
}

/// What it does on a path and a token: a whole response, or, if that is empty,
/// nothing for ever.
type Answer = fn(path: &str, token: &str) -> String;

impl Vault {
    fn start(answer: Answer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let origin = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&asked);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let log = Arc::clone(&log);
                std::thread::spawn(move || serve(stream, answer, &log));
            }
        });
        Self { origin, asked }
    }

    fn asked(&self) -> Vec<String> {
        let mut asked = self.asked.lock().unwrap().clone();
        asked.sort();
        asked
    }
}

fn serve(mut stream: TcpStream, answer: Answer, log: &Mutex<Vec<String>>) {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
    while let Some(Ok(first)) = lines.next() {
        let path = first.split(' ').nth(1).unwrap().to_owned();
        let mut token = String::new();
        for line in lines.by_ref().map_while(Result::ok) {
            if line.is_empty() {
                break;
            }
            if let Some(value) = line.strip_prefix("x-vault-token: ") {
                value.clone_into(&mut token);
            }
        }
        log.lock().unwrap().push(path.clone());
        let response = answer(&path, &token);
        if response.is_empty() {
            std::thread::park();
        }
        if stream.write_all(response.as_bytes()).is_err() {
            return;
        }
    }
}

fn response(status: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
    )
}

/// A secret as the engine shows it.
fn secret(value: &str) -> String {
    let body = format!(
        r#"{{"request_id":"r","lease_id":"","renewable":false,"lease_duration":0,
        "data":{{"data":{{"value":"{value}"}},"metadata":{{"version":1,"destroyed":false}}}},
        "wrap_info":null,"warnings":null,"auth":null}}"#
    );
    response("200 OK", &body)
}

fn usual(path: &str, token: &str) -> String {
    if token != TOKEN {
        return response("403 Forbidden", r#"{"errors":["permission denied"]}"#);
    }
    match path.rsplit('/').next().unwrap() {
        "in_vault" | "in_both" => secret("from vault"),
        _ => response("404 Not Found", r#"{"errors":[]}"#),
    }
}

const DECLARED: &str = "
    in_vault = { required = true, secret = true }
    in_both = { default = 'from default' }
    in_static = { default = 'from default' }
    in_env = { required = true }
    in_dotenv = { required = true }
    nowhere = { default = 'from default' }
";

fn manifest() -> String {
    let mut own = String::new();
    for name in [
        "in_vault",
        "in_both",
        "in_static",
        "in_env",
        "in_dotenv",
        "nowhere",
    ] {
        writeln!(own, "{name} = '{{{{ {name} }}}}'").unwrap();
    }
    let probe = wasm("guest_probe");
    format!(
        "spin_manifest_version = 2\n[application]\nname = 't'\n[variables]{DECLARED}
        [[trigger.http]]\nroute = '/probe/...'\ncomponent = 'probe'
        [component.probe]\nsource = {probe}\n[component.probe.variables]\n{own}"
    )
}

fn vault_provider(origin: &str, token: &str) -> String {
    format!("[[variables_provider]]\ntype = 'vault'\nurl = '{origin}'\nmount = 'secret'\n{token}")
}

/// Starts `gristmill check` on a folder with this runtime configuration.
fn check(config: &str, env: &[(&str, &str)]) -> (Option<i32>, String) {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("spin.toml"), manifest()).unwrap();
    std::fs::write(dir.path().join("config.toml"), config).unwrap();
    let mut command = gristmill(dir.path());
    command.args(["check", "--runtime-config-file", "config.toml"]);
    command.env_remove("VAULT_TOKEN").envs(env.iter().copied());
    let output = output(&mut command);
    (
        output.status.code(),
        String::from_utf8(output.stderr).unwrap(),
    )
}

fn write(dir: &Path, name: &str, text: &str) -> String {
    let path = dir.join(name);
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn the_first_provider_that_has_a_value_gives_it() {
    let vault = Vault::start(usual);
    let dir = tempfile::tempdir().unwrap();
    let dotenv = write(dir.path(), "app.env", "APP_IN_DOTENV=\"from dotenv\"\n");
    let config = format!(
        "[[variables_provider]]\ntype = 'static'\nvalues = {{ in_static = 'from static' }}
        {}prefix = 'apps/one'
        [[variables_provider]]\ntype = 'env'\nprefix = 'APP'\ndotenv_path = '{dotenv}'\n",
        vault_provider(&vault.origin, &format!("token = '{TOKEN}'\n"))
    );
    let config = write(dir.path(), "config.toml", &config);
    let app = App::start_with(
        &manifest(),
        &["--runtime-config-file", &config],
        &[
            // The provider that is always there comes last.
            ("SPIN_VARIABLE_IN_VAULT", "from the last"),
            ("SPIN_VARIABLE_IN_BOTH", "from the last"),
            ("SPIN_VARIABLE_IN_ENV", "from the last"),
            ("APP_IN_ENV", "from env"),
        ],
    );
    for (name, value) in [
        ("in_vault", "from vault"),
        ("in_both", "from vault"),
        ("in_static", "from static"),
        ("in_env", "from env"),
        ("in_dotenv", "from dotenv"),
        ("nowhere", "from default"),
    ] {
        let got = get(&app.url(&format!("/probe/variable/{name}")));
        assert_eq!(got, (200, value.to_owned()), "{name}");
    }
    // What a provider before it has is not asked for.
    let asked = ["in_both", "in_dotenv", "in_env", "in_vault", "nowhere"];
    let asked = asked.map(|name| format!("/v1/secret/data/apps/one/{name}"));
    assert_eq!(vault.asked(), asked);
    assert!(!app.log().contains(TOKEN) && !app.log().contains("from vault"));
}

#[test]
fn the_environment_and_its_file_come_last() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "spin.toml", &manifest());
    // The environment wins over the file beside the manifest.
    write(
        dir.path(),
        ".env",
        "SPIN_VARIABLE_IN_DOTENV=\"from dotenv\"\nSPIN_VARIABLE_IN_ENV=no\n",
    );
    let mut command = gristmill(dir.path());
    command.args(["check", "--variable", "in_vault=given"]);
    let missing = output(&mut command);
    assert!(
        missing.status.success(),
        "{}",
        String::from_utf8_lossy(&missing.stderr)
    );
    std::fs::remove_file(dir.path().join(".env")).unwrap();
    let missing = output(&mut command);
    let stderr = String::from_utf8(missing.stderr).unwrap();
    assert!(stderr.contains("set `SPIN_VARIABLE_IN_"), "{stderr}");
}

#[test]
fn a_token_may_come_from_the_environment() {
    let vault = Vault::start(usual);
    let config = vault_provider(&vault.origin, "");
    let env = [
        ("SPIN_VARIABLE_IN_ENV", "1"),
        ("SPIN_VARIABLE_IN_DOTENV", "1"),
    ];
    let (code, stderr) = check(&config, &env);
    assert_eq!(code, Some(1), "{stderr}");
    let expected =
        "`[[variables_provider]]` number 1: `token` is missing, and VAULT_TOKEN is not set";
    assert!(stderr.contains(expected), "{stderr}");
    let (code, stderr) = check(&config, &[env[0], env[1], ("VAULT_TOKEN", TOKEN)]);
    assert_eq!(code, Some(0), "{stderr}");
}

/// Errors name the provider and the server, and show neither the token nor
/// what Vault said.
#[test]
fn a_vault_that_does_not_answer_as_it_should_stops_the_start() {
    let cases: [(Answer, &str); 7] = [
        (
            |_, _| response("403 Forbidden", r#"{"errors":["permission denied"]}"#),
            "answered 403 Forbidden: it does not take the token",
        ),
        (
            |_, _| {
                response(
                    "503 Service Unavailable",
                    r#"{"errors":["Vault is sealed"]}"#,
                )
            },
            "answered 503 Service Unavailable: it is sealed",
        ),
        (
            |_, _| response("200 OK", "{\"data\":{\"data\":{\"value\":\"s3cret"),
            "key-value engine",
        ),
        (
            |_, _| response("200 OK", r#"{"data":{"data":{"value":{"s3cret":1}}}}"#),
            "key-value engine of version 2",
        ),
        // An engine of version 1.
        (
            |_, _| response("200 OK", r#"{"data":{"value":"s3cret"}}"#),
            "key-value engine of version 2",
        ),
        (
            |_, _| response("200 OK", &"s3cret".repeat(400_000)),
            "longer than 2097152 bytes",
        ),
        (|_, _| String::new(), "did not answer within 5 s"),
    ];
    std::thread::scope(|scope| {
        for (answer, expected) in cases {
            scope.spawn(move || {
                let vault = Vault::start(answer);
                let config = "[[variables_provider]]\ntype = 'static'\nvalues = {}\n".to_owned()
                    + &vault_provider(&vault.origin, &format!("token = '{TOKEN}'\n"));
                let started = Instant::now();
                let (code, stderr) = check(&config, &[]);
                assert_eq!(code, Some(1), "{stderr}");
                let host = vault.origin.replace("http://", "");
                let place = "`[[variables_provider]]` number 2 cannot tell variable `in_";
                for part in [place, &format!("Vault at `{host}`"), expected] {
                    assert!(stderr.contains(part), "`{part}` not in {stderr}");
                }
                assert!(
                    !stderr.contains(TOKEN) && !stderr.contains("s3cret"),
                    "{stderr}"
                );
                assert!(started.elapsed() < Duration::from_secs(20));
            });
        }
    });
}

#[test]
fn a_vault_that_is_not_there_is_named() {
    let closed = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let config = vault_provider(&format!("http://{closed}"), "token = 't'\n");
    let (code, stderr) = check(&config, &[]);
    assert_eq!(code, Some(1), "{stderr}");
    let expected = format!("Vault at `{closed}` cannot be reached: ");
    assert!(
        stderr.contains(&expected) && stderr.contains("refused"),
        "{stderr}"
    );
}

/// One repetition, which is enough for a passing fault.
#[test]
fn a_fault_that_passes_is_not_noticed() {
    static ASKED: Mutex<Vec<String>> = Mutex::new(Vec::new());
    let vault = Vault::start(|path, token| {
        let mut asked = ASKED.lock().unwrap();
        if asked.iter().any(|before| before == path) {
            return usual(path, token);
        }
        asked.push(path.to_owned());
        response("502 Bad Gateway", "")
    });
    let config = vault_provider(&vault.origin, &format!("token = '{TOKEN}'\n"));
    let env = [
        ("SPIN_VARIABLE_IN_ENV", "1"),
        ("SPIN_VARIABLE_IN_DOTENV", "1"),
    ];
    let (code, stderr) = check(&config, &env);
    assert_eq!(code, Some(0), "{stderr}");
    assert_eq!(vault.asked().len(), 12, "twice for each variable");
}
