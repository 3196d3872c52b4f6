//! What is refused in messages, receives and batches, with SQS's code and in its words: the words of SQS itself where a recording of
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
use support::raw::{Answer, action};
use support::refusals::{INVALID, MISSING, Queues, invalid};

#[tokio::test]
async fn messages_and_their_attributes() {
    let queues = Queues::create().await;
    let check = async |queue: &str, extra: Value, code: &str, message: &str| {
        let mut input = json!({ "MessageBody": "x" });
        input
            .as_object_mut()
            .unwrap()
            .extend(extra.as_object().unwrap().clone());
        queues
            .check("SendMessage", queue, input, code, message)
            .await;
    };
    let delay = "DelaySeconds must be >= 0 and <= 900.";
    for secs in [901, -1] {
        let message = invalid("DelaySeconds", secs, delay);
        check("q", json!({ "DelaySeconds": secs }), INVALID, &message).await;
    }
    let bodyless = "The request must contain the parameter MessageBody.";
    check("q", json!({ "MessageBody": "" }), MISSING, bodyless).await;
    let characters = "Invalid characters found. Valid unicode characters are #x9 | #xA | #xD | #x20 \
                      to #xD7FF | #xE000 to #xFFFD | #x10000 to #x10FFFF";
    let body = json!({ "MessageBody": "\u{1}" });
    check("q", body, "InvalidMessageContents", characters).await;
    let large = json!({ "MessageBody": "x".repeat(1_048_577) });
    let too_large = "One or more parameters are invalid. Reason: Message must be shorter than \
                     1048576 bytes.";
    check("q", large, INVALID, too_large).await;

    let text = |value: &str| json!({ "DataType": "String", "StringValue": value });
    for (name, attribute, message) in [
        (
            "a",
            text(""),
            "Message (user) attribute 'a' must contain a non-empty value of type 'String'.",
        ),
        (
            "a",
            json!({ "DataType": "Number", "StringValue": "x" }),
            "Can't cast the value of message (user) attribute 'a' to a number.",
        ),
        (
            "a",
            json!({ "DataType": "Text", "StringValue": "x" }),
            "The type of message (user) attribute 'a' is invalid. You must use only the following \
          supported type prefixes: Binary, Number, String.",
        ),
        (
            "a",
            json!({ "DataType": "String", "BinaryValue": "eA==" }),
            "The message (user) attribute 'a' with type 'String' must use field 'String'.",
        ),
        (
            "Amazon.a",
            text("x"),
            "You can't use message attribute names beginning with 'AWS.' or 'Amazon.'. These strings \
          are reserved for internal use.",
        ),
        (
            "a..b",
            text("x"),
            "Message (user) attribute name must not have successive '.' characters.",
        ),
    ] {
        check(
            "q",
            json!({ "MessageAttributes": { name: attribute } }),
            INVALID,
            message,
        )
        .await;
    }
    let many: serde_json::Map<_, _> = (0..11).map(|n| (format!("a{n}"), text("x"))).collect();
    let too_many = "Number of message attributes [11] exceeds the allowed maximum [10].";
    check("q", json!({ "MessageAttributes": many }), INVALID, too_many).await;
}

