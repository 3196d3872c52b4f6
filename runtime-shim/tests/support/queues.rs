//! `gristmill send` and `redrive` against a queue server, and a look into its queues.

use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use serde_json::{Value, json};

use super::servers::QueueServer;
use super::{gristmill, output, sqs_call};

/// `gristmill` with these arguments, and with credentials as an endpoint other than
/// the embedded origin needs them.
pub fn producer(dir: &Path, args: &[&str]) -> Command {
    let mut command = gristmill(dir);
    command
        .args(args)
        .env("AWS_ACCESS_KEY_ID", "any")
        .env("AWS_SECRET_ACCESS_KEY", "any");
    command
}

/// A producer that has ended.
pub struct Ended {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

impl Ended {
    /// It did all that it was asked for.
    #[track_caller]
    pub fn done(self) -> String {
        assert_eq!(self.code, Some(0), "{}{}", self.stdout, self.stderr);
        self.stdout
    }

    /// It failed; its output and its error.
    #[track_caller]
    pub fn failed(self) -> (String, String) {
        assert_eq!(self.code, Some(1), "{}{}", self.stdout, self.stderr);
        (self.stdout, self.stderr)
    }
}

/// Runs it at the endpoint of `server` to its end.
pub fn run(server: &QueueServer, args: &[&str]) -> Ended {
    let endpoint = server.endpoint();
    let args = [args, &["--endpoint", &endpoint]].concat();
    output(&mut producer(Path::new("."), &args)).into()
}

/// Starts it, with pipes.
pub fn start(server: &QueueServer, args: &[&str]) -> Child {
    let endpoint = server.endpoint();
    let args = [args, &["--endpoint", &endpoint]].concat();
    producer(Path::new("."), &args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Sends it a signal.
pub fn signal(child: &Child, signal: &str) {
    let pid = child.id().to_string();
    let killed = Command::new("kill").args([signal, &pid]).status();
    assert!(killed.unwrap().success());
}

/// A call about one queue of `server`.
pub fn call(server: &QueueServer, queue: &str, action: &str, mut body: Value) -> Value {
    let endpoint = server.endpoint();
    body["QueueUrl"] = format!("{endpoint}/000000000000/{queue}").into();
    sqs_call(&endpoint, action, &body)
}

/// Visible and hidden messages of a queue.
pub fn depth(server: &QueueServer, queue: &str) -> (u64, u64) {
    let all = json!({"AttributeNames": ["All"]});
    let answer = call(server, queue, "GetQueueAttributes", all);
    let number = |name: &str| -> u64 {
        let text = answer["Attributes"][name].as_str().unwrap();
        text.parse().unwrap()
    };
    (
        number("ApproximateNumberOfMessages"),
        number("ApproximateNumberOfMessagesNotVisible"),
    )
}

/// Receives and deletes everything that is visible.
pub fn drain(server: &QueueServer, queue: &str) -> Vec<Value> {
    let mut drained = Vec::new();
    loop {
        let ask = json!({
            "MaxNumberOfMessages": 10,
            "MessageAttributeNames": ["All"],
            "AttributeNames": ["All"],
        });
        let answer = call(server, queue, "ReceiveMessage", ask);
        let Some(messages) = answer["Messages"].as_array().filter(|m| !m.is_empty()) else {
            return drained;
        };
        for message in messages {
            let receipt = json!({"ReceiptHandle": message["ReceiptHandle"]});
            call(server, queue, "DeleteMessage", receipt);
            drained.push(message.clone());
        }
    }
}

/// The bodies of messages, sorted.
pub fn bodies(messages: &[Value]) -> Vec<&str> {
    let mut bodies: Vec<&str> = messages
        .iter()
        .map(|m| m["Body"].as_str().unwrap())
        .collect();
    bodies.sort_unstable();
    bodies
}
