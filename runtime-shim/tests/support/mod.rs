//! Runs the real `gristmill` on free ports, and talks to it as users do.
#![allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "each test file uses a part, and a failing one shows the log"
)]

pub mod net;
pub mod pictures;
pub mod push;
pub mod queues;
pub mod servers;
pub mod tables;
pub mod ways;
pub mod web;

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// How long anything may take before a test gives up.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// The repository's root.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// A guest of the tests, or a component of the application: its path as a TOML string.
pub fn wasm(name: &str) -> String {
    format!("'{}'", wasm_file(name).display())
}

/// The file of a guest or component.
pub fn wasm_file(name: &str) -> PathBuf {
    let release = Path::new(env!("CARGO_BIN_EXE_gristmill")).parent().unwrap();
    let path = release
        .parent()
        .unwrap()
        .join("wasm32-wasip2/release")
        .join(format!("{name}.wasm"));
    assert!(
        path.exists(),
        "{} is missing: run `cargo xtask test`",
        path.display()
    );
    path
}

/// A manifest with the probe under `/probe/`, which reads what the other
/// components of `rest` leave in the store `results`.
pub fn with_probe(name: &str, rest: &str) -> String {
    let probe = wasm("guest_probe");
    format!(
        r#"
        spin_manifest_version = 2
        [application]
        name = "{name}"
        [[trigger.http]]
        route = "/probe/..."
        component = "probe"
        [component.probe]
        source = {probe}
        key_value_stores = ["results"]
        {rest}
        "#
    )
}

/// The worker on the embedded queue `jobs`, with further keys of its trigger and
/// with options.
pub fn worker(trigger: &str, options: &str) -> String {
    let worker = wasm("guest_worker");
    format!(
        r#"
        [[trigger.sqs]]
        component = "worker"
        queue_url = "http://127.0.0.1:9324/000000000000/jobs"
        {trigger}
        [application.trigger.sqs.worker]
        {options}
        [component.worker]
        source = {worker}
        key_value_stores = ["results"]
        "#
    )
}

/// The repository's own manifest; its components are where the test build put them.
pub fn own_manifest() -> String {
    let manifest = std::fs::read_to_string(root().join("spin.toml")).unwrap();
    let counter = wasm_file("counter");
    let target = counter.parent().unwrap().to_str().unwrap();
    manifest.replace("target/wasm32-wasip2/release", target)
}

/// A `gristmill` command without anything of this machine's AWS configuration.
pub fn gristmill(dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gristmill"));
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| name.starts_with("AWS_")) {
            command.env_remove(name);
        }
    }
    command
        .current_dir(dir)
        .env("AWS_EC2_METADATA_DISABLED", "true");
    command.env("GRISTMILL_LOG_FORMAT", "text");
    command
}

/// Runs to the end and returns what it printed.
pub fn output(command: &mut Command) -> Output {
    command.output().unwrap()
}

/// An application: a folder with a manifest, and the process that runs it.
pub struct App {
    dir: Arc<tempfile::TempDir>,
    command: &'static str,
    args: Vec<String>,
    env: Vec<(String, String)>,
    process: Option<Process>,
}

/// A process that printed `Ready`, and what it printed before.
pub struct Process {
    pub child: Child,
    pub http: Option<String>,
    pub queue: Option<String>,
    pub admin: Option<String>,
    pub log: Log,
}

impl App {
    /// Starts the application of `manifest`.
    pub fn start(manifest: &str) -> Self {
        Self::start_with(manifest, &[], &[])
    }

    /// Starts it with further flags and environment variables.
    pub fn start_with(manifest: &str, args: &[&str], env: &[(&str, &str)]) -> Self {
        Self::start_in(&[], manifest, args, env)
    }

    /// Starts it in a folder with further files.
    pub fn start_in(
        files: &[(&str, &str)],
        manifest: &str,
        args: &[&str],
        env: &[(&str, &str)],
    ) -> Self {
        let write_all = |dir: &Path| {
            for (name, content) in files {
                std::fs::write(dir.join(name), content).unwrap();
            }
        };
        Self::start_prepared(write_all, manifest, args, env)
    }

    /// Starts it in a folder that is prepared first.
    pub fn start_prepared(
        prepare: impl FnOnce(&Path),
        manifest: &str,
        args: &[&str],
        env: &[(&str, &str)],
    ) -> Self {
        let dir = tempfile::tempdir().unwrap();
        prepare(dir.path());
        Self::run("up", dir, manifest, args, env)
    }

