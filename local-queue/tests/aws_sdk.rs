//! The server as an unmodified AWS SDK for Rust sees it: every operation, limits at their edges,
//! errors by the SDK's own types. The SDK itself checks MD5 digests of bodies.
#![allow(
    clippy::unwrap_used,
    missing_docs,
    dead_code,
    unreachable_pub,
    clippy::redundant_closure_for_method_calls,
    reason = "a test stops at the first failure; `support` is shared by several test binaries; \
              `|s| s.id()` reads better than the result types' long paths"
)]

mod support;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use aws_sdk_sqs::Client;
use aws_sdk_sqs::error::ProvideErrorMetadata as _;
use aws_sdk_sqs::primitives::Blob;
use aws_sdk_sqs::types::{
    ChangeMessageVisibilityBatchRequestEntry as VisibilityEntry,
    DeleteMessageBatchRequestEntry as DeleteEntry, Message, MessageAttributeValue,
    MessageSystemAttributeName as SystemName, MessageSystemAttributeNameForSends,
    MessageSystemAttributeValue, QueueAttributeName as Attribute,
    SendMessageBatchRequestEntry as SendEntry,
};
use local_queue::Md5Digest;
use support::Endpoint;

const MIB: usize = 1_048_576;

async fn create(client: &Client, name: &str, attributes: &[(Attribute, &str)]) -> String {
    let mut request = client.create_queue().queue_name(name);
    for (attribute, value) in attributes {
        request = request.attributes(attribute.clone(), *value);
    }
    request.send().await.unwrap().queue_url.unwrap()
}

async fn send(client: &Client, url: &str, body: &str) -> String {
    let sent = client
        .send_message()
        .queue_url(url)
        .message_body(body)
        .send()
        .await
        .unwrap();
    sent.message_id.unwrap()
}

async fn receive(client: &Client, url: &str, max: i32, wait: i32) -> Vec<Message> {
    client
        .receive_message()
        .queue_url(url)
        .max_number_of_messages(max)
        .wait_time_seconds(wait)
        .message_attribute_names("All")
        .message_system_attribute_names(SystemName::All)
        .send()
        .await
        .unwrap()
        .messages
        .unwrap_or_default()
}

async fn counts(client: &Client, url: &str) -> (String, String, String) {
    let attributes = client
        .get_queue_attributes()
        .queue_url(url)
        .attribute_names(Attribute::All)
        .send()
        .await
        .unwrap()
        .attributes
        .unwrap();
    let count = |name: Attribute| attributes[&name].clone();
    (
        count(Attribute::ApproximateNumberOfMessages),
        count(Attribute::ApproximateNumberOfMessagesNotVisible),
        count(Attribute::ApproximateNumberOfMessagesDelayed),
    )
}

fn depth(visible: &str, in_flight: &str, delayed: &str) -> (String, String, String) {
    (visible.to_owned(), in_flight.to_owned(), delayed.to_owned())
}

fn text(data_type: &str, value: &str) -> MessageAttributeValue {
    MessageAttributeValue::builder()
        .data_type(data_type)
        .string_value(value)
        .build()
        .unwrap()
}

fn entry(id: &str, body: &str) -> SendEntry {
    SendEntry::builder()
        .id(id)
        .message_body(body)
        .build()
        .unwrap()
}

/// The code of the modelled error that a call must end with.
macro_rules! code {
    ($call:expr) => {{
        let error = $call
            .send()
            .await
            .err()
            .expect("the call should be refused");
        error
            .into_service_error()
            .code()
            .unwrap_or("no code")
            .to_owned()
    }};
}

