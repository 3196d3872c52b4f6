//! Who one is to a registry: what `spin registry login` and `docker login` left
//! on this machine. Nothing of it is ever logged or part of an error.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::HeaderValue;
use serde::Deserialize;
use std::collections::BTreeMap;
use tokio::io::AsyncWriteExt;

use crate::secret::Secret;
use crate::settings::Environment;

/// How long a credential helper may take: it may ask the user's keyring.
const HELPER_LIMIT: Duration = Duration::from_secs(30);
/// What docker's helpers are called.
const HELPER: &str = "docker-credential-";

/// A name and a password, and where they were found.
pub(super) struct Login {
    user: String,
    password: Secret,
    /// For messages.
    pub(super) found_in: String,
}

impl Login {
    /// As HTTP says it.
    pub(super) fn basic(&self) -> Option<HeaderValue> {
        let pair = format!("{}:{}", self.user, self.password.expose());
        let text = format!("Basic {}", BASE64_STANDARD.encode(pair));
        let mut value = HeaderValue::from_str(&text).ok()?;
        value.set_sensitive(true);
        Some(value)
    }
}

/// The files that may know.
pub(super) struct Credentials {
    spin: Option<PathBuf>,
    docker: Option<PathBuf>,
}

/// Spin's file: base64 of `user:password` by host.
#[derive(Deserialize)]
struct SpinFile {
    auths: BTreeMap<String, Secret>,
}

/// Docker's file, as far as it is about credentials.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct DockerFile {
    #[serde(default)]
    auths: BTreeMap<String, DockerEntry>,
    #[serde(default)]
    cred_helpers: BTreeMap<String, String>,
    creds_store: Option<String>,
}

#[derive(Default, Deserialize)]
struct DockerEntry {
    auth: Option<Secret>,
    username: Option<String>,
    password: Option<Secret>,
}

/// What a helper prints.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct HelperAnswer {
    username: String,
    secret: Secret,
}

impl Credentials {
    pub(super) fn new(environment: &Environment) -> Self {
        let set = |name: &str| environment.get(name).filter(|value| !value.is_empty());
        let home = set("HOME").map(PathBuf::from);
        let config = match set("XDG_CONFIG_HOME") {
            Some(dir) => Some(PathBuf::from(dir)),
            None if cfg!(target_os = "macos") => home
                .as_ref()
                .map(|home| home.join("Library/Application Support")),
            None => home.as_ref().map(|home| home.join(".config")),
        };
        let docker = match set("DOCKER_CONFIG") {
            Some(dir) => Some(PathBuf::from(dir)),
            None => home.map(|home| home.join(".docker")),
        };
        Self {
            spin: config.map(|dir| dir.join("fermyon/registry-auth.json")),
            docker: docker.map(|dir| dir.join("config.json")),
        }
    }

    /// Whatever is known for `host`: Spin's file counts first, as on Spin.
    pub(super) async fn find(&self, host: &str) -> Option<Login> {
        if let Some(login) = self.spin.as_deref().and_then(|file| of_spin(file, host)) {
            return Some(login);
        }
        let path = self.docker.as_deref()?;
        let file: DockerFile = read(path)?;
        if let Some(login) = of_docker(path, &file, host) {
            return Some(login);
        }
        let helper = file.cred_helpers.get(host).or(file.creds_store.as_ref())?;
        ask_helper(helper, host).await
    }
}

/// A file that is not there says nothing; one that is malformed is worth a warning,
/// without what the parser would show of it.
fn read<T: for<'de> Deserialize<'de>>(path: &Path) -> Option<T> {
    let bytes = std::fs::read(path).ok()?;
    let parsed = serde_json::from_slice(&bytes).ok();
    if parsed.is_none() {
        tracing::warn!(
            "the credentials in {} cannot be read: not used",
            path.display()
        );
    }
    parsed
}

fn of_spin(path: &Path, host: &str) -> Option<Login> {
    let file: SpinFile = read(path)?;
    decode(file.auths.get(host)?, path)
}

/// Docker writes hosts, old versions of it URLs.
fn of_docker(path: &Path, file: &DockerFile, host: &str) -> Option<Login> {
    let is_host = |key: &&String| {
        let key = key.strip_prefix("https://").or(key.strip_prefix("http://"));
        let key = key.and_then(|key| key.split('/').next());
        key == Some(host)
    };
    let entry = match file.auths.get(host) {
        Some(entry) => entry,
        None => &file.auths[file.auths.keys().find(is_host)?],
    };
    match (&entry.username, &entry.password, &entry.auth) {
        (Some(user), Some(password), _) => Some(Login {
            user: user.clone(),
            password: password.clone(),
            found_in: path.display().to_string(),
        }),
        (_, _, Some(auth)) => decode(auth, path),
        _ => None,
    }
}