    /// Follows it, in a folder that `prepare` fills.
    pub fn watch(manifest: &str, prepare: impl FnOnce(&Path)) -> Self {
        Self::watch_with(manifest, &[], prepare)
    }

    /// The same with further flags.
    pub fn watch_with(manifest: &str, args: &[&str], prepare: impl FnOnce(&Path)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        prepare(dir.path());
        Self::run("watch", dir, manifest, args, &[])
    }

    fn run(
        command: &'static str,
        dir: tempfile::TempDir,
        manifest: &str,
        args: &[&str],
        env: &[(&str, &str)],
    ) -> Self {
        std::fs::write(dir.path().join("spin.toml"), manifest).unwrap();
        let mut app = Self {
            dir: Arc::new(dir),
            command,
            args: args.iter().map(|s| (*s).to_owned()).collect(),
            env: env
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                .collect(),
            process: None,
        };
        app.restart();
        app
    }

    /// Starts the repository's own application on a fresh state folder.
    pub fn start_own() -> Self {
        Self::start(&own_manifest())
    }

    /// Starts the process (again) on the same state.
    pub fn restart(&mut self) {
        self.kill();
        let mut command = gristmill(self.dir.path());
        command.args([
            self.command,
            "--listen",
            "127.0.0.1:0",
            "--queue-listen",
            "127.0.0.1:0",
        ]);
        command
            .args(["--admin-listen", "127.0.0.1:0"])
            .args(&self.args)
            .envs(self.env.clone());
        self.process = Some(Process::start(command));
    }

    /// Changes the flags of the next start.
    pub fn set_args(&mut self, args: &[&str]) {
        self.args = args.iter().map(|s| (*s).to_owned()).collect();
    }

    fn process(&self) -> &Process {
        self.process.as_ref().expect("the application runs")
    }

    /// The folder of the manifest and the state.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// A URL under the HTTP address.
    pub fn url(&self, path: &str) -> String {
        format!(
            "{}{path}",
            self.process().http.as_deref().expect("it serves HTTP")
        )
    }

    /// The embedded queue's origin.
    pub fn queue_origin(&self) -> &str {
        self.process()
            .queue
            .as_deref()
            .expect("it serves the queue")
    }

    /// A URL under the admin address.
    pub fn admin(&self, path: &str) -> String {
        let admin = self.process().admin.as_deref();
        format!("{}{path}", admin.expect("an admin port"))
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.process().child.id()
    }

    /// What it logged so far.
    pub fn log(&self) -> String {
        self.process().log.read()
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.child.kill();
            process.child.wait().unwrap();
        }
    }

    /// SIGKILL; the log to its last line.
    pub fn kill_and_read(&mut self) -> String {
        let log = self.process().log.clone();
        self.kill();
        log.read()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: &str) {
        self.process().signal(signal);
    }

    /// Waits for the process to end; returns its status and its log.
    pub fn wait(&mut self) -> (ExitStatus, String) {
        let mut process = self.process.take().expect("the application runs");
        let status = wait_for("the process to end", || process.child.try_wait().unwrap());
        (status, process.log.read())
    }

    /// A call to the embedded queue in AWS' JSON protocol.
    pub fn sqs(&self, action: &str, mut body: Value) -> Value {
        if let Some(queue) = body
            .get("QueueName")
            .filter(|_| action != "CreateQueue")
            .cloned()
        {
            let url = format!(
                "{}/000000000000/{}",
                self.queue_origin(),
                queue.as_str().unwrap()
            );
            body["QueueUrl"] = url.into();
            body.as_object_mut().unwrap().remove("QueueName");
        }
        sqs_call(self.queue_origin(), action, &body)
    }

    /// Sends a message and returns its id.
    pub fn send(&self, queue: &str, body: &str) -> String {
        let answer = self.sqs(
            "SendMessage",
            json!({"QueueName": queue, "MessageBody": body}),
        );
        answer["MessageId"].as_str().unwrap().to_owned()
    }

    /// Visible, in flight and delayed messages of a queue.
    pub fn depth(&self, queue: &str) -> (u64, u64, u64) {
        let answer = self.sqs(
            "GetQueueAttributes",
            json!({"QueueName": queue, "AttributeNames": ["All"]}),
        );
        let number = |name: &str| {
            answer["Attributes"][name]
                .as_str()
                .unwrap()
                .parse()
                .unwrap()
        };
        (
            number("ApproximateNumberOfMessages"),
            number("ApproximateNumberOfMessagesNotVisible"),
            number("ApproximateNumberOfMessagesDelayed"),
        )
    }

    /// The sum of a metric over the labels that contain `labels`.
    pub fn metric(&self, name: &str, labels: &str) -> f64 {
        get(&self.admin("/metrics"))
            .1
            .lines()
            .filter(|line| line.starts_with(name) && line.contains(labels))
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum()
    }
}

