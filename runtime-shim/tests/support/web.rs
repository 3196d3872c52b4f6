//! HTTP as a browser, a script or an attacker speaks it: a client with a cookie jar over plain
//! sockets, so that a test can send what a well-behaved library would not. Knows the session
//! cookie's name and nothing else of the services.

use std::fmt::Write as _;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Mutex;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{App, PATIENCE, own_manifest};

/// The session's cookie.
pub const COOKIE: &str = "gm_session";
/// Meets the rules and is on no list.
pub const PASSWORD: &str = "seven stones grind slowly";
/// No answer of the application is larger.
const MAX_BODY: u64 = 64 * 1024 * 1024;

/// What came back.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.all(name).next()
    }

    /// Every value of a header.
    pub fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.headers
            .iter()
            .filter(move |(other, _)| other == name)
            .map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error} in {} {}", self.status, self.text()))
    }

    /// The answer, if it has this status.
    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}", self.text());
        self
    }

    /// The detail of a problem document with this status; all its other parts are checked.
    #[track_caller]
    pub fn problem(&self, status: u16) -> String {
        assert_eq!(self.status, status, "{}", self.text());
        let kind = self.header("content-type");
        assert_eq!(kind, Some("application/problem+json"), "{}", self.text());
        let document = self.json();
        assert_eq!(document["type"], "about:blank", "{document}");
        assert_eq!(document["status"], status, "{document}");
        assert!(document["title"].is_string(), "{document}");
        document["detail"].as_str().unwrap_or_default().to_owned()
    }

    /// What a `Set-Cookie` makes of the session: nothing said, ended, or a token.
    pub fn session(&self) -> SetSession {
        let Some(cookie) = self
            .all("set-cookie")
            .find(|cookie| cookie.starts_with(&format!("{COOKIE}=")))
        else {
            return SetSession::Untouched;
        };
        let value = cookie[COOKIE.len() + 1..].split(';').next().unwrap_or("");
        let ended = cookie.to_ascii_lowercase().contains("max-age=0");
        if ended || value.is_empty() {
            SetSession::Ended
        } else {
            SetSession::Token(value.to_owned())
        }
    }
}

/// What an answer does to the session's cookie.
#[derive(Debug, PartialEq, Eq)]
pub enum SetSession {
    Untouched,
    Ended,
    Token(String),
}

/// Someone who talks to the application.
pub struct Client {
    authority: String,
    /// One of the loopback device's, where it matters.
    address: Option<String>,
    headers: Vec<(String, String)>,
    jar: Mutex<Option<String>>,
    /// Whether the jar takes what answers set.
    keeps_cookies: bool,
}

impl Client {
    /// Without a session.
    pub fn new(app: &App) -> Self {
        let url = app.url("");
        Self {
            authority: url.trim_start_matches("http://").to_owned(),
            address: None,
            headers: Vec::new(),
            jar: Mutex::new(None),
            keeps_cookies: false,
        }
    }

    /// Host and port of the application.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// The same client with one more header on each request.
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The same client from another address of this machine, as in `127.0.0.9`. It needs Linux,
    /// where all of 127.0.0.0/8 is the loopback device; elsewhere only 127.0.0.1 is.
    pub fn at(mut self, address: &str) -> Self {
        self.address = Some(address.to_owned());
        self
    }

    pub fn with_bearer(self, token: &str) -> Self {
        self.with("authorization", &format!("Bearer {token}"))
    }

    /// The same client with a jar that keeps the session which an answer sets.
    pub fn with_jar(mut self) -> Self {
        self.keeps_cookies = true;
        self
    }

    /// As a page of the site itself would: with this cookie and an honest origin.
    pub fn with_cookie(self, token: &str) -> Self {
        let origin = format!("http://{}", self.authority);
        self.set_cookie(Some(token));
        self.with("origin", &origin).with_jar()
    }

    /// Puts a cookie into the jar, or empties it.
    pub fn set_cookie(&self, token: Option<&str>) {
        *self.jar.lock().unwrap() = token.map(str::to_owned);
    }

    pub fn cookie(&self) -> Option<String> {
        self.jar.lock().unwrap().clone()
    }

