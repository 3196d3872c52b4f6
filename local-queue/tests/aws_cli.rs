//! The server as the unmodified AWS command line sees it, each call a process of its own. It comes
//! from `cargo xtask test`, which makes the environment of `aws-cli/requirements.txt`.
#![allow(
    clippy::unwrap_used,
    missing_docs,
    unreachable_pub,
    dead_code,
    reason = "a test stops at the first failure; `support` is shared by several test binaries"
)]

mod support;

use std::path::PathBuf;

use serde_json::{Value, json};
use support::Endpoint;
use tokio::process::Command;

struct Cli {
    program: PathBuf,
    endpoint: Endpoint,
}

impl Cli {
    /// `None` where it is not installed and need not be.
    async fn find() -> Option<Self> {
        let program = support::tool("GRISTMILL_TEST_AWS_CLI")?;
        let endpoint = Endpoint::start().await;
        Some(Self { program, endpoint })
    }

    async fn run(&self, arguments: &[&str]) -> Result<Value, String> {
        let output = Command::new(&self.program)
            .args(["sqs", "--output", "json", "--endpoint-url"])
            .arg(self.endpoint.url())
            .args(arguments)
            .env("AWS_ACCESS_KEY_ID", "any")
            .env("AWS_SECRET_ACCESS_KEY", "any")
            .env("AWS_DEFAULT_REGION", "eu-central-1")
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .env("AWS_MAX_ATTEMPTS", "1")
            .env("AWS_PAGER", "")
            // Nobody's profile.
            .env("HOME", self.endpoint.dir.path())
            .kill_on_drop(true)
            .output()
            .await
            .unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        if output.status.success() {
            // What has no result says nothing.
            return Ok(serde_json::from_str(&said).unwrap_or_default());
        }
        Err(String::from_utf8(output.stderr).unwrap())
    }

    async fn ok(&self, arguments: &[&str]) -> Value {
        let result = self.run(arguments).await;
        result.unwrap_or_else(|error| panic!("{arguments:?}: {error}"))
    }

    /// The code that the command line shows.
    async fn refused(&self, code: &str, arguments: &[&str]) {
        let error = self.run(arguments).await.unwrap_err();
        let shown = format!("An error occurred ({code}) when calling the");
        assert!(error.contains(&shown), "{arguments:?}: {error}");
    }

    async fn create(&self, name: &str, attributes: &Value) -> String {
        let attributes = attributes.to_string();
        let create = [
            "create-queue",
            "--queue-name",
            name,
            "--attributes",
            &attributes,
        ];
        text(&self.ok(&create).await["QueueUrl"])
    }

    /// All messages that are visible, with everything about them.
    async fn receive(&self, url: &str) -> Vec<Value> {
        let got = self
            .ok(&[
                "receive-message",
                "--queue-url",
                url,
                "--max-number-of-messages",
                "10",
                "--attribute-names",
                "All",
                "--message-attribute-names",
                "All",
            ])
            .await;
        got["Messages"].as_array().cloned().unwrap_or_default()
    }

    async fn attributes(&self, url: &str) -> Value {
        let get = [
            "get-queue-attributes",
            "--queue-url",
            url,
            "--attribute-names",
            "All",
        ];
        self.ok(&get).await["Attributes"].clone()
    }
}

fn text(value: &Value) -> String {
    value.as_str().expect("a text").to_owned()
}