#[tokio::test]
async fn queues_are_created_found_listed_and_deleted() {
    let endpoint = Endpoint::start().await;
    let client = endpoint.client();
    let url = create(&client, "jobs", &[]).await;
    assert_eq!(url, format!("http://{}/000000000000/jobs", endpoint.addr));
    let found = client
        .get_queue_url()
        .queue_name("jobs")
        .send()
        .await
        .unwrap();
    assert_eq!(found.queue_url(), Some(url.as_str()));
    for name in ["jobs-b", "jobs-a", "other"] {
        create(&client, name, &[]).await;
    }
    let listed = client
        .list_queues()
        .queue_name_prefix("jobs")
        .send()
        .await
        .unwrap();
    let base = url.strip_suffix("jobs").unwrap();
    let expected: Vec<_> = ["jobs", "jobs-a", "jobs-b"]
        .map(|n| format!("{base}{n}"))
        .into();
    assert_eq!(listed.queue_urls(), expected);
    let first = client.list_queues().max_results(3).send().await.unwrap();
    assert_eq!(first.queue_urls(), expected);
    let token = first.next_token().unwrap();
    let second = client
        .list_queues()
        .max_results(3)
        .next_token(token)
        .send()
        .await
        .unwrap();
    assert_eq!(second.queue_urls(), [format!("{base}other")]);
    assert_eq!(second.next_token(), None);

    client.delete_queue().queue_url(&url).send().await.unwrap();
    let gone = client
        .get_queue_url()
        .queue_name("jobs")
        .send()
        .await
        .unwrap_err();
    assert!(gone.into_service_error().is_queue_does_not_exist());
    let send = client
        .send_message()
        .queue_url(&url)
        .message_body("x")
        .send()
        .await
        .unwrap_err();
    assert!(send.into_service_error().is_queue_does_not_exist());
    // The name is free at once, and the new queue is empty.
    create(&client, "jobs", &[]).await;
    assert_eq!(counts(&client, &url).await, depth("0", "0", "0"));
}

#[tokio::test]
async fn creating_again_needs_the_same_attributes() {
    let endpoint = Endpoint::start().await;
    let client = endpoint.client();
    let attributes = [
        (Attribute::VisibilityTimeout, "45"),
        (Attribute::DelaySeconds, "1"),
    ];
    let url = create(&client, "q", &attributes).await;
    assert_eq!(create(&client, "q", &[]).await, url);
    assert_eq!(create(&client, "q", &attributes[..1]).await, url);
    let other = client
        .create_queue()
        .queue_name("q")
        .attributes(Attribute::VisibilityTimeout, "46");
    let error = other.send().await.unwrap_err().into_service_error();
    assert!(error.is_queue_name_exists(), "{error:?}");
    // The code of the query protocol, which is what old clients and botocore look at.
    assert_eq!(error.code(), Some("QueueAlreadyExists"));
}

#[tokio::test]
async fn queue_attributes_are_read_and_changed() {
    let endpoint = Endpoint::start().await;
    let client = endpoint.client();
    let url = create(&client, "q", &[(Attribute::MessageRetentionPeriod, "60")]).await;
    let get = async |name: Attribute| {
        let got = client
            .get_queue_attributes()
            .queue_url(&url)
            .attribute_names(name.clone())
            .send();
        got.await
            .unwrap()
            .attributes
            .unwrap_or_default()
            .remove(&name)
    };
    for (name, value) in [
        (Attribute::MessageRetentionPeriod, "60"),
        (Attribute::VisibilityTimeout, "30"),
        (Attribute::MaximumMessageSize, "1048576"),
        (Attribute::DelaySeconds, "0"),
        (Attribute::ReceiveMessageWaitTimeSeconds, "0"),
        (Attribute::QueueArn, "arn:aws:sqs:us-east-1:000000000000:q"),
    ] {
        assert_eq!(get(name.clone()).await.as_deref(), Some(value), "{name}");
    }
    assert_eq!(get(Attribute::RedrivePolicy).await, None);
    let created: u64 = get(Attribute::CreatedTimestamp)
        .await
        .unwrap()
        .parse()
        .unwrap();
    assert!(created > 1_700_000_000);
    let set = |name: Attribute, value: &str| {
        client
            .set_queue_attributes()
            .queue_url(&url)
            .attributes(name, value)
    };
    set(Attribute::VisibilityTimeout, "43200")
        .send()
        .await
        .unwrap();
    assert_eq!(
        get(Attribute::VisibilityTimeout).await.as_deref(),
        Some("43200")
    );
    for (name, value) in [
        (Attribute::VisibilityTimeout, "43201"),
        (Attribute::DelaySeconds, "901"),
        (Attribute::MaximumMessageSize, "1023"),
        (Attribute::MaximumMessageSize, "1048577"),
        (Attribute::MessageRetentionPeriod, "59"),
        (Attribute::ReceiveMessageWaitTimeSeconds, "21"),
        (Attribute::RedrivePolicy, "[]"),
    ] {
        let error = set(name.clone(), value)
            .send()
            .await
            .unwrap_err()
            .into_service_error();
        assert!(
            error.is_invalid_attribute_value(),
            "{name} {value}: {error:?}"
        );
    }
    let unknown = set("Nonsense".into(), "1")
        .send()
        .await
        .unwrap_err()
        .into_service_error();
    assert!(unknown.is_invalid_attribute_name(), "{unknown:?}");
}