impl Drop for App {
    fn drop(&mut self) {
        // Before the folder goes.
        self.kill();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- log of the process\n{}", self.log.read());
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a process logs: a file, so that a line is there as soon as it was written,
/// before any effect that the process had after it.
#[derive(Clone)]
pub struct Log(Arc<File>);

impl Default for Log {
    fn default() -> Self {
        Self(Arc::new(tempfile::tempfile().unwrap()))
    }
}

impl Log {
    /// All of it so far.
    pub fn read(&self) -> String {
        let length = self.0.metadata().unwrap().len();
        let mut bytes = vec![0; usize::try_from(length).unwrap()];
        // Not by `seek`: the process writes where this handle stands.
        self.0.read_exact_at(&mut bytes, 0).unwrap();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

impl Process {
    /// Sends a signal.
    pub fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        assert!(
            Command::new("kill")
                .args([signal, &pid])
                .status()
                .unwrap()
                .success()
        );
    }

    /// Starts it and waits for `Ready`.
    pub fn start(mut command: Command) -> Self {
        let log = Log::default();
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(log.0.try_clone().unwrap())
            .spawn()
            .unwrap();
        let (lines, printed) = mpsc::channel();
        let stdout = child.stdout.take().unwrap();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let _ = lines.send(line);
            }
        });
        let (mut http, mut queue, mut admin) = (None, None, None);
        loop {
            let Ok(line) = printed.recv_timeout(PATIENCE) else {
                let _ = child.kill();
                panic!("no `Ready`; it logged:\n{}", log.read());
            };
            match line.split_once(' ') {
                Some(("Serving", url)) => http = Some(url.to_owned()),
                Some(("Queue", url)) => queue = Some(url.to_owned()),
                Some(("Admin", url)) => admin = Some(url.to_owned()),
                _ if line == "Ready" => break,
                _ => panic!("unexpected line on stdout: {line}"),
            }
        }
        Self {
            child,
            http,
            queue,
            admin,
            log,
        }
    }
}

/// An HTTP client that reports statuses instead of failing on them.
pub fn agent() -> ureq::Agent {
    ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(PATIENCE))
        .build()
        .into()
}

/// One call to SQS.
pub fn sqs_call(endpoint: &str, action: &str, body: &Value) -> Value {
    aws_call(endpoint, &format!("AmazonSQS.{action}"), body)
}

/// A call in AWS' JSON protocol; the endpoints of tests take any signature.
pub fn aws_call(endpoint: &str, target: &str, body: &Value) -> Value {
    // Another region than the default one: an endpoint that keeps them apart
    // shows that the host asks in the region it was told.
    let scope = if target.starts_with("AmazonSQS") {
        "us-east-1/sqs"
    } else {
        "eu-central-1/dynamodb"
    };
    let credential = format!("local/20260101/{scope}/aws4_request");
    let response = agent()
        .post(endpoint)
        .header("content-type", "application/x-amz-json-1.0")
        .header("x-amz-target", target)
        .header(
            "authorization",
            format!("AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders=host, Signature=0"),
        )
        .send(body.to_string())
        .unwrap();
    let status = response.status();
    let text = response.into_body().read_to_string().unwrap();
    assert!(status.is_success(), "{target}: {status} {text}");
    if text.is_empty() {
        Value::Null
    } else {
        serde_json::from_str(&text).unwrap()
    }
}

/// Status and body of a GET.
pub fn get(url: &str) -> (u16, String) {
    let response = agent()
        .get(url)
        .call()
        .unwrap_or_else(|e| panic!("GET {url}: {e}"));
    (response.status().as_u16(), text(response))
}

/// Status and body of a POST with a JSON content type.
pub fn post(url: &str, body: &[u8]) -> (u16, String) {
    let request = agent().post(url).header("content-type", "application/json");
    let response = request
        .send(body)
        .unwrap_or_else(|e| panic!("POST {url}: {e}"));
    (response.status().as_u16(), text(response))
}

fn text(response: ureq::http::Response<ureq::Body>) -> String {
    let mut bytes = Vec::new();
    response
        .into_body()
        .into_reader()
        .read_to_end(&mut bytes)
        .unwrap();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Asks until there is an answer; fails when patience is at its end.
pub fn wait_for<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
