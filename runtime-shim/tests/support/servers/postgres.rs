//! PostgreSQL with one user and database `gristmill`, who has to give a password by
//! SCRAM-SHA-256; synced, so that a commit survives a kill. It refuses to run as root: then it
//! runs as `nobody`. A server that was killed leaves a shared memory segment of 56 bytes behind
//! until it is started again.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;

use super::process::{Kind, Server, launch_with};
use super::{program, tls};
use crate::support::PATIENCE;

/// A running `postgres`.
pub type Postgres = Server<PostgresServer>;

pub struct PostgresServer {
    bin: PathBuf,
    password: String,
    tls: bool,
    as_root: bool,
}

/// Debian's `nobody`. It keeps the right to read and write what is root's, because the folders
/// on the way to programs and data may be closed to others. PostgreSQL asks access(2) about them,
/// which believes in that right only without the fix-up.
const AS_NOBODY: &[&str] = &[
    "--reuid=65534",
    "--regid=65534",
    "--clear-groups",
    "--securebits=+no_setuid_fixup",
    "--inh-caps=+dac_override",
    "--ambient-caps=+dac_override",
];
const NOBODY: u32 = 65534;

impl Postgres {
    /// Starts one whose user has this password.
    pub fn start(password: &str) -> Option<Self> {
        Self::start_as(password, false)
    }

    /// Starts one that speaks TLS only, with a certificate of [`Self::ca_file`].
    pub fn start_tls(password: &str) -> Option<Self> {
        Self::start_as(password, true)
    }

    fn start_as(password: &str, tls: bool) -> Option<Self> {
        let bin = program("GRISTMILL_TEST_POSTGRES_BIN")?;
        let dir = tempfile::tempdir().unwrap();
        let kind = PostgresServer {
            bin,
            password: password.to_owned(),
            tls,
            as_root: fs::metadata(dir.path()).unwrap().uid() == 0,
        };
        kind.make_cluster(dir.path());
        Some(Self::launch(kind, dir))
    }

    /// With user, password and database in it.
    pub fn url(&self) -> String {
        let query = if self.kind.tls {
            "?sslmode=require"
        } else {
            ""
        };
        let (password, port) = (&self.kind.password, self.port());
        format!("postgres://gristmill:{password}@127.0.0.1:{port}/gristmill{query}")
    }

    /// The authority that signed its certificate, in PEM.
    pub fn ca_file(&self) -> PathBuf {
        self.dir.path().join(tls::CA_FILE)
    }

    /// Runs SQL by `psql` and returns the bare values; fails where that is not installed.
    pub fn run(&self, sql: &str) -> String {
        let own = self.kind.bin.join("psql");
        let psql = if own.exists() { own } else { "psql".into() };
        let output = Command::new(psql)
            .args(["--no-psqlrc", "--tuples-only", "--no-align", "--quiet"])
            .args(["--set", "ON_ERROR_STOP=1", "--command", sql, &self.url()])
            .env("PGSSLROOTCERT", self.ca_file())
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }
}

impl PostgresServer {
    fn launch(&self, program: &str) -> Command {
        let options = if self.as_root { AS_NOBODY } else { &[] };
        let mut command = launch_with(options, &self.bin.join(program));
        // Messages are matched, and the machine's variables are none of our business.
        command.env("LC_ALL", "C");
        for (name, _) in std::env::vars_os() {
            if name.to_str().is_some_and(|name| name.starts_with("PG")) {
                command.env_remove(name);
            }
        }
        command
    }

    fn make_cluster(&self, dir: &Path) {
        let data = dir.join("data");
        let password_file = dir.join("password");
        fs::create_dir(&data).unwrap();
        fs::write(&password_file, &self.password).unwrap();
        self.own(&data);
        let mut initdb = self.launch("initdb");
        initdb.arg("--pgdata").arg(&data);
        initdb.args(["--username=gristmill", "--auth=scram-sha-256", "--no-sync"]);
        initdb.args(["--encoding=UTF8", "--no-locale"]);
        initdb.arg("--pwfile").arg(password_file);
        succeed(&mut initdb);
        // Without a server, the database is its own client.
        let mut single = self.launch("postgres");
        single
            .args(["--single", "-j", "-D"])
            .arg(&data)
            .arg("postgres");
        single.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = single.stderr(Stdio::piped()).spawn().unwrap();
        let sql = b"CREATE DATABASE gristmill;\n\n";
        child.stdin.take().unwrap().write_all(sql).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{output:?}");
        if self.tls {
            tls::make(dir);
            self.own(&dir.join(tls::KEY_FILE));
            let rule = "hostssl all all 127.0.0.1/32 scram-sha-256\n";
            fs::write(data.join("pg_hba.conf"), rule).unwrap();
        }
    }

    fn own(&self, path: &Path) {
        if self.as_root {
            chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
        }
    }

    /// The first packet of a client is answered by a question for its password, or by the error
    /// that the server is not ready.
    fn greet(port: u16) -> std::io::Result<Vec<u8>> {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let parameters = b"\0\x03\0\0user\0gristmill\0database\0gristmill\0\0";
        let length = (parameters.len() + 4) as u32;
        stream.write_all(&length.to_be_bytes())?;
        stream.write_all(parameters)?;
        let mut answer = vec![0; 1024];
        let length = stream.read(&mut answer)?;
        answer.truncate(length);
        Ok(answer)
    }
}

impl Kind for PostgresServer {
    const NAME: &'static str = "postgres";
    /// Fast: it does not wait for clients to leave.
    const STOP: Signal = Signal::SIGINT;
    /// Immediate, like a kill, but it gives back its shared memory.
    const END: Signal = Signal::SIGQUIT;

    fn command(&self, dir: &Path, port: u16) -> Command {
        let mut command = self.launch("postgres");
        command.arg("-D").arg(dir.join("data"));
        let mut set = |name: &str, value: &str| {
            command.arg("-c").arg(format!("{name}={value}"));
        };
        set("port", &port.to_string());
        set("listen_addresses", "127.0.0.1");
        set("unix_socket_directories", "");
        set("shared_buffers", "16MB");
        // In its folder, so that it goes with it.
        set("dynamic_shared_memory_type", "mmap");
        set("fsync", "on");
        set("jit", "off");
        if self.tls {
            let file = |name: &str| dir.join(name).display().to_string();
            set("ssl", "on");
            set("ssl_cert_file", &file(tls::CERTIFICATE_FILE));
            set("ssl_key_file", &file(tls::KEY_FILE));
        }
        command
    }

    fn answers(&self, _dir: &Path, port: u16) -> bool {
        const CANNOT_CONNECT_NOW: &[u8] = b"57P03";
        Self::greet(port).is_ok_and(|answer| {
            let starting = answer
                .windows(CANNOT_CONNECT_NOW.len())
                .any(|code| code == CANNOT_CONNECT_NOW);
            !answer.is_empty() && !starting
        })
    }
}

fn succeed(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {output:?}");
}