#[tokio::test]
async fn a_message_goes_through_send_receive_and_delete() {
    let endpoint = Endpoint::start().await;
    let client = endpoint.client();
    let url = create(&client, "q", &[]).await;
    let body = "Grüße, 世界 😀\t\"quoted\" \\ \n{}";
    let system = MessageSystemAttributeValue::builder()
        .data_type("String")
        .string_value("Root=1-5759e988-bd862e3fe1be46a994272793")
        .build()
        .unwrap();
    let binary = MessageAttributeValue::builder()
        .data_type("Binary.raw")
        .binary_value(Blob::new([0_u8, 255, 10]))
        .build()
        .unwrap();
    let sent = client
        .send_message()
        .queue_url(&url)
        .message_body(body)
        .message_attributes("kind", text("String", "größe"))
        .message_attributes("size.max", text("Number.int", "42"))
        .message_attributes("raw", binary.clone())
        .message_system_attributes(MessageSystemAttributeNameForSends::AwsTraceHeader, system)
        .send()
        .await
        .unwrap();
    let expected = [
        (
            "kind".to_owned(),
            local_queue::MessageAttribute::string("größe"),
        ),
        (
            "size.max".to_owned(),
            local_queue::MessageAttribute::text_of("Number.int", "42"),
        ),
        (
            "raw".to_owned(),
            local_queue::MessageAttribute::binary_of("Binary.raw", [0, 255, 10]),
        ),
    ];
    let digest = Md5Digest::of_attributes(&expected.into())
        .unwrap()
        .to_string();
    assert_eq!(sent.md5_of_message_attributes(), Some(digest.as_str()));
    assert_eq!(
        sent.md5_of_message_body(),
        Some(Md5Digest::of_body(body).to_string().as_str())
    );
    assert!(sent.md5_of_message_system_attributes().is_some());

    let messages = receive(&client, &url, 10, 0).await;
    let [message] = messages.as_slice() else {
        panic!("one message, not {messages:?}")
    };
    assert_eq!(message.message_id(), sent.message_id());
    assert_eq!(message.body(), Some(body));
    assert_eq!(message.md5_of_message_attributes(), Some(digest.as_str()));
    let attributes = message.message_attributes().unwrap();
    assert_eq!(attributes["kind"], text("String", "größe"));
    assert_eq!(attributes["size.max"], text("Number.int", "42"));
    assert_eq!(attributes["raw"], binary);
    let system = message.attributes().unwrap();
    assert_eq!(system[&SystemName::ApproximateReceiveCount], "1");
    assert_eq!(
        system[&SystemName::AwsTraceHeader],
        "Root=1-5759e988-bd862e3fe1be46a994272793"
    );
    let at = |name| system[&name].parse::<u64>().unwrap();
    let sent_at = at(SystemName::SentTimestamp);
    assert!(at(SystemName::ApproximateFirstReceiveTimestamp) >= sent_at);
    assert!(sent_at > 1_700_000_000_000);
    assert!(system.contains_key(&SystemName::SenderId));
    assert_eq!(counts(&client, &url).await, depth("0", "1", "0"));

    let handle = message.receipt_handle().unwrap();
    client
        .delete_message()
        .queue_url(&url)
        .receipt_handle(handle)
        .send()
        .await
        .unwrap();
    assert_eq!(counts(&client, &url).await, depth("0", "0", "0"));
    // Deleting what is gone is a success.
    client
        .delete_message()
        .queue_url(&url)
        .receipt_handle(handle)
        .send()
        .await
        .unwrap();
}