fn decode(auth: &Secret, path: &Path) -> Option<Login> {
    let bytes = BASE64_STANDARD.decode(auth.expose()).ok()?;
    let text = String::from_utf8(bytes).ok()?;
    // Docker pads with zero bytes.
    let (user, password) = text.trim_end_matches('\0').split_once(':')?;
    Some(Login {
        user: user.to_owned(),
        password: Secret::from(password),
        found_in: path.display().to_string(),
    })
}

/// Runs `docker-credential-NAME get`, which reads the host and prints JSON.
async fn ask_helper(name: &str, host: &str) -> Option<Login> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if !name.bytes().all(plain) {
        tracing::warn!("`{HELPER}{name}` is not the name of a credential helper: not run");
        return None;
    }
    let program = format!("{HELPER}{name}");
    let asked = tokio::time::timeout(HELPER_LIMIT, run_helper(&program, host));
    match asked.await {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => {
            tracing::warn!("cannot run the credential helper `{program}`: {error}");
            None
        }
        Err(_) => {
            let secs = HELPER_LIMIT.as_secs();
            tracing::warn!("the credential helper `{program}` did not answer within {secs} s");
            None
        }
    }
}

async fn run_helper(program: &str, host: &str) -> std::io::Result<Option<Login>> {
    let mut child = tokio::process::Command::new(program)
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(host.as_bytes()).await?;
    }
    let output = child.wait_with_output().await?;
    // It fails where it knows nothing of this host, which is an answer.
    let answer: Option<HelperAnswer> = output
        .status
        .success()
        .then(|| serde_json::from_slice(&output.stdout).ok())
        .flatten();
    Ok(answer
        // An identity token is not a password.
        .filter(|answer| answer.username != "<token>")
        .map(|answer| Login {
            user: answer.username,
            password: answer.secret,
            found_in: program.to_owned(),
        }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(home: &Path) -> Environment {
        [("HOME", home.to_str().unwrap())].into_iter().collect()
    }

    async fn found(home: &Path, host: &str) -> Option<(String, String)> {
        let login = Credentials::new(&environment(home)).find(host).await?;
        Some((login.user.clone(), login.password.expose().to_owned()))
    }

    fn write(path: &Path, text: &str) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    #[tokio::test]
    async fn reads_what_docker_and_spin_wrote() {
        let home = tempfile::tempdir().unwrap();
        let home = home.path();
        assert!(found(home, "h:5000").await.is_none());

        let auth = BASE64_STANDARD.encode("me:pass:word");
        let docker = format!(
            r#"{{"auths": {{"h:5000": {{"auth": "{auth}"}}, "https://old.example/v1/": {{"auth": "{auth}"}},
                "plain": {{"username": "u", "password": "p"}}, "empty": {{}},
                "token": {{"identitytoken": "t"}}}}, "HttpHeaders": {{}}}}"#
        );
        write(&home.join(".docker/config.json"), &docker);
        let me = Some(("me".to_owned(), "pass:word".to_owned()));
        assert_eq!(found(home, "h:5000").await, me);
        assert_eq!(found(home, "old.example").await, me);
        assert_eq!(
            found(home, "plain").await,
            Some(("u".to_owned(), "p".to_owned()))
        );
        for unknown in ["empty", "token", "h", "h:5001"] {
            assert!(found(home, unknown).await.is_none(), "{unknown}");
        }

        let spin = format!(
            r#"{{"auths": {{"h:5000": "{}"}}}}"#,
            BASE64_STANDARD.encode("spin:s")
        );
        let file = if cfg!(target_os = "macos") {
            "Library/Application Support/fermyon/registry-auth.json"
        } else {
            ".config/fermyon/registry-auth.json"
        };
        write(&home.join(file), &spin);
        assert_eq!(
            found(home, "h:5000").await,
            Some(("spin".to_owned(), "s".to_owned()))
        );

        write(&home.join(file), "{");
        assert_eq!(
            found(home, "h:5000").await,
            me,
            "a malformed file is no obstacle"
        );
    }

    #[test]
    fn a_login_says_what_http_wants() {
        let login = Login {
            user: "Aladdin".to_owned(),
            password: Secret::from("open sesame"),
            found_in: String::new(),
        };
        let header = login.basic().expect("a header");
        assert!(header.is_sensitive());
        assert_eq!(header, "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
    }
}