#[tokio::test]
async fn what_belongs_to_the_other_kind_of_queue() {
    let queues = Queues::create().await;
    let check = async |queue: &str, extra: Value, code: &str, message: &str| {
        let mut input = json!({ "MessageBody": "x" });
        input
            .as_object_mut()
            .unwrap()
            .extend(extra.as_object().unwrap().clone());
        queues
            .check("SendMessage", queue, input, code, message)
            .await;
    };
    let kind = "The request include parameter that is not valid for this queue type.";
    let deduplicated = json!({ "MessageDeduplicationId": "d" });
    let message = invalid("MessageDeduplicationId", "d", kind);
    check("q", deduplicated, INVALID, &message).await;
    let attempt = json!({ "ReceiveRequestAttemptId": "a" });
    let message = invalid("ReceiveRequestAttemptId", "a", kind);
    queues
        .check("ReceiveMessage", "q", attempt, INVALID, &message)
        .await;
    let group = json!({ "MessageGroupId": "g" });
    let undistinguished = "The queue should either have ContentBasedDeduplication enabled or \
                           MessageDeduplicationId provided explicitly";
    check("q.fifo", group, INVALID, undistinguished).await;
    let groupless = "The request must contain the parameter MessageGroupId.";
    check(
        "q.fifo",
        json!({ "MessageDeduplicationId": "d" }),
        MISSING,
        groupless,
    )
    .await;
    let late = json!({ "MessageGroupId": "g", "MessageDeduplicationId": "d", "DelaySeconds": 2 });
    check("q.fifo", late, INVALID, &invalid("DelaySeconds", 2, kind)).await;
    let long = "x".repeat(129);
    for id in ["", "a b", &long] {
        for (queue, parameter) in [
            ("q", "MessageGroupId"),
            ("content.fifo", "MessageGroupId"),
            ("content.fifo", "MessageDeduplicationId"),
        ] {
            let reason = format!(
                "{parameter} can only include alphanumeric and punctuation characters. 1 to 128 in \
                 length."
            );
            let message = invalid(parameter, id, &reason);
            let mut input = json!({ "MessageGroupId": "g" });
            input[parameter] = id.into();
            check(queue, input, INVALID, &message).await;
        }
    }
    // SQS refuses such a batch whole, under a code of its own.
    for (queue, entry, message) in [
        (
            "content.fifo",
            json!({ "Id": "1", "MessageBody": "x" }),
            groupless,
        ),
        (
            "q.fifo",
            json!({ "Id": "1", "MessageBody": "x", "MessageGroupId": "g" }),
            undistinguished,
        ),
    ] {
        let batch = json!({ "Entries": [entry] });
        queues
            .check("SendMessageBatch", queue, batch, INVALID, message)
            .await;
    }
}

#[tokio::test]
async fn receives_and_visibility() {
    let queues = Queues::create().await;
    let visible = "Must be >= 0 and <= 43200, if provided.";
    for (parameter, value, reason) in [
        (
            "MaxNumberOfMessages",
            11,
            "Must be between 1 and 10, if provided.",
        ),
        (
            "MaxNumberOfMessages",
            0,
            "Must be between 1 and 10, if provided.",
        ),
        (
            "MaxNumberOfMessages",
            -1,
            "Must be between 1 and 10, if provided.",
        ),
        (
            "WaitTimeSeconds",
            21,
            "Must be >= 0 and <= 20, if provided.",
        ),
        (
            "WaitTimeSeconds",
            -1,
            "Must be >= 0 and <= 20, if provided.",
        ),
        ("VisibilityTimeout", 43_201, visible),
        ("VisibilityTimeout", -1, visible),
    ] {
        let message = invalid(parameter, value, reason);
        let input = json!({ parameter: value });
        queues
            .check("ReceiveMessage", "q", input, INVALID, &message)
            .await;
    }
    let handle = json!({ "ReceiptHandle": "nonsense", "VisibilityTimeout": 1 });
    let message = "The input receipt handle \"nonsense\" is not a valid receipt handle.";
    for name in ["DeleteMessage", "ChangeMessageVisibility"] {
        queues
            .check(name, "q", handle.clone(), "ReceiptHandleIsInvalid", message)
            .await;
    }

    let url = queues.url("q");
    queues
        .ok(
            "SendMessage",
            json!({ "QueueUrl": url, "MessageBody": "x" }),
        )
        .await;
    let got = queues
        .ok("ReceiveMessage", json!({ "QueueUrl": url }))
        .await;
    let handle = &got["Messages"][0]["ReceiptHandle"];
    let change = |secs: i32| json!({ "ReceiptHandle": handle, "VisibilityTimeout": secs });
    for secs in [43_201, -1] {
        let message = invalid("VisibilityTimeout", secs, "Must be between 0 and 43200.");
        queues
            .check(
                "ChangeMessageVisibility",
                "q",
                change(secs),
                INVALID,
                &message,
            )
            .await;
    }
    let mut most = change(43_200);
    most["QueueUrl"] = url.as_str().into();
    // A moment after the receive, 12 hours from now are more than 12 hours from then.
    let mut answers = Vec::new();
    while answers
        .last()
        .is_none_or(|answer: &Answer| answer.status == 200)
    {
        assert!(
            answers.len() < 1_000,
            "it may be hidden for more than 12 hours"
        );
        answers.push(action(&queues.0, "ChangeMessageVisibility", &most.to_string()).await);
    }
    let answer = answers.pop().unwrap();
    let total = "Total VisibilityTimeout for the message is beyond the limit [43200 seconds]";
    let message = invalid("VisibilityTimeout", 43_200, total);
    assert!(answer.body.contains(&message), "{}", answer.body);
    let mut none = change(0);
    none["QueueUrl"] = url.as_str().into();
    queues.ok("ChangeMessageVisibility", none).await;
    let message = "The message referred to is not in flight under this receipt handle.";
    let code = "AWS.SimpleQueueService.MessageNotInflight";
    queues
        .check("ChangeMessageVisibility", "q", change(1), code, message)
        .await;
}