#[tokio::test]
async fn only_attributes_asked_for_are_returned() {
    let endpoint = Endpoint::start().await;
    let client = endpoint.client();
    let url = create(&client, "q", &[(Attribute::VisibilityTimeout, "0")]).await;
    let message = client.send_message().queue_url(&url).message_body("x");
    let message = message.message_attributes("a.b", text("String", "1"));
    message
        .message_attributes("c", text("String", "2"))
        .send()
        .await
        .unwrap();
    for (names, expected) in [
        (vec![], vec![]),
        (vec!["c"], vec!["c"]),
        (vec!["a.*"], vec!["a.b"]),
        (vec![".*"], vec!["a.b", "c"]),
    ] {
        let names: Vec<String> = names.into_iter().map(str::to_owned).collect();
        let request = client.receive_message().queue_url(&url);
        let request = request.set_message_attribute_names(Some(names.clone()));
        #[allow(deprecated, reason = "old clients still send `AttributeNames`")]
        let request = request.attribute_names(Attribute::from("SentTimestamp"));
        let message = request.send().await.unwrap().messages.unwrap().remove(0);
        let mut got: Vec<_> = message
            .message_attributes
            .unwrap_or_default()
            .into_keys()
            .collect();
        got.sort();
        assert_eq!(got, expected, "{names:?}");
        assert_eq!(
            message.md5_of_message_attributes.is_some(),
            !expected.is_empty()
        );
        let system: Vec<_> = message.attributes.unwrap_or_default().into_keys().collect();
        assert_eq!(system, [SystemName::SentTimestamp]);
    }
}

#[tokio::test]
async fn a_long_poll_is_woken_by_a_send() {
    let endpoint = Endpoint::start().await;
    let client = endpoint.client();
    let url = create(&client, "q", &[]).await;
    let waiting = tokio::spawn({
        let (client, url) = (client.clone(), url.clone());
        async move { receive(&client, &url, 1, 20).await }
    });
    // The send reaches the queue while the receiver waits or before; it must arrive both ways.
    while !waiting.is_finished() && counts(&client, &url).await != depth("0", "0", "0") {}
    let start = Instant::now();
    send(&client, &url, "x").await;
    assert_eq!(waiting.await.unwrap().len(), 1);
    assert!(
        start.elapsed() < Duration::from_secs(5),
        "{:?}",
        start.elapsed()
    );
}

#[tokio::test]
async fn a_long_poll_is_woken_by_the_end_of_a_delay() {
    let endpoint = Endpoint::start().await;
    let client = endpoint.client();
    let url = create(&client, "q", &[]).await;
    let start = Instant::now();
    let request = client
        .send_message()
        .queue_url(&url)
        .message_body("x")
        .delay_seconds(1);
    request.send().await.unwrap();
    assert_eq!(counts(&client, &url).await, depth("0", "0", "1"));
    assert_eq!(receive(&client, &url, 1, 0).await.len(), 0);
    assert_eq!(receive(&client, &url, 1, 20).await.len(), 1);
    let took = start.elapsed();
    assert!(
        (Duration::from_millis(990)..Duration::from_secs(6)).contains(&took),
        "{took:?}"
    );
}

