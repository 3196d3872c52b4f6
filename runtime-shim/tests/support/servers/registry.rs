//! Docker's registry on files of its own, for anyone or for one user with a password.

use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::process::{Kind, Server, launch};
use super::{program, tls};
use crate::support::agent;

/// A running registry.
pub type Registry = Server<RegistryServer>;

pub struct RegistryServer {
    program: PathBuf,
    private: bool,
    tls: bool,
}

impl Registry {
    /// Who may read and write a private one.
    pub const USER: &str = "ali-baba";
    pub const PASSWORD: &str = "open sesame";
    /// The registry knows bcrypt alone.
    const HTPASSWD: &str =
        "ali-baba:$2b$05$abcdefghijklmnopqrstuupx2xBUC4954936wVIjyyPHmUBFu0wCW\n";

    /// Starts one for anybody.
    pub fn start() -> Option<Self> {
        Self::start_as(false, None)
    }

    /// Starts one that asks who one is.
    pub fn start_private() -> Option<Self> {
        Self::start_as(true, None)
    }

    /// Starts one that has what `other` has, and speaks TLS only, with a certificate of
    /// [`Self::ca_file`].
    pub fn start_tls(other: &Self) -> Option<Self> {
        Self::start_as(false, Some(&other.dir.path().join("data")))
    }

    fn start_as(private: bool, copied: Option<&Path>) -> Option<Self> {
        let kind = RegistryServer {
            program: program("GRISTMILL_TEST_REGISTRY")?,
            private,
            tls: copied.is_some(),
        };
        let dir = tempfile::tempdir().unwrap();
        if let Some(data) = copied {
            tls::make(dir.path());
            let mut copying = Command::new("cp");
            copying.arg("-r").args([data, dir.path()]);
            assert!(copying.status().unwrap().success());
        }
        Some(Self::launch(kind, dir))
    }

    /// The authority that signed its certificate, in PEM.
    pub fn ca_file(&self) -> PathBuf {
        self.dir.path().join(tls::CA_FILE)
    }

    /// Its host and port.
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port())
    }

    /// Whether it asks who one is.
    pub fn is_private(&self) -> bool {
        self.kind.private
    }

    /// The file in which it keeps this blob.
    pub fn blob(&self, digest: &str) -> PathBuf {
        let hex = digest.strip_prefix("sha256:").unwrap();
        let blobs = self.dir.path().join("data/docker/registry/v2/blobs/sha256");
        blobs.join(&hex[..2]).join(hex).join("data")
    }
}

impl Kind for RegistryServer {
    const NAME: &'static str = "registry";

    fn command(&self, dir: &Path, port: u16) -> Command {
        let auth = if self.private {
            fs::write(dir.join("htpasswd"), Registry::HTPASSWD).unwrap();
            "auth: {htpasswd: {realm: tests, path: htpasswd}}\n"
        } else {
            ""
        };
        let tls = if self.tls {
            let (certificate, key) = (tls::CERTIFICATE_FILE, tls::KEY_FILE);
            format!(", tls: {{certificate: {certificate}, key: {key}}}")
        } else {
            String::new()
        };
        let config = format!(
            "version: 0.1\n\
             log: {{level: warn}}\n\
             storage: {{filesystem: {{rootdirectory: data}}}}\n\
             http: {{addr: '127.0.0.1:{port}'{tls}}}\n\
             {auth}"
        );
        fs::write(dir.join("config.yml"), config).unwrap();
        let mut command = launch(&self.program);
        command.args(["serve", "config.yml"]);
        command
    }

    fn answers(&self, _dir: &Path, port: u16) -> bool {
        if self.tls {
            return TcpStream::connect(("127.0.0.1", port)).is_ok();
        }
        let url = format!("http://127.0.0.1:{port}/v2/");
        agent().get(url).call().is_ok()
    }
}
