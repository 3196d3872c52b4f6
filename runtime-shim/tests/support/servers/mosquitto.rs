//! Mosquitto, for anyone or for one user with a password. It saves retained messages and
//! sessions after each change; the last change before a kill may still be lost.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::process::{Kind, Server, launch};
use super::program;
use crate::support::PATIENCE;

/// A running `mosquitto`.
pub type Mosquitto = Server<MosquittoServer>;

pub struct MosquittoServer {
    program: PathBuf,
    login: Option<(String, String)>,
}

impl Mosquitto {
    /// Starts one that lets anyone in.
    pub fn start() -> Option<Self> {
        Self::start_as(None)
    }

    /// Starts one that lets only this user in.
    pub fn start_for(user: &str, password: &str) -> Option<Self> {
        Self::start_as(Some((user.to_owned(), password.to_owned())))
    }

    fn start_as(login: Option<(String, String)>) -> Option<Self> {
        let kind = MosquittoServer {
            program: program("GRISTMILL_TEST_MOSQUITTO")?,
            login,
        };
        let dir = tempfile::tempdir().unwrap();
        kind.write_passwords(dir.path());
        Some(Self::launch(kind, dir))
    }

    /// Without the login.
    pub fn url(&self) -> String {
        format!("mqtt://127.0.0.1:{}", self.port())
    }

    /// A connection that was let in, for packets made by hand.
    pub fn connect(&self) -> TcpStream {
        self.kind.connect(self.port()).expect("it lets us in")
    }
}

impl MosquittoServer {
    /// It takes passwords only as its own tool hashes them, which Debian has in another folder.
    fn write_passwords(&self, dir: &Path) {
        let Some((user, password)) = &self.login else {
            return;
        };
        let name = "mosquitto_passwd";
        let folder = self.program.parent().unwrap();
        let tool = [folder.join(name), folder.join("../bin").join(name)]
            .into_iter()
            .find(|path| path.exists())
            .unwrap_or_else(|| name.into());
        let file = dir.join("passwords");
        let status = Command::new(tool)
            .args(["-b", "-c"])
            .arg(file)
            .args([user, password])
            .status()
            .unwrap();
        assert!(status.success());
    }

    /// CONNECT of MQTT 3.1.1 with a clean session.
    fn connect(&self, port: u16) -> std::io::Result<TcpStream> {
        let mut flags = 0b10;
        let mut payload = text("");
        if let Some((user, password)) = &self.login {
            flags |= 0b1100_0000;
            payload.extend(text(user));
            payload.extend(text(password));
        }
        let mut body = text("MQTT");
        body.extend([4, flags, 0, 0]);
        body.extend(payload);
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(&[0x10, u8::try_from(body.len()).unwrap()])?;
        stream.write_all(&body)?;
        let mut accepted = [0; 4];
        stream.read_exact(&mut accepted)?;
        if accepted == [0x20, 2, 0, 0] {
            Ok(stream)
        } else {
            Err(std::io::Error::other(format!("CONNACK: {accepted:?}")))
        }
    }
}

/// Text with its length before it.
fn text(text: &str) -> Vec<u8> {
    let length = u16::try_from(text.len()).unwrap();
    [&length.to_be_bytes(), text.as_bytes()].concat()
}

impl Kind for MosquittoServer {
    const NAME: &'static str = "mosquitto";

    fn command(&self, dir: &Path, port: u16) -> Command {
        let access = match self.login {
            Some(_) => format!("password_file {}", dir.join("passwords").display()),
            None => "allow_anonymous true".to_owned(),
        };
        // As root it would change to a user who cannot read the folder.
        let config = format!(
            "listener {port} 127.0.0.1\n{access}\nuser root\n\
             persistence true\npersistence_location {}/\n\
             autosave_on_changes true\nautosave_interval 1\n",
            dir.display()
        );
        let file = dir.join("mosquitto.conf");
        fs::write(&file, config).unwrap();
        let mut command = launch(&self.program);
        command.arg("-v").arg("-c").arg(file);
        command
    }

    fn answers(&self, _dir: &Path, port: u16) -> bool {
        self.connect(port).is_ok()
    }
}