#[tokio::test]
async fn a_long_poll_is_woken_by_the_end_of_a_visibility_timeout() {
    let endpoint = Endpoint::start().await;
    let client = endpoint.client();
    let url = create(&client, "q", &[(Attribute::VisibilityTimeout, "1")]).await;
    let id = send(&client, &url, "x").await;
    let first = receive(&client, &url, 1, 0).await.remove(0);
    let start = Instant::now();
    let second = receive(&client, &url, 1, 20).await.remove(0);
    let took = start.elapsed();
    assert!(
        (Duration::from_millis(900)..Duration::from_secs(6)).contains(&took),
        "{took:?}"
    );
    assert_eq!(second.message_id(), Some(id.as_str()));
    assert_ne!(second.receipt_handle(), first.receipt_handle());
    assert_eq!(
        second.attributes().unwrap()[&SystemName::ApproximateReceiveCount],
        "2"
    );
    // The first receiver is too late: its handle succeeds and deletes nothing.
    let late = first.receipt_handle().unwrap();
    client
        .delete_message()
        .queue_url(&url)
        .receipt_handle(late)
        .send()
        .await
        .unwrap();
    assert_eq!(counts(&client, &url).await, depth("0", "1", "0"));
}

#[tokio::test]
async fn a_queue_can_make_its_receivers_wait_and_its_messages_late() {
    let endpoint = Endpoint::start().await;
    let client = endpoint.client();
    let attributes = [
        (Attribute::DelaySeconds, "1"),
        (Attribute::ReceiveMessageWaitTimeSeconds, "20"),
    ];
    let url = create(&client, "q", &attributes).await;
    send(&client, &url, "x").await;
    let request = client.receive_message().queue_url(&url).send();
    assert_eq!(request.await.unwrap().messages().len(), 1);
    // A delay of the message's own wins.
    let request = client
        .send_message()
        .queue_url(&url)
        .message_body("x")
        .delay_seconds(0);
    request.send().await.unwrap();
    assert_eq!(receive(&client, &url, 1, 0).await.len(), 1);
}

#[tokio::test]
async fn visibility_is_changed_while_in_flight_only() {
    let endpoint = Endpoint::start().await;
    let client = endpoint.client();
    let url = create(&client, "q", &[]).await;
    send(&client, &url, "x").await;
    let message = receive(&client, &url, 1, 0).await.remove(0);
    let change = |secs: i32| {
        let handle = message.receipt_handle().unwrap();
        let request = client.change_message_visibility().queue_url(&url);
        request.receipt_handle(handle).visibility_timeout(secs)
    };
    change(43_100).send().await.unwrap();
    assert_eq!(code!(change(43_201)), "InvalidParameterValue");
    assert_eq!(code!(change(-1)), "InvalidParameterValue");
    change(0).send().await.unwrap();
    assert_eq!(counts(&client, &url).await, depth("1", "0", "0"));
    let error = change(10).send().await.unwrap_err().into_service_error();
    assert!(error.is_message_not_inflight(), "{error:?}");
    // Late, but nobody received it since: the handle still deletes.
    let handle = message.receipt_handle().unwrap();
    client
        .delete_message()
        .queue_url(&url)
        .receipt_handle(handle)
        .send()
        .await
        .unwrap();
    assert_eq!(counts(&client, &url).await, depth("0", "0", "0"));
    let error = client
        .delete_message()
        .queue_url(&url)
        .receipt_handle("nonsense")
        .send()
        .await;
    assert!(
        error
            .unwrap_err()
            .into_service_error()
            .is_receipt_handle_is_invalid()
    );
}

