//! Redis, with a password and an append-only file that is synced before each answer: what was
//! acknowledged survives a kill.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::process::{Kind, Server, launch};
use super::{program, tls};
use crate::support::PATIENCE;

/// A running `redis-server`.
pub type Redis = Server<RedisServer>;

pub struct RedisServer {
    program: PathBuf,
    password: String,
    tls: bool,
}

impl Redis {
    /// Starts one that takes this password.
    pub fn start(password: &str) -> Option<Self> {
        Self::start_as(password, false)
    }

    /// Starts one that speaks TLS only, with a certificate of [`Self::ca_file`].
    pub fn start_tls(password: &str) -> Option<Self> {
        Self::start_as(password, true)
    }

    fn start_as(password: &str, tls: bool) -> Option<Self> {
        let program = program("GRISTMILL_TEST_REDIS_SERVER")?;
        let dir = tempfile::tempdir().unwrap();
        if tls {
            tls::make(dir.path());
        }
        let kind = RedisServer {
            program,
            password: password.to_owned(),
            tls,
        };
        Some(Self::launch(kind, dir))
    }

    /// With the password in it.
    pub fn url(&self) -> String {
        let scheme = if self.kind.tls { "rediss" } else { "redis" };
        format!(
            "{scheme}://:{}@127.0.0.1:{}",
            self.kind.password,
            self.port()
        )
    }

    /// The authority that signed its certificate, in PEM.
    pub fn ca_file(&self) -> PathBuf {
        self.dir.path().join(tls::CA_FILE)
    }

    /// Runs a command and returns the raw answer; works with TLS or without.
    pub fn run(&self, command: &[&str]) -> String {
        self.kind.run(self.dir.path(), command).unwrap()
    }
}

impl RedisServer {
    /// Beside its port it listens on a socket in its folder, so that asking it takes no TLS.
    fn run(&self, dir: &Path, command: &[&str]) -> std::io::Result<String> {
        let mut stream = UnixStream::connect(dir.join("redis.sock"))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut answer = String::new();
        for words in [&["AUTH", &self.password], command] {
            let bulk = |word: &&str| format!("${}\r\n{word}\r\n", word.len());
            let request: String = words.iter().map(bulk).collect();
            stream.write_all(format!("*{}\r\n{request}", words.len()).as_bytes())?;
            let mut buffer = vec![0; 64 * 1024];
            let length = stream.read(&mut buffer)?;
            answer = String::from_utf8_lossy(&buffer[..length]).into_owned();
        }
        Ok(answer)
    }
}

impl Kind for RedisServer {
    const NAME: &'static str = "redis";

    fn command(&self, dir: &Path, port: u16) -> Command {
        let mut command = launch(&self.program);
        let port = port.to_string();
        command.args(["--bind", "127.0.0.1", "--unixsocket", "redis.sock"]);
        command.args(["--requirepass", &self.password]);
        command.args(["--appendonly", "yes", "--appendfsync", "always"]);
        command.arg("--dir").arg(dir);
        if self.tls {
            command.args(["--port", "0", "--tls-port", &port]);
            command.args(["--tls-cert-file", tls::CERTIFICATE_FILE]);
            command.args(["--tls-key-file", tls::KEY_FILE]);
            command.args(["--tls-ca-cert-file", tls::CA_FILE]);
            command.args(["--tls-auth-clients", "no"]);
        } else {
            command.args(["--port", &port]);
        }
        command
    }

    fn answers(&self, dir: &Path, _port: u16) -> bool {
        self.run(dir, &["PING"])
            .is_ok_and(|answer| answer == "+PONG\r\n")
    }
}