    #[track_caller]
    pub fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &[], b"")
    }

    #[track_caller]
    pub fn delete(&self, path: &str) -> Answer {
        self.send("DELETE", path, &[], b"")
    }

    #[track_caller]
    pub fn post(&self, path: &str) -> Answer {
        self.send("POST", path, &[], b"")
    }

    #[track_caller]
    pub fn post_json(&self, path: &str, body: &Value) -> Answer {
        let json = [("content-type", "application/json")];
        self.send("POST", path, &json, body.to_string().as_bytes())
    }

    #[track_caller]
    pub fn register(&self, username: &str) -> Answer {
        let body = json!({"username": username, "password": PASSWORD});
        self.post_json("/auth/register", &body)
    }

    #[track_caller]
    pub fn login(&self, username: &str, password: &str) -> Answer {
        let body = json!({"username": username, "password": password});
        self.post_json("/auth/login", &body)
    }

    /// Uploads these bytes as they are.
    #[track_caller]
    pub fn upload(&self, bytes: &[u8]) -> Answer {
        let kind = [("content-type", "application/octet-stream")];
        self.send("POST", "/images/upload", &kind, bytes)
    }

    /// Uploads a form.
    #[track_caller]
    pub fn upload_form(&self, form: &Form) -> Answer {
        let kind = form.content_type();
        let kind = [("content-type", kind.as_str())];
        self.send("POST", "/images/upload", &kind, &form.bytes())
    }

    /// Any request. The jar's cookie goes with it.
    #[track_caller]
    pub fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let head = self.head(method, path, headers, Some(body.len()));
        self.exchange(method, head.as_bytes(), body)
    }

    /// The head of a request, for tests that lie about the rest.
    pub fn head(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        length: Option<usize>,
    ) -> String {
        let mut head = format!("{method} {path} HTTP/1.1\r\nconnection: close\r\n");
        let mut line = |name: &str, value: &str| write!(head, "{name}: {value}\r\n").unwrap();
        let own = self.headers.iter().map(|(n, v)| (n.as_str(), v.as_str()));
        let all: Vec<_> = own.chain(headers.iter().copied()).collect();
        if !all
            .iter()
            .any(|(name, _)| name.eq_ignore_ascii_case("host"))
        {
            line("host", &self.authority);
        }
        if let Some(cookie) = self.cookie() {
            line("cookie", &format!("{COOKIE}={cookie}"));
        }
        for (name, value) in all {
            line(name, value);
        }
        // A length of 0 says nothing for a method without a body.
        if let Some(length) = length.filter(|length| *length > 0 || method == "POST") {
            line("content-length", &length.to_string());
        }
        head.push_str("\r\n");
        head
    }

    /// Sends these very bytes. A server may answer and close before it has read all of them.
    #[track_caller]
    pub fn exchange(&self, method: &str, head: &[u8], body: &[u8]) -> Answer {
        let answer = self
            .try_exchange(method, head, body)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(head)));
        if self.keeps_cookies {
            match answer.session() {
                SetSession::Untouched => {}
                SetSession::Ended => self.set_cookie(None),
                SetSession::Token(token) => self.set_cookie(Some(&token)),
            }
        }
        answer
    }

    pub fn try_exchange(&self, method: &str, head: &[u8], body: &[u8]) -> io::Result<Answer> {
        let mut stream = self.connect()?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let written = stream.write_all(head).and_then(|()| stream.write_all(body));
        read_answer(&stream, method).map_err(|error| written.err().unwrap_or(error))
    }

    fn connect(&self) -> io::Result<TcpStream> {
        let Some(address) = &self.address else {
            return TcpStream::connect(&self.authority);
        };
        // The standard library cannot choose the address that it connects from.
        let parse = |text: &str| text.parse::<SocketAddr>().map_err(io::Error::other);
        let (from, to) = (parse(&format!("{address}:0"))?, parse(&self.authority)?);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build()?;
        let stream = runtime.block_on(async {
            let socket = tokio::net::TcpSocket::new_v4()?;
            socket.bind(from)?;
            socket.connect(to).await?.into_std()
        })?;
        stream.set_nonblocking(false)?;
        Ok(stream)
    }
}

/// Reads one answer and not a byte more: the server may leave the connection open.
fn read_answer(stream: impl Read, method: &str) -> io::Result<Answer> {
    let mut reader = BufReader::new(stream);
    loop {
        let mut answer = read_head(&mut reader)?;
        if answer.status == 100 {
            continue;
        }
        let bodyless = method == "HEAD" || matches!(answer.status, 204 | 304);
        let length = answer.header("content-length").map(str::parse::<u64>);
        if bodyless {
            return Ok(answer);
        }
        if answer.header("transfer-encoding").is_some() {
            answer.body = read_chunks(&mut reader)?;
        } else if let Some(length) = length {
            let length = length.map_err(io::Error::other)?;
            assert!(length <= MAX_BODY, "an answer of {length} bytes");
            reader.take(length).read_to_end(&mut answer.body)?;
            assert_eq!(answer.body.len() as u64, length, "the answer was cut off");
        } else {
            reader.take(MAX_BODY).read_to_end(&mut answer.body)?;
        }
        return Ok(answer);
    }
}