#[tokio::test]
async fn batches_succeed_and_fail_entry_by_entry() {
    let endpoint = Endpoint::start().await;
    let client = endpoint.client();
    let url = create(&client, "q", &[(Attribute::MaximumMessageSize, "1024")]).await;
    let sent = client
        .send_message_batch()
        .queue_url(&url)
        .entries(entry("a", "1"))
        .entries(entry("bad", "\u{0}"))
        .entries(entry("long", &"x".repeat(1025)))
        .entries(entry("full", &"x".repeat(1024)))
        .send()
        .await
        .unwrap();
    let ids: Vec<_> = sent
        .successful()
        .iter()
        .map(aws_sdk_sqs::types::SendMessageBatchResultEntry::id)
        .collect();
    assert_eq!(ids, ["a", "full"]);
    let mut failed: Vec<_> = sent
        .failed()
        .iter()
        .map(|f| (f.id(), f.code(), f.sender_fault()))
        .collect();
    failed.sort_unstable();
    let expected = [
        ("bad", "InvalidMessageContents", true),
        ("long", "InvalidParameterValue", true),
    ];
    assert_eq!(failed, expected);

    let messages = receive(&client, &url, 10, 0).await;
    assert_eq!(messages.len(), 2);
    let handle = |n: usize| messages[n].receipt_handle().unwrap();
    let entry = |id: &str, handle: &str, secs: i32| {
        let entry = VisibilityEntry::builder().id(id).receipt_handle(handle);
        entry.visibility_timeout(secs).build().unwrap()
    };
    let changed = client
        .change_message_visibility_batch()
        .queue_url(&url)
        .entries(entry("x", handle(0), 100))
        .entries(entry("y", handle(1), 43_201))
        .entries(entry("z", "nonsense", 1))
        .send()
        .await
        .unwrap();
    assert_eq!(
        changed
            .successful()
            .iter()
            .map(|s| s.id())
            .collect::<Vec<_>>(),
        ["x"]
    );
    let mut failed: Vec<_> = changed
        .failed()
        .iter()
        .map(|f| (f.id(), f.code()))
        .collect();
    failed.sort_unstable();
    assert_eq!(
        failed,
        [
            ("y", "InvalidParameterValue"),
            ("z", "ReceiptHandleIsInvalid")
        ]
    );

    let entry = |id: &str, handle: &str| {
        DeleteEntry::builder()
            .id(id)
            .receipt_handle(handle)
            .build()
            .unwrap()
    };
    let deleted = client
        .delete_message_batch()
        .queue_url(&url)
        .entries(entry("0", handle(0)))
        .entries(entry("1", "nonsense"))
        .send()
        .await
        .unwrap();
    assert_eq!(
        deleted
            .successful()
            .iter()
            .map(|s| s.id())
            .collect::<Vec<_>>(),
        ["0"]
    );
    assert_eq!(
        deleted.failed().iter().map(|f| f.id()).collect::<Vec<_>>(),
        ["1"]
    );
    assert_eq!(counts(&client, &url).await, depth("0", "1", "0"));
}

#[tokio::test]
async fn batches_of_the_wrong_shape_are_refused_whole() {
    let endpoint = Endpoint::start().await;
    let client = endpoint.client();
    let url = create(&client, "q", &[]).await;
    let batch = |entries: Vec<SendEntry>| {
        client
            .send_message_batch()
            .queue_url(&url)
            .set_entries(Some(entries))
    };
    let error = batch(vec![]).send().await.unwrap_err().into_service_error();
    assert!(error.is_empty_batch_request(), "{error:?}");
    let eleven = (0..11).map(|n| entry(&n.to_string(), "x")).collect();
    let error = batch(eleven).send().await.unwrap_err().into_service_error();
    assert!(error.is_too_many_entries_in_batch_request(), "{error:?}");
    let twice = vec![entry("a", "x"), entry("a", "y")];
    let error = batch(twice).send().await.unwrap_err().into_service_error();
    assert!(error.is_batch_entry_ids_not_distinct(), "{error:?}");
    let error = batch(vec![entry("a b", "x")])
        .send()
        .await
        .unwrap_err()
        .into_service_error();
    assert!(error.is_invalid_batch_entry_id(), "{error:?}");
    let half = "x".repeat(MIB / 2);
    let full = vec![entry("a", &half), entry("b", &half)];
    assert_eq!(
        batch(full.clone()).send().await.unwrap().successful().len(),
        2
    );
    let over = vec![full[0].clone(), full[1].clone(), entry("c", "x")];
    let error = batch(over).send().await.unwrap_err().into_service_error();
    assert!(error.is_batch_request_too_long(), "{error:?}");
    assert_eq!(counts(&client, &url).await, depth("2", "0", "0"));
}