#[tokio::test]
async fn batches() {
    let queues = Queues::create().await;
    let batch = "AWS.SimpleQueueService.";
    let entry = |id: &str, body: &str| json!({ "Id": id, "MessageBody": body });
    let many: Vec<_> = (0..11).map(|n| entry(&n.to_string(), "x")).collect();
    let half = "x".repeat(524_289);
    let id = "A batch entry id can only contain alphanumeric characters, hyphens and underscores. It \
              can be at most 80 letters long.";
    for (entries, code, message) in [
        (
            json!([]),
            "EmptyBatchRequest",
            "There should be at least one SendMessageBatchRequestEntry in the request.",
        ),
        (
            json!(many),
            "TooManyEntriesInBatchRequest",
            "Maximum number of entries per request are 10. You have sent 11.",
        ),
        (
            json!([entry("a", "x"), entry("a", "y")]),
            "BatchEntryIdsNotDistinct",
            "Id a repeated.",
        ),
        (json!([entry("a b", "x")]), "InvalidBatchEntryId", id),
        (
            json!([entry(&"x".repeat(81), "x")]),
            "InvalidBatchEntryId",
            id,
        ),
        (
            json!([entry("a", &half), entry("b", &half)]),
            "BatchRequestTooLong",
            "Batch requests cannot be longer than 1048576 bytes. You have sent 1048578 bytes.",
        ),
    ] {
        let code = format!("{batch}{code}");
        let input = json!({ "Entries": entries });
        queues
            .check("SendMessageBatch", "q", input, &code, message)
            .await;
    }
    for (name, entry) in [
        ("DeleteMessageBatch", "DeleteMessageBatchRequestEntry"),
        (
            "ChangeMessageVisibilityBatch",
            "ChangeMessageVisibilityBatchRequestEntry",
        ),
    ] {
        let code = format!("{batch}EmptyBatchRequest");
        let message = format!("There should be at least one {entry} in the request.");
        queues
            .check(name, "q", json!({ "Entries": [] }), &code, &message)
            .await;
        let message = format!("The request must contain the parameter {entry}.1.Id.");
        let idless = json!({ "Entries": [{ "ReceiptHandle": "x" }] });
        queues.check(name, "q", idless, MISSING, &message).await;
    }
    let small =
        json!({ "QueueUrl": queues.url("q"), "Attributes": { "MaximumMessageSize": "1024" } });
    queues.ok("SetQueueAttributes", small).await;
    let entries = json!([entry("a", "x"), entry("b", &"x".repeat(1_025))]);
    let sent = json!({ "QueueUrl": queues.url("q"), "Entries": entries });
    let sent = queues.ok("SendMessageBatch", sent).await;
    let expected = json!([{
        "Id": "b", "Code": INVALID, "SenderFault": true,
        "Message": "One or more parameters cannot be validated. Reason: Message must be shorter than \
                    1024 bytes.",
    }]);
    assert_eq!(sent["Failed"], expected);
}
