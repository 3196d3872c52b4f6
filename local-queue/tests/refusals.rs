//! What is refused, with SQS's code and in its words: the words of SQS itself where a recording of
//! them was found, those of its documentation else.
#![allow(
    clippy::unwrap_used,
    missing_docs,
    unreachable_pub,
    dead_code,
    reason = "a test stops at the first failure; `support` is shared by several test binaries"
)]

mod support;

use serde_json::{Value, json};
use support::raw::action;
use support::refusals::{INVALID, Queues, invalid};

const NAME: &str = "InvalidAttributeName";
const VALUE: &str = "InvalidAttributeValue";

#[tokio::test]
async fn names_and_queue_attributes() {
    let queues = Queues::create().await;
    let long = "x".repeat(81);
    let plain =
        "Can only include alphanumeric characters, hyphens, or underscores. 1 to 80 in length";
    let fifo = "The name of a FIFO queue can only include alphanumeric characters, hyphens, or \
                underscores, must end with .fifo suffix and be 1 to 80 in length";
    let nameless = "Value for parameter QueueName is invalid. Reason: Must specify a queue name.";
    for (input, message) in [
        (json!({}), nameless),
        (json!({ "QueueName": "" }), "Queue name cannot be empty"),
        (json!({ "QueueName": "a b" }), plain),
        (json!({ "QueueName": long }), plain),
        (json!({ "QueueName": "n.fifo" }), plain),
        (
            json!({ "QueueName": "n", "Attributes": { "FifoQueue": "true" } }),
            fifo,
        ),
    ] {
        queues
            .check("CreateQueue", "", input, INVALID, message)
            .await;
    }
    let missing = "The specified queue does not exist.";
    let code = "AWS.SimpleQueueService.NonExistentQueue";
    queues
        .check("PurgeQueue", "none", json!({}), code, missing)
        .await;
    let other = json!({ "QueueName": "q", "Attributes": { "DelaySeconds": "1" } });
    let exists = "A queue already exists with the same name and a different value for attribute \
                  DelaySeconds";
    queues
        .check("CreateQueue", "", other, "QueueAlreadyExists", exists)
        .await;

    for (queue, name, value, code, message) in [
        ("q", "Nonsense", "1", NAME, "Unknown Attribute Nonsense."),
        ("q", "QueueArn", "1", NAME, "Unknown Attribute QueueArn."),
        (
            "q",
            "FifoQueue",
            "true",
            NAME,
            "Unknown Attribute FifoQueue.",
        ),
        (
            "q",
            "ContentBasedDeduplication",
            "true",
            NAME,
            "Unknown Attribute ContentBasedDeduplication.",
        ),
        (
            "q",
            "DeduplicationScope",
            "queue",
            NAME,
            "You can specify the DeduplicationScope only when FifoQueue is set to true.",
        ),
        (
            "q",
            "FifoThroughputLimit",
            "perQueue",
            NAME,
            "You can specify the FifoThroughputLimit only when FifoQueue is set to true.",
        ),
        (
            "q.fifo",
            "FifoQueue",
            "false",
            VALUE,
            "Invalid value for the parameter FifoQueue. Reason: Modifying queue type is not supported.",
        ),
        (
            "q",
            "RedrivePolicy",
            "x",
            VALUE,
            "Invalid value for the parameter RedrivePolicy. Reason: Redrive policy is not a valid JSON \
          map.",
        ),
    ] {
        let input = json!({ "Attributes": { name: value } });
        queues
            .check("SetQueueAttributes", queue, input, code, message)
            .await;
    }
}