#[tokio::test]
async fn a_message_of_exactly_one_mebibyte_passes() {
    let endpoint = Endpoint::start().await;
    let client = endpoint.client();
    let url = create(&client, "q", &[]).await;
    let body = |bytes: usize| {
        let mut body = "é".repeat(bytes / 2);
        body.push_str(&"x".repeat(bytes % 2));
        body
    };
    send(&client, &url, &body(MIB)).await;
    let request = |body: String| client.send_message().queue_url(&url).message_body(body);
    assert_eq!(code!(request(body(MIB + 1))), "InvalidParameterValue");
    // Attributes count: 1 of name, 6 of type, 3 of value.
    let with = |body: String| request(body).message_attributes("a", text("String", "xyz"));
    with(body(MIB - 10)).send().await.unwrap();
    assert_eq!(code!(with(body(MIB - 9))), "InvalidParameterValue");
    // Escapes make the request longer than the message, which is what counts.
    request("\t".repeat(MIB)).send().await.unwrap();
    let messages = receive(&client, &url, 10, 0).await;
    let mut sizes: Vec<_> = messages.iter().map(|m| m.body().unwrap().len()).collect();
    sizes.sort_unstable();
    assert_eq!(sizes, [MIB - 10, MIB, MIB]);
}

#[tokio::test]
async fn malformed_messages_and_receives_are_refused() {
    let endpoint = Endpoint::start().await;
    let client = endpoint.client();
    let url = create(&client, "q", &[]).await;
    let request = || client.send_message().queue_url(&url).message_body("x");
    let error = request()
        .message_body("\u{1}")
        .send()
        .await
        .unwrap_err()
        .into_service_error();
    assert!(error.is_invalid_message_contents(), "{error:?}");
    assert_eq!(code!(request().message_body("")), "MissingParameter");
    assert_eq!(code!(request().delay_seconds(901)), "InvalidParameterValue");
    let invalid = "InvalidParameterValue";
    assert_eq!(
        code!(request().message_attributes("a", text("Number", "x"))),
        invalid
    );
    assert_eq!(
        code!(request().message_attributes("a", text("Text", "x"))),
        invalid
    );
    assert_eq!(
        code!(request().message_attributes("AWS.a", text("String", "x"))),
        invalid
    );
    let attributes: HashMap<_, _> = (0..11)
        .map(|n| (format!("a{n}"), text("String", "x")))
        .collect();
    assert_eq!(
        code!(request().set_message_attributes(Some(attributes))),
        invalid
    );
    let receive = || client.receive_message().queue_url(&url);
    assert_eq!(code!(receive().max_number_of_messages(0)), invalid);
    assert_eq!(code!(receive().max_number_of_messages(11)), invalid);
    assert_eq!(code!(receive().wait_time_seconds(21)), invalid);
    assert_eq!(code!(receive().visibility_timeout(43_201)), invalid);
    assert_eq!(code!(client.create_queue().queue_name("a b")), invalid);
    assert_eq!(
        code!(client.create_queue().queue_name("x".repeat(81))),
        invalid
    );
    assert_eq!(counts(&client, &url).await, depth("0", "0", "0"));
}