fn read_head(reader: &mut impl BufRead) -> io::Result<Answer> {
    let bad = |line: &str| io::Error::other(format!("no HTTP answer: {line:?}"));
    let first = read_line(reader)?;
    let status = first.split(' ').nth(1).and_then(|code| code.parse().ok());
    let status = status.ok_or_else(|| bad(&first))?;
    let mut headers = Vec::new();
    loop {
        let line = read_line(reader)?;
        if line.is_empty() {
            break;
        }
        let (name, value) = line.split_once(':').ok_or_else(|| bad(&line))?;
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    Ok(Answer {
        status,
        headers,
        body: Vec::new(),
    })
}

fn read_chunks(reader: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line = read_line(reader)?;
        let size = u64::from_str_radix(&line, 16).map_err(io::Error::other)?;
        reader.by_ref().take(size).read_to_end(&mut body)?;
        read_line(reader)?;
        if size == 0 {
            return Ok(body);
        }
    }
}

/// Without its end.
fn read_line(reader: &mut impl BufRead) -> io::Result<String> {
    let mut line = Vec::new();
    reader.take(64 * 1024).read_until(b'\n', &mut line)?;
    if line.is_empty() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(String::from_utf8_lossy(&line).trim_end().to_owned())
}

/// The repository's own application under these variables.
pub fn start(variables: &[(&str, &str)]) -> App {
    App::start_with(&own_manifest(), &[], variables)
}

/// A client with a new account, logged in by bearer token.
#[track_caller]
pub fn member(app: &App, username: &str) -> Client {
    Client::new(app).register(username).expect(201);
    let token = token_of(&Client::new(app).login(username, PASSWORD));
    Client::new(app).with_bearer(&token)
}

/// The token of a login.
#[track_caller]
pub fn token_of(login: &Answer) -> String {
    assert_eq!(login.status, 200, "{}", login.text());
    login.json()["token"].as_str().unwrap().to_owned()
}

/// The id of an upload that was taken.
#[track_caller]
pub fn id_of(upload: &Answer) -> String {
    assert_eq!(upload.status, 201, "{}", upload.text());
    upload.json()["id"].as_str().unwrap().to_owned()
}

/// The digest in hexadecimal digits.
pub fn sha256(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    digest.iter().fold(String::new(), |mut hex, byte| {
        write!(hex, "{byte:02x}").unwrap();
        hex
    })
}

/// A `multipart/form-data` body.
pub struct Form {
    pub boundary: String,
    /// Header lines and content of each part.
    pub parts: Vec<(String, Vec<u8>)>,
    /// Whether the last boundary ends the form, as it must.
    pub closed: bool,
}

impl Form {
    /// Without parts.
    pub fn empty() -> Self {
        Self {
            boundary: "----gristmill7MA4YWxkTrZu0gW".to_owned(),
            parts: Vec::new(),
            closed: true,
        }
    }

    pub fn field(self, name: &str, value: &str) -> Self {
        let head = format!("Content-Disposition: form-data; name=\"{name}\"\r\n");
        self.part(&head, value.as_bytes())
    }

    pub fn file(self, filename: &str, kind: &str, bytes: &[u8]) -> Self {
        let head = format!(
            "Content-Disposition: form-data; name=\"file\"; filename=\"{filename}\"\r\n\
             Content-Type: {kind}\r\n"
        );
        self.part(&head, bytes)
    }

    pub fn part(mut self, head: &str, bytes: &[u8]) -> Self {
        self.parts.push((head.to_owned(), bytes.to_vec()));
        self
    }

    pub fn content_type(&self) -> String {
        format!("multipart/form-data; boundary={}", self.boundary)
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut body = Vec::new();
        for (head, bytes) in &self.parts {
            body.extend(format!("--{}\r\n{head}\r\n", self.boundary).bytes());
            body.extend(bytes);
            body.extend(b"\r\n");
        }
        if self.closed {
            body.extend(format!("--{}--\r\n", self.boundary).bytes());
        }
        body
    }
}