#[tokio::test]
async fn queue_attributes_out_of_range() {
    let queues = Queues::create().await;
    for (name, value) in [
        ("DelaySeconds", "901"),
        ("MaximumMessageSize", "1023"),
        ("MaximumMessageSize", "1048577"),
        ("MessageRetentionPeriod", "59"),
        ("MessageRetentionPeriod", "1209601"),
        ("ReceiveMessageWaitTimeSeconds", "21"),
        ("VisibilityTimeout", "43201"),
        ("VisibilityTimeout", "-1"),
        ("VisibilityTimeout", "x"),
        ("KmsDataKeyReusePeriodSeconds", "59"),
        ("SqsManagedSseEnabled", "maybe"),
        ("Policy", "{}"),
    ] {
        let input = json!({ "QueueUrl": queues.url("q"), "Attributes": { name: value } });
        let answer = action(&queues.0, "SetQueueAttributes", &input.to_string()).await;
        let begins = format!("Invalid value for the parameter {name}.");
        assert!(
            answer.body.contains(&begins),
            "{name} {value}: {}",
            answer.body
        );
        assert!(
            answer.body.contains("sqs#InvalidAttributeValue"),
            "{}",
            answer.body
        );
    }
    let attributes = json!({ "AttributeNames": ["Nonsense"] });
    let message = "Unknown Attribute Nonsense.";
    queues
        .check("GetQueueAttributes", "q", attributes, NAME, message)
        .await;
}

#[tokio::test]
async fn redrive_policies() {
    let queues = Queues::create().await;
    let policy = |target: &str, count: Value| {
        let arn = format!("arn:aws:sqs:us-east-1:000000000000:{target}");
        json!({ "deadLetterTargetArn": arn, "maxReceiveCount": count }).to_string()
    };
    let count = |count: &str| {
        format!(
            "Invalid value for maxReceiveCount: {count}, valid values are from 1 to 1000 both \
             inclusive."
        )
    };
    for (policy, reason) in [
        (
            policy("none", json!(1)),
            "Dead letter target does not exist.".to_owned(),
        ),
        (
            policy("q.fifo", json!(1)),
            "Dead-letter queue must be same type of queue as the source.".to_owned(),
        ),
        (policy("q", json!(0)), count("0")),
        (policy("q", json!(1001)), count("1001")),
        (
            json!({ "deadLetterTargetArn": "x" }).to_string(),
            "Redrive policy does not contain mandatory attribute: maxReceiveCount.".to_owned(),
        ),
        (
            json!({ "maxReceiveCount": 1 }).to_string(),
            "Redrive policy does not contain mandatory attribute: deadLetterTargetArn.".to_owned(),
        ),
    ] {
        let message = invalid("RedrivePolicy", &policy, &reason);
        let input = json!({ "Attributes": { "RedrivePolicy": policy } });
        queues
            .check("SetQueueAttributes", "q", input, INVALID, &message)
            .await;
    }
}