#[tokio::test]
async fn a_poison_message_moves_to_the_dead_letter_queue() {
    let endpoint = Endpoint::start().await;
    let client = endpoint.client();
    let dead = create(&client, "q-dlq", &[]).await;
    let policy = r#"{"deadLetterTargetArn":"arn:aws:sqs:eu-central-1:000000000000:q-dlq","maxReceiveCount":"2"}"#;
    let attributes = [
        (Attribute::RedrivePolicy, policy),
        (Attribute::VisibilityTimeout, "0"),
    ];
    let url = create(&client, "q", &attributes).await;
    let id = send(&client, &url, "poison").await;
    let mut sent_at = String::new();
    for count in ["1", "2"] {
        let message = receive(&client, &url, 1, 0).await.remove(0);
        let attributes = message.attributes().unwrap();
        assert_eq!(attributes[&SystemName::ApproximateReceiveCount], count);
        sent_at.clone_from(&attributes[&SystemName::SentTimestamp]);
    }
    // A receiver that waits on the dead-letter queue is woken by the move.
    let waiting = tokio::spawn({
        let (client, dead) = (client.clone(), dead.clone());
        async move { receive(&client, &dead, 1, 20).await }
    });
    assert_eq!(counts(&client, &url).await, depth("1", "0", "0"));
    assert_eq!(receive(&client, &url, 1, 0).await.len(), 0);
    assert_eq!(counts(&client, &url).await, depth("0", "0", "0"));
    let message = waiting.await.unwrap().remove(0);
    assert_eq!(message.message_id(), Some(id.as_str()));
    assert_eq!(message.body(), Some("poison"));
    let attributes = message.attributes().unwrap();
    assert_eq!(attributes[&SystemName::SentTimestamp], sent_at);
    assert_eq!(attributes[&SystemName::ApproximateReceiveCount], "1");
    let source = &attributes[&SystemName::DeadLetterQueueSourceArn];
    assert_eq!(source, "arn:aws:sqs:us-east-1:000000000000:q");
}

#[tokio::test]
async fn purging_empties_a_queue_whatever_its_messages_do() {
    let endpoint = Endpoint::start().await;
    let client = endpoint.client();
    let url = create(&client, "q", &[(Attribute::VisibilityTimeout, "600")]).await;
    for body in ["a", "b", "c"] {
        send(&client, &url, body).await;
    }
    let delayed = client
        .send_message()
        .queue_url(&url)
        .message_body("d")
        .delay_seconds(600);
    delayed.send().await.unwrap();
    let flying = receive(&client, &url, 1, 0).await.remove(0);
    assert_eq!(counts(&client, &url).await, depth("2", "1", "1"));
    client.purge_queue().queue_url(&url).send().await.unwrap();
    assert_eq!(counts(&client, &url).await, depth("0", "0", "0"));
    // A handle from before the purge is a handle of a message that is gone.
    let handle = flying.receipt_handle().unwrap();
    client
        .delete_message()
        .queue_url(&url)
        .receipt_handle(handle)
        .send()
        .await
        .unwrap();
    send(&client, &url, "e").await;
    let messages = receive(&client, &url, 10, 0).await;
    assert_eq!(
        messages
            .iter()
            .map(|m| m.body().unwrap())
            .collect::<Vec<_>>(),
        ["e"]
    );
    let other = create(&client, "other", &[]).await;
    let foreign = messages[0].receipt_handle().unwrap();
    let error = client
        .delete_message()
        .queue_url(&other)
        .receipt_handle(foreign)
        .send()
        .await;
    assert!(
        error
            .unwrap_err()
            .into_service_error()
            .is_receipt_handle_is_invalid()
    );
}

#[tokio::test]
async fn stopping_ends_long_polls_with_nothing() {
    let mut endpoint = Endpoint::start().await;
    let client = endpoint.client();
    let url = create(&client, "q", &[]).await;
    let start = Instant::now();
    // The request is on its way before the server is told to stop: `is_parked` is not visible
    // from outside, so a second connection's answer orders the two.
    let polls: Vec<_> = (0..4)
        .map(|_| {
            let request = client
                .receive_message()
                .queue_url(&url)
                .wait_time_seconds(20);
            tokio::spawn(request.send())
        })
        .collect();
    for _ in 0..20 {
        counts(&client, &url).await;
    }
    endpoint.begin_stop();
    for poll in polls {
        assert_eq!(poll.await.unwrap().unwrap().messages().len(), 0);
    }
    let dir = endpoint.stopped().await;
    assert!(
        start.elapsed() < Duration::from_secs(10),
        "{:?}",
        start.elapsed()
    );
    // The directory is free again.
    support::open(dir.path()).close().await;
}
