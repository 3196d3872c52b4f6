//! Stands between the shim and the queue, and is what networks and services are on
//! bad days. Counts every fault. Knows of SQS only what a fault needs.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use fastrand::Rng;
use serde_json::{Value, json};

use crate::support::servers::Port;
use crate::support::{sqs_call, wait_for};

/// No mode holds a connection for longer.
const LONGEST: Duration = Duration::from_secs(30);
/// Above the longest long poll.
const UPSTREAM_TIMEOUT: Duration = Duration::from_secs(40);

/// What happens to every call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Pass,
    Refuse,
    InternalError,
    Unavailable,
    Throttle,
    Hang,
    /// The proxy is at its end.
    Closed,
}

/// What happened to a call, or to a message of one.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    Refused,
    InternalError,
    Unavailable,
    Throttled,
    Hung,
    NotForwarded,
    AnswerLost,
    ReceiveLost,
    DeleteForgotten,
    DeliveredTwice,
}

impl Fault {
    pub const ALL: [(Self, &'static str); 10] = [
        (Self::Refused, "connections cut, then refused"),
        (Self::InternalError, "calls answered with 500"),
        (Self::Unavailable, "calls answered with 503"),
        (Self::Throttled, "calls throttled"),
        (Self::Hung, "calls that hung"),
        (Self::NotForwarded, "calls cut before they were done"),
        (Self::AnswerLost, "calls done whose answer was lost"),
        (Self::ReceiveLost, "receives whose answer was lost"),
        (Self::DeleteForgotten, "deletes confirmed and not done"),
        (Self::DeliveredTwice, "messages delivered twice at once"),
    ];
}

/// A running proxy.
pub struct Proxy {
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

struct Shared {
    port: Port,
    upstream: String,
    mode: Mutex<Mode>,
    changed: Condvar,
    connections: Mutex<Vec<TcpStream>>,
    /// One call in so many has a fault of its own.
    one_in: u32,
    rng: Mutex<Rng>,
    faults: [AtomicU64; Fault::ALL.len()],
    deleted: AtomicU64,
}

impl Proxy {
    /// Starts it before `upstream`, an origin.
    pub fn start(upstream: &str, seed: u64, one_in: u32) -> Self {
        let port = Port::reserve_for_user();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port.number())).unwrap();
        let shared = Arc::new(Shared {
            port,
            upstream: upstream.to_owned(),
            mode: Mutex::new(Mode::Pass),
            changed: Condvar::new(),
            connections: Mutex::default(),
            one_in,
            rng: Mutex::new(Rng::with_seed(seed ^ 0x9807)),
            faults: Default::default(),
            deleted: AtomicU64::new(0),
        });
        let accepting = Arc::clone(&shared);
        let acceptor = std::thread::spawn(move || accept(&accepting, listener));
        Self {
            shared,
            acceptor: Some(acceptor),
        }
    }

    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.shared.port.number())
    }

    /// From now on.
    pub fn set(&self, mode: Mode) {
        *lock(&self.shared.mode) = mode;
        self.shared.changed.notify_all();
        if matches!(mode, Mode::Refuse | Mode::Closed) {
            let cut = std::mem::take(&mut *lock(&self.shared.connections));
            self.shared.count(Fault::Refused, cut.len() as u64);
            for connection in cut {
                let _ = connection.shutdown(Shutdown::Both);
            }
            // Wakes the acceptor, which closes its door.
            drop(TcpStream::connect((
                Ipv4Addr::LOCALHOST,
                self.shared.port.number(),
            )));
        }
    }

    /// Messages deleted so far.
    pub fn deleted(&self) -> u64 {
        self.shared.deleted.load(Ordering::Relaxed)
    }

    /// Faults so far.
    pub fn count(&self, fault: Fault) -> u64 {
        self.shared.faults[fault as usize].load(Ordering::Relaxed)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.set(Mode::Closed);
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn accept(shared: &Arc<Shared>, mut listener: TcpListener) {
    loop {
        let accepted = listener.accept();
        match shared.mode() {
            Mode::Closed => return,
            Mode::Refuse => {
                drop((accepted, listener));
                shared.while_in(Mode::Refuse);
                listener = wait_for("the proxy's port", || {
                    TcpListener::bind((Ipv4Addr::LOCALHOST, shared.port.number())).ok()
                });
            }
            _ => {
                let Ok((stream, _)) = accepted else { continue };
                lock(&shared.connections).extend(stream.try_clone());
                let shared = Arc::clone(shared);
                // It ends with its connection, which the shim or `set` closes.
                std::thread::spawn(move || {
                    let _ = serve(&shared, &stream);
                    let _ = stream.shutdown(Shutdown::Both);
                });
            }
        }
    }
}

/// One HTTP message, as it came.
struct Wire {
    head: String,
    body: Vec<u8>,
}

impl Wire {
    fn read(reader: &mut impl BufRead) -> io::Result<Option<Self>> {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if reader.read_line(&mut head)? == 0 {
                return Ok(None);
            }
        }
        let length = header(&head, "content-length").and_then(|text| text.parse().ok());
        let mut body = vec![0; length.unwrap_or(0)];
        reader.read_exact(&mut body)?;
        Ok(Some(Self { head, body }))
    }

    fn write(&self, mut to: &TcpStream) -> io::Result<()> {
        to.write_all(&[self.head.as_bytes(), &self.body].concat())
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    fn answer(status: &str, body: &Value) -> Self {
        let body = body.to_string().into_bytes();
        let length = body.len();
        let kind = "content-type: application/x-amz-json-1.0";
        Self {
            head: format!("HTTP/1.1 {status}\r\n{kind}\r\ncontent-length: {length}\r\n\r\n"),
            body,
        }
    }

    fn error(status: &str, code: &str) -> Self {
        let body = json!({"__type": code, "message": "by the soak"});
        Self::answer(status, &body)
    }
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = head.lines().filter_map(|line| line.split_once(':'));
    let found = lines.find(|(key, _)| key.eq_ignore_ascii_case(name));
    found.map(|(_, value)| value.trim())
}

/// Serves one connection of the shim until either side ends it.
fn serve(shared: &Shared, client: &TcpStream) -> io::Result<()> {
    client.set_nodelay(true)?;
    let mut requests = BufReader::new(client);
    let address = shared.upstream.trim_start_matches("http://");
    let upstream = TcpStream::connect(address)?;
    upstream.set_nodelay(true)?;
    upstream.set_read_timeout(Some(UPSTREAM_TIMEOUT))?;
    let mut answers = BufReader::new(&upstream);
    while let Some(request) = Wire::read(&mut requests)? {
        let (fault, answer) = match shared.mode() {
            Mode::InternalError => (
                Fault::InternalError,
                Wire::error("500 Internal Server Error", "InternalFailure"),
            ),
            Mode::Unavailable => (
                Fault::Unavailable,
                Wire::error("503 Service Unavailable", "ServiceUnavailable"),
            ),
            Mode::Throttle => (
                Fault::Throttled,
                Wire::error("400 Bad Request", "com.amazonaws.sqs#RequestThrottled"),
            ),
            Mode::Hang => {
                shared.count(Fault::Hung, 1);
                shared.while_in(Mode::Hang);
                return Ok(());
            }
            Mode::Refuse | Mode::Closed => return Ok(()),
            Mode::Pass => {
                let mut forward = || {
                    request.write(&upstream)?;
                    Wire::read(&mut answers)
                };
                match shared.pass(&request, &mut forward)? {
                    Some(answer) => answer.write(client)?,
                    None => return Ok(()),
                }
                continue;
            }
        };
        shared.count(fault, 1);
        answer.write(client)?;
    }
    Ok(())
}

impl Shared {
    fn mode(&self) -> Mode {
        *lock(&self.mode)
    }

    /// Waits for this mode to end.
    fn while_in(&self, mode: Mode) {
        let end = Instant::now() + LONGEST;
        let mut current = lock(&self.mode);
        while *current == mode && Instant::now() < end {
            let left = end.saturating_duration_since(Instant::now());
            current = match self.changed.wait_timeout(current, left) {
                Ok((current, _)) => current,
                Err(poisoned) => poisoned.into_inner().0,
            };
        }
    }

    fn count(&self, fault: Fault, times: u64) {
        self.faults[fault as usize].fetch_add(times, Ordering::Relaxed);
    }

    /// One of so many faults that a call may have, or none.
    fn roll(&self, faults: u32) -> Option<u32> {
        let drawn = lock(&self.rng).u32(0..self.one_in * faults);
        (drawn < faults).then_some(drawn)
    }

    /// A call on a good day, when only single ones go wrong. No answer ends the
    /// connection.
    fn pass(
        &self,
        request: &Wire,
        forward: &mut dyn FnMut() -> io::Result<Option<Wire>>,
    ) -> io::Result<Option<Wire>> {
        let target = header(&request.head, "x-amz-target").unwrap_or_default();
        match target.trim_start_matches("AmazonSQS.") {
            "ReceiveMessage" => self.receive(request, forward),
            "DeleteMessageBatch" => self.delete(request, forward),
            "ChangeMessageVisibilityBatch" | "SendMessage" => match self.roll(2) {
                Some(0) => {
                    self.count(Fault::NotForwarded, 1);
                    Ok(None)
                }
                Some(_) => {
                    forward()?;
                    self.count(Fault::AnswerLost, 1);
                    Ok(None)
                }
                None => forward(),
            },
            _ => forward(),
        }
    }

    fn receive(
        &self,
        request: &Wire,
        forward: &mut dyn FnMut() -> io::Result<Option<Wire>>,
    ) -> io::Result<Option<Wire>> {
        let Some(answer) = forward()? else {
            return Ok(None);
        };
        let received = answer.json();
        let Some(first) = received["Messages"].get(0) else {
            return Ok(Some(answer));
        };
        match self.roll(2) {
            Some(0) => {
                self.count(Fault::ReceiveLost, 1);
                return Ok(None);
            }
            // Order forbids it for FIFO queues: SQS does not do that.
            Some(_) if !is_fifo(request) => {
                let again = json!({
                    "QueueUrl": request.json()["QueueUrl"],
                    "ReceiptHandle": first["ReceiptHandle"],
                    "VisibilityTimeout": 0,
                });
                sqs_call(&self.upstream, "ChangeMessageVisibility", &again);
                self.count(Fault::DeliveredTwice, 1);
            }
            _ => {}
        }
        Ok(Some(answer))
    }

    fn delete(
        &self,
        request: &Wire,
        forward: &mut dyn FnMut() -> io::Result<Option<Wire>>,
    ) -> io::Result<Option<Wire>> {
        let fault = self.roll(3);
        match fault {
            Some(0) => {
                self.count(Fault::NotForwarded, 1);
                return Ok(None);
            }
            // As a server of SQS does that was away when the message was deleted.
            Some(1) => {
                let asked = request.json();
                let entries = asked["Entries"].as_array().map_or(&[][..], Vec::as_slice);
                let done: Vec<_> = entries.iter().map(|e| json!({"Id": e["Id"]})).collect();
                self.count(Fault::DeleteForgotten, done.len() as u64);
                let answer = json!({"Successful": done, "Failed": []});
                return Ok(Some(Wire::answer("200 OK", &answer)));
            }
            _ => {}
        }
        let Some(answer) = forward()? else {
            return Ok(None);
        };
        let done = answer.json()["Successful"].as_array().map_or(0, Vec::len);
        self.deleted.fetch_add(done as u64, Ordering::Relaxed);
        if fault.is_some() {
            self.count(Fault::AnswerLost, 1);
            return Ok(None);
        }
        Ok(Some(answer))
    }
}

fn is_fifo(request: &Wire) -> bool {
    let url = &request.json()["QueueUrl"];
    url.as_str().is_some_and(|url| url.ends_with(".fifo"))
}