fn bodies(messages: &[Value]) -> Vec<String> {
    messages
        .iter()
        .map(|message| text(&message["Body"]))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_go_through_the_command_line() {
    let Some(cli) = Cli::find().await else {
        return;
    };
    let url = cli.create("q", &json!({ "VisibilityTimeout": "60" })).await;
    let attributes = json!({ "kind": { "DataType": "String", "StringValue": "größer" } });
    let send = ["send-message", "--queue-url", &url, "--message-body", "one"];
    let attributes = attributes.to_string();
    let sent = cli
        .ok(&[&send[..], &["--message-attributes", &attributes]].concat())
        .await;
    let entries = json!([
        { "Id": "a", "MessageBody": "two" },
        { "Id": "b", "MessageBody": "three" },
        { "Id": "c", "MessageBody": "late", "DelaySeconds": 900 },
    ]);
    let entries = entries.to_string();
    let batch = [
        "send-message-batch",
        "--queue-url",
        &url,
        "--entries",
        &entries,
    ];
    let batch = cli.ok(&batch).await;
    assert_eq!(batch["Successful"].as_array().unwrap().len(), 3);

    let messages = cli.receive(&url).await;
    assert_eq!(bodies(&messages), ["one", "two", "three"]);
    assert_eq!(messages[0]["MessageId"], sent["MessageId"]);
    assert_eq!(
        messages[0]["MessageAttributes"]["kind"]["StringValue"],
        "größer"
    );
    assert_eq!(messages[0]["Attributes"]["ApproximateReceiveCount"], "1");
    let handle = |n: usize| text(&messages[n]["ReceiptHandle"]);
    let change = async |handle: &str, secs: &str| {
        let change = ["change-message-visibility", "--queue-url", &url];
        let to = ["--receipt-handle", handle, "--visibility-timeout", secs];
        cli.run(&[&change[..], &to].concat()).await
    };
    change(&handle(0), "0").await.unwrap();
    let again = cli.receive(&url).await;
    assert_eq!(bodies(&again), ["one"]);
    assert_eq!(again[0]["Attributes"]["ApproximateReceiveCount"], "2");
    let error = change(&handle(1), "43201").await.unwrap_err();
    assert!(error.contains("(InvalidParameterValue)"), "{error}");
    let error = change("nonsense", "1").await.unwrap_err();
    assert!(error.contains("(ReceiptHandleIsInvalid)"), "{error}");

    let entries = json!([
        { "Id": "1", "ReceiptHandle": handle(1) },
        { "Id": "2", "ReceiptHandle": handle(2) },
        { "Id": "bad", "ReceiptHandle": "nonsense" },
    ]);
    let entries = entries.to_string();
    let delete = [
        "delete-message-batch",
        "--queue-url",
        &url,
        "--entries",
        &entries,
    ];
    let deleted = cli.ok(&delete).await;
    assert_eq!(deleted["Successful"].as_array().unwrap().len(), 2);
    assert_eq!(deleted["Failed"][0]["Code"], "ReceiptHandleIsInvalid");
    let depth = async || {
        let all = cli.attributes(&url).await;
        ["", "NotVisible", "Delayed"].map(|s| text(&all[format!("ApproximateNumberOfMessages{s}")]))
    };
    assert_eq!(depth().await, ["0", "1", "1"]);
    cli.ok(&["purge-queue", "--queue-url", &url]).await;
    assert_eq!(depth().await, ["0", "0", "0"]);
    let empty = ["send-message-batch", "--queue-url", &url, "--entries", "[]"];
    cli.refused("AWS.SimpleQueueService.EmptyBatchRequest", &empty)
        .await;
    cli.ok(&["delete-queue", "--queue-url", &url]).await;
    let gone = ["get-queue-url", "--queue-name", "q"];
    cli.refused("AWS.SimpleQueueService.NonExistentQueue", &gone)
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn queues_are_listed_tagged_and_permitted() {
    let Some(cli) = Cli::find().await else {
        return;
    };
    let mut urls = Vec::new();
    for name in ["page-a", "page-b", "page-c"] {
        urls.push(cli.create(name, &json!({ "DelaySeconds": "1" })).await);
    }
    let list = [
        "list-queues",
        "--queue-name-prefix",
        "page-",
        "--page-size",
        "2",
    ];
    assert_eq!(cli.ok(&list).await["QueueUrls"], json!(urls));
    let first = cli.ok(&[&list[..], &["--max-items", "2"]].concat()).await;
    assert_eq!(first["QueueUrls"], json!(urls[..2]));
    let token = text(&first["NextToken"]);
    let rest = cli
        .ok(&[&list[..], &["--starting-token", &token]].concat())
        .await;
    assert_eq!(rest["QueueUrls"], json!(urls[2..]));
    let other = [
        "create-queue",
        "--queue-name",
        "page-a",
        "--attributes",
        "DelaySeconds=2",
    ];
    cli.refused("QueueAlreadyExists", &other).await;

    let url = &urls[0];
    cli.ok(&[
        "tag-queue",
        "--queue-url",
        url,
        "--tags",
        "team=a,stage=test",
    ])
    .await;
    cli.ok(&["untag-queue", "--queue-url", url, "--tag-keys", "stage"])
        .await;
    let tags = cli.ok(&["list-queue-tags", "--queue-url", url]).await;
    assert_eq!(tags["Tags"], json!({ "team": "a" }));

    let add = [
        "add-permission",
        "--queue-url",
        url,
        "--label",
        "l",
        "--actions",
        "SendMessage",
    ];
    cli.ok(&[&add[..], &["--aws-account-ids", "111111111111"]].concat())
        .await;
    let policy = text(&cli.attributes(url).await["Policy"]);
    assert!(
        policy.contains("arn:aws:iam::111111111111:root"),
        "{policy}"
    );
    let remove = ["remove-permission", "--queue-url", url, "--label", "l"];
    cli.ok(&remove).await;
    assert_eq!(cli.attributes(url).await["Policy"], Value::Null);
    cli.refused("InvalidParameterValue", &remove).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_of_a_fifo_queue_go_and_come_back() {
    let Some(cli) = Cli::find().await else {
        return;
    };
    let fifo = json!({ "FifoQueue": "true", "ContentBasedDeduplication": "true" });
    let dead = cli.create("q-dlq.fifo", &fifo).await;
    let arn = text(&cli.attributes(&dead).await["QueueArn"]);
    let mut attributes = fifo.clone();
    attributes["VisibilityTimeout"] = "0".into();
    let policy = json!({ "deadLetterTargetArn": arn, "maxReceiveCount": 1 });
    attributes["RedrivePolicy"] = policy.to_string().into();
    let url = cli.create("q.fifo", &attributes).await;
    let send = [
        "send-message",
        "--queue-url",
        &url,
        "--message-body",
        "poison",
    ];
    cli.refused("MissingParameter", &send).await;
    let send = [&send[..], &["--message-group-id", "g"]].concat();
    let sent = cli.ok(&send).await;
    assert_eq!(
        cli.ok(&send).await["SequenceNumber"],
        sent["SequenceNumber"]
    );
    assert_eq!(bodies(&cli.receive(&url).await), ["poison"]);
    assert!(cli.receive(&url).await.is_empty());

    let sources = ["list-dead-letter-source-queues", "--queue-url", &dead];
    assert_eq!(cli.ok(&sources).await["queueUrls"], json!([url]));
    let hidden = ["set-queue-attributes", "--queue-url", &url, "--attributes"];
    cli.ok(&[&hidden[..], &["VisibilityTimeout=60"]].concat())
        .await;
    cli.ok(&["start-message-move-task", "--source-arn", &arn])
        .await;
    let wait = [
        "receive-message",
        "--queue-url",
        &url,
        "--wait-time-seconds",
        "20",
    ];
    let back = cli.ok(&wait).await;
    assert_eq!(bodies(back["Messages"].as_array().unwrap()), ["poison"]);
    let tasks = ["list-message-move-tasks", "--source-arn", &arn];
    let task = cli.ok(&tasks).await["Results"][0].clone();
    assert_eq!(task["ApproximateNumberOfMessagesMoved"], 1);
    let unknown = format!("{arn}-none");
    let start = ["start-message-move-task", "--source-arn", &unknown];
    cli.refused("ResourceNotFoundException", &start).await;
}