#[tokio::test]
async fn tags_pages_and_move_tasks() {
    let queues = Queues::create().await;
    let tag = |key: &str, value: &str| json!({ "Tags": { key: value } });
    let symbols = "may only contain unicode letters, digits, whitespace, or one of these symbols: _ \
                   . : / = + - @";
    for (tags, message) in [
        (
            tag("", "v"),
            "Tag keys must be between 1 and 128 characters in length.".to_owned(),
        ),
        (tag("a!", "v"), format!("Tag keys {symbols}")),
        (tag("a", "v!"), format!("Tag values {symbols}")),
    ] {
        queues.check("TagQueue", "q", tags, INVALID, &message).await;
    }
    let page = "Value for parameter MaxResults is invalid. Reason: MaxResults must be an integer \
                between 1 and 1000.";
    queues
        .check(
            "ListQueues",
            "",
            json!({ "MaxResults": 1_001 }),
            INVALID,
            page,
        )
        .await;

    let arn = |queue: &str| format!("arn:aws:sqs:us-east-1:000000000000:{queue}");
    let form = "You must use this format to specify the SourceArn: \
                arn:<partition>:<service>:<region>:<account-id>:<resource-id>";
    let unknown = "The resource that you specified for the SourceArn parameter doesn't exist.";
    let rate = "Value for parameter MaxNumberOfMessagesPerSecond is invalid. Reason: You must enter \
                a number that's between 1 and 500.";
    let gone = "ResourceNotFoundException";
    for (input, code, message) in [
        (json!({ "SourceArn": "q" }), INVALID, form),
        (json!({ "SourceArn": arn("none") }), gone, unknown),
        (
            json!({ "SourceArn": arn("q") }),
            INVALID,
            "Source queue must be configured as a Dead Letter Queue.",
        ),
        (
            json!({ "SourceArn": arn("q"), "MaxNumberOfMessagesPerSecond": 501 }),
            INVALID,
            rate,
        ),
    ] {
        queues
            .check("StartMessageMoveTask", "", input, code, message)
            .await;
    }
    let listed = json!({ "SourceArn": arn("q"), "MaxResults": 11 });
    let message = "Value for parameter MaxResults is invalid. Reason: You must enter a number that's \
                   between 1 and 10.";
    queues
        .check("ListMessageMoveTasks", "", listed, INVALID, message)
        .await;
    // base64 of {"taskId": "…", "sourceArn": "…"}
    let none = "eyJ0YXNrSWQiOiIwMDAwMDAwMC0wMDAwLTAwMDAtMDAwMC0wMDAwMDAwMDAwMDAiLCJzb3VyY2VBcm4iOiJhcm46YXdzOnNxczp1cy1lYXN0LTE6MDAwMDAwMDAwMDAwOnEifQ==";
    for (handle, code, message) in [
        (
            "nonsense",
            INVALID,
            "Value for parameter TaskHandle is invalid.",
        ),
        (none, gone, "Task does not exist."),
    ] {
        let input = json!({ "TaskHandle": handle });
        queues
            .check("CancelMessageMoveTask", "", input, code, message)
            .await;
    }
}

#[tokio::test]
async fn permissions_are_added_refused_and_removed() {
    let queues = Queues::create().await;
    let add = |label: &str, actions: &[&str]| json!({ "Label": label, "AWSAccountIds": ["111111111111"], "Actions": actions });
    let with_url = |mut input: Value| {
        input["QueueUrl"] = queues.url("q").into();
        input
    };
    let policy = async || {
        let input = with_url(json!({ "AttributeNames": ["Policy"] }));
        let got = queues.ok("GetQueueAttributes", input).await;
        let policy = got["Attributes"]["Policy"].as_str().map(str::to_owned);
        policy.map(|text| serde_json::from_str::<Value>(&text).unwrap())
    };
    queues
        .ok(
            "AddPermission",
            with_url(add("l", &["SendMessage", "GetQueueUrl"])),
        )
        .await;
    let arn = "arn:aws:sqs:us-east-1:000000000000:q";
    let expected = json!({
        "Version": "2008-10-17", "Id": format!("{arn}/SQSDefaultPolicy"),
        "Statement": [{
            "Sid": "l", "Effect": "Allow", "Resource": arn,
            "Principal": { "AWS": "arn:aws:iam::111111111111:root" },
            "Action": ["SQS:SendMessage", "SQS:GetQueueUrl"],
        }],
    });
    assert_eq!(policy().await, Some(expected));
    let again = invalid("Label", "l", "Already exists.");
    queues
        .check("AddPermission", "q", add("l", &["*"]), INVALID, &again)
        .await;
    let owners = invalid(
        "ActionName",
        "SQS:DeleteQueue",
        "Only the queue owner is allowed to \
                          invoke this action.",
    );
    queues
        .check(
            "AddPermission",
            "q",
            add("m", &["DeleteQueue"]),
            INVALID,
            &owners,
        )
        .await;
    let many = "8 Actions were found, maximum allowed is 7.";
    queues
        .check("AddPermission", "q", add("m", &["*"; 8]), "OverLimit", many)
        .await;
    queues
        .ok("RemovePermission", with_url(json!({ "Label": "l" })))
        .await;
    assert_eq!(policy().await, None);
    let missing = invalid("Label", "l", "can't find label.");
    let label = json!({ "Label": "l" });
    queues
        .check("RemovePermission", "q", label, INVALID, &missing)
        .await;
}
