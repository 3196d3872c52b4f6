//! The guest `ways` as a consumer, and what it left: attempts and effects by group.

use serde_json::{Value, json};

use super::servers::QueueServer;
use super::{App, get, sqs_call, wait_for, wasm, with_probe};

/// The consumer of the queue at `queue_url`, with these options.
pub fn ways(queue_url: &str, options: &str) -> String {
    let ways = wasm("guest_ways");
    with_probe(
        "ways",
        &format!(
            r#"
            [[trigger.sqs]]
            component = "ways"
            queue_url = "{queue_url}"
            [application.trigger.sqs.ways]
            {options}
            [component.ways]
            source = {ways}
            key_value_stores = ["results"]
            "#
        ),
    )
}

/// What `ways` needs to consume from an endpoint that is not the embedded one.
pub const CREDENTIALS: [(&str, &str); 3] = [
    ("AWS_ACCESS_KEY_ID", "any"),
    ("AWS_SECRET_ACCESS_KEY", "any"),
    ("AWS_REGION", "us-east-1"),
];

/// A URL on the embedded queue.
pub fn embedded(queue: &str) -> String {
    format!("http://127.0.0.1:9324/000000000000/{queue}")
}

/// The lines under a key of the store `results`; none where there is no such key.
pub fn lines(app: &App, key: &str) -> Vec<String> {
    match get(&app.url(&format!("/probe/kv/{key}"))) {
        (200, lines) => lines.lines().map(str::to_owned).collect(),
        _ => Vec::new(),
    }
}

/// How many messages were settled so.
pub fn settled(app: &App, settlement: &str) -> usize {
    let label = format!("settlement=\"{settlement}\"");
    app.metric("gristmill_messages_settled_total", &label) as usize
}

/// Who serves the queues of a test.
pub enum Queues<'a> {
    Embedded(&'a App),
    Server(&'a QueueServer),
}

impl Queues<'_> {
    pub fn call(&self, queue: &str, action: &str, mut body: Value) -> Value {
        let endpoint = match self {
            Self::Embedded(app) => app.queue_origin().to_owned(),
            Self::Server(server) => server.endpoint(),
        };
        body["QueueUrl"] = format!("{endpoint}/000000000000/{queue}").into();
        sqs_call(&endpoint, action, &body)
    }

    /// Sends them in this order, ten with each call; a message's second word is its
    /// group where the queue is FIFO. Returns their ids.
    pub fn send_all(&self, queue: &str, bodies: &[String]) -> Vec<String> {
        let mut ids = Vec::new();
        for bodies in bodies.chunks(10) {
            let entry = |(index, body): (usize, &String)| {
                let mut entry = json!({"Id": index.to_string(), "MessageBody": body});
                if queue.ends_with(".fifo") {
                    entry["MessageGroupId"] = body.split(' ').nth(1).unwrap().into();
                    entry["MessageDeduplicationId"] = body.replace(' ', "-").into();
                }
                entry
            };
            let entries: Vec<Value> = bodies.iter().enumerate().map(entry).collect();
            let sent = self.call(queue, "SendMessageBatch", json!({"Entries": entries}));
            let sent = sent["Successful"].as_array().unwrap();
            assert_eq!(sent.len(), bodies.len());
            ids.extend(
                sent.iter()
                    .map(|m| m["MessageId"].as_str().unwrap().to_owned()),
            );
        }
        ids
    }

    /// Visible and hidden messages.
    pub fn depth(&self, queue: &str) -> (u64, u64) {
        let all = json!({"AttributeNames": ["All"]});
        let answer = self.call(queue, "GetQueueAttributes", all);
        let number = |name: &str| -> u64 {
            let text = answer["Attributes"][name].as_str().unwrap();
            text.parse().unwrap()
        };
        (
            number("ApproximateNumberOfMessages"),
            number("ApproximateNumberOfMessagesNotVisible"),
        )
    }

    pub fn wait_until_empty(&self, queue: &str) {
        wait_for("an empty queue", || {
            (self.depth(queue) == (0, 0)).then_some(())
        });
    }

    /// Receives and deletes everything that is visible.
    pub fn drain(&self, queue: &str) -> Vec<Value> {
        let mut drained = Vec::new();
        loop {
            let ask = json!({
                "MaxNumberOfMessages": 10,
                "MessageAttributeNames": ["All"],
                "AttributeNames": ["All"],
            });
            let answer = self.call(queue, "ReceiveMessage", ask);
            let Some(messages) = answer["Messages"].as_array().filter(|m| !m.is_empty()) else {
                return drained;
            };
            for message in messages {
                let receipt = json!({"ReceiptHandle": message["ReceiptHandle"]});
                self.call(queue, "DeleteMessage", receipt);
                drained.push(message.clone());
            }
        }
    }
}
