//! FIFO queues, tags and dead-letter sources as an unmodified AWS SDK for Rust sees them.
#![allow(
    clippy::unwrap_used,
    missing_docs,
    unreachable_pub,
    dead_code,
    reason = "a test stops at the first failure; `support` is shared by several test binaries"
)]

mod support;

use std::collections::HashMap;

use aws_sdk_sqs::Client;
use aws_sdk_sqs::error::ProvideErrorMetadata as _;
use aws_sdk_sqs::operation::send_message::SendMessageOutput;
use aws_sdk_sqs::types::{
    Message, MessageSystemAttributeName as SystemName, QueueAttributeName as Attribute,
    SendMessageBatchRequestEntry as SendEntry,
};
use support::Endpoint;

async fn create(client: &Client, name: &str, attributes: &[(Attribute, &str)]) -> String {
    let mut request = client.create_queue().queue_name(name);
    for (attribute, value) in attributes {
        request = request.attributes(attribute.clone(), *value);
    }
    request.send().await.unwrap().queue_url.unwrap()
}

/// A FIFO queue that tells messages apart by their bodies.
async fn create_fifo(client: &Client, name: &str, attributes: &[(Attribute, &str)]) -> String {
    let mut all = vec![
        (Attribute::FifoQueue, "true"),
        (Attribute::ContentBasedDeduplication, "true"),
    ];
    all.extend_from_slice(attributes);
    create(client, name, &all).await
}

async fn send(client: &Client, url: &str, group: &str, body: &str) -> SendMessageOutput {
    let request = client.send_message().queue_url(url).message_body(body);
    request.message_group_id(group).send().await.unwrap()
}

async fn receive(client: &Client, url: &str, max: i32, wait: i32) -> Vec<Message> {
    client
        .receive_message()
        .queue_url(url)
        .max_number_of_messages(max)
        .wait_time_seconds(wait)
        .message_system_attribute_names(SystemName::All)
        .send()
        .await
        .unwrap()
        .messages
        .unwrap_or_default()
}

async fn delete(client: &Client, url: &str, message: &Message) {
    client
        .delete_message()
        .queue_url(url)
        .receipt_handle(message.receipt_handle().unwrap())
        .send()
        .await
        .unwrap();
}

async fn hide(client: &Client, url: &str, message: &Message, secs: i32) {
    client
        .change_message_visibility()
        .queue_url(url)
        .receipt_handle(message.receipt_handle().unwrap())
        .visibility_timeout(secs)
        .send()
        .await
        .unwrap();
}

async fn attributes(client: &Client, url: &str) -> HashMap<Attribute, String> {
    let request = client.get_queue_attributes().queue_url(url);
    let request = request.attribute_names(Attribute::All);
    request.send().await.unwrap().attributes.unwrap()
}

fn bodies(messages: &[Message]) -> Vec<&str> {
    messages.iter().map(|m| m.body().unwrap()).collect()
}

fn system(message: &Message, name: &SystemName) -> String {
    message.attributes().unwrap()[name].clone()
}

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
async fn the_name_and_the_attribute_must_agree() {
    let endpoint = Endpoint::start().await;
    let client = endpoint.client();
    let request = |name: &str, fifo: Option<&str>| {
        let request = client.create_queue().queue_name(name);
        match fifo {
            Some(value) => request.attributes(Attribute::FifoQueue, value),
            None => request,
        }
    };
    let invalid = "InvalidParameterValue";
    assert_eq!(code!(request("q.fifo", None)), invalid);
    assert_eq!(code!(request("q", Some("true"))), invalid);
    assert_eq!(code!(request("q", Some("false"))), "InvalidAttributeName");
    let content = request("q", None).attributes(Attribute::ContentBasedDeduplication, "true");
    assert_eq!(code!(content), "InvalidAttributeName");
    let scope = request("q", None).attributes(Attribute::DeduplicationScope, "queue");
    assert_eq!(code!(scope), "InvalidAttributeName");

    let url = create(&client, "q.fifo", &[(Attribute::FifoQueue, "true")]).await;
    assert!(url.ends_with("/000000000000/q.fifo"), "{url}");
    let all = attributes(&client, &url).await;
    for (name, value) in [
        (Attribute::FifoQueue, "true"),
        (Attribute::ContentBasedDeduplication, "false"),
        (Attribute::DeduplicationScope, "queue"),
        (Attribute::FifoThroughputLimit, "perQueue"),
    ] {
        assert_eq!(all[&name], value, "{name}");
    }
    let set = |name: Attribute, value: &str| {
        let request = client.set_queue_attributes().queue_url(&url);
        request.attributes(name, value)
    };
    let per_group = || set(Attribute::FifoThroughputLimit, "perMessageGroupId");
    assert_eq!(code!(per_group()), "InvalidAttributeValue");
    let fast = per_group().attributes(Attribute::DeduplicationScope, "messageGroup");
    fast.send().await.unwrap();
    let refused = set(Attribute::FifoQueue, "false");
    assert_eq!(code!(refused), "InvalidAttributeValue");
}

#[tokio::test]
async fn a_send_needs_a_group_and_something_to_tell_duplicates_by() {
    let endpoint = Endpoint::start().await;
    let client = endpoint.client();
    let fifo = create(&client, "q.fifo", &[(Attribute::FifoQueue, "true")]).await;
    let standard = create(&client, "q", &[]).await;
    let request = |url: &str| client.send_message().queue_url(url).message_body("x");
    let invalid = "InvalidParameterValue";
    let no_group = request(&fifo).message_deduplication_id("d");
    assert_eq!(code!(no_group), "MissingParameter");
    assert_eq!(code!(request(&fifo).message_group_id("g")), invalid);
    let good = || {
        let request = request(&fifo).message_group_id("g");
        request.message_deduplication_id("d")
    };
    assert_eq!(code!(good().delay_seconds(1)), invalid);
    assert_eq!(code!(good().message_group_id("a b")), invalid);
    assert_eq!(code!(good().message_group_id("x".repeat(129))), invalid);
    assert_eq!(code!(good().message_deduplication_id("ä")), invalid);
    good().delay_seconds(0).send().await.unwrap();
    // A standard queue hands a group on (fair queues), but tells no duplicates apart.
    let refused = request(&standard).message_deduplication_id("d");
    assert_eq!(code!(refused), invalid);
    let fair = request(&standard).message_group_id("tenant");
    assert_eq!(fair.send().await.unwrap().sequence_number(), None);
    let message = receive(&client, &standard, 1, 0).await.remove(0);
    assert_eq!(system(&message, &SystemName::MessageGroupId), "tenant");
    let attempt = client.receive_message().queue_url(&standard);
    assert_eq!(code!(attempt.receive_request_attempt_id("a")), invalid);
}

#[tokio::test]
async fn each_group_is_delivered_in_order_and_one_at_a_time() {
    let endpoint = Endpoint::start().await;
    let client = endpoint.client();
    let url = create_fifo(&client, "q.fifo", &[]).await;
    let mut numbers = Vec::new();
    for (group, body) in [
        ("a", "a1"),
        ("b", "b1"),
        ("a", "a2"),
        ("b", "b2"),
        ("a", "a3"),
    ] {
        let sent = send(&client, &url, group, body).await;
        numbers.push(sent.sequence_number().unwrap().to_owned());
    }
    assert!(
        numbers.is_sorted() && numbers.iter().all(|n| n.len() == 20),
        "{numbers:?}"
    );

    // As many as possible of one group, then of the next.
    let first = receive(&client, &url, 2, 0).await;
    assert_eq!(bodies(&first), ["a1", "a2"]);
    assert_eq!(system(&first[0], &SystemName::SequenceNumber), numbers[0]);
    assert_eq!(system(&first[0], &SystemName::MessageGroupId), "a");
    assert_eq!(
        system(&first[0], &SystemName::MessageDeduplicationId).len(),
        64
    );
    let second = receive(&client, &url, 10, 0).await;
    assert_eq!(bodies(&second), ["b1", "b2"], "a3 waits for a1 and a2");
    delete(&client, &url, &first[0]).await;
    assert!(receive(&client, &url, 10, 0).await.is_empty());

    // A receiver that waits is woken by the delete that frees the group.
    let waiting = tokio::spawn({
        let (client, url) = (client.clone(), url.clone());
        async move { receive(&client, &url, 10, 20).await }
    });
    delete(&client, &url, &first[1]).await;
    assert_eq!(bodies(&waiting.await.unwrap()), ["a3"]);

    // b2 visible again does not overtake b1, which is in flight; then both come in order.
    hide(&client, &url, &second[1], 0).await;
    assert!(receive(&client, &url, 10, 0).await.is_empty());
    hide(&client, &url, &second[0], 0).await;
    let again = receive(&client, &url, 10, 0).await;
    assert_eq!(bodies(&again), ["b1", "b2"]);
    assert_eq!(system(&again[0], &SystemName::ApproximateReceiveCount), "2");
}

#[tokio::test]
async fn a_handle_whose_visibility_is_over_deletes_nothing() {
    let endpoint = Endpoint::start().await;
    let client = endpoint.client();
    let url = create_fifo(&client, "q.fifo", &[]).await;
    send(&client, &url, "g", "x").await;
    let message = receive(&client, &url, 1, 0).await.remove(0);
    hide(&client, &url, &message, 0).await;
    let late = || {
        let request = client.delete_message().queue_url(&url);
        request.receipt_handle(message.receipt_handle().unwrap())
    };
    assert_eq!(code!(late()), "InvalidParameterValue");
    let again = receive(&client, &url, 1, 0).await.remove(0);
    assert_eq!(code!(late()), "InvalidParameterValue");
    delete(&client, &url, &again).await;
    // What is gone is gone, whoever asks.
    late().send().await.unwrap();
}

#[tokio::test]
async fn duplicates_are_acknowledged_and_not_delivered() {
    let endpoint = Endpoint::start().await;
    let client = endpoint.client();
    let url = create_fifo(&client, "q.fifo", &[]).await;
    let first = send(&client, &url, "a", "x").await;
    let second = send(&client, &url, "b", "x").await;
    assert_eq!(second.message_id(), first.message_id());
    assert_eq!(second.sequence_number(), first.sequence_number());
    let id = |id: &str, body: &str| {
        let request = client.send_message().queue_url(&url).message_group_id("a");
        request.message_body(body).message_deduplication_id(id)
    };
    id("1", "x").send().await.unwrap();
    id("1", "y").send().await.unwrap();
    let messages = receive(&client, &url, 10, 0).await;
    assert_eq!(bodies(&messages), ["x", "x"]);
    // Deleted or purged, they are remembered still.
    for message in &messages {
        delete(&client, &url, message).await;
    }
    send(&client, &url, "a", "x").await;
    client.purge_queue().queue_url(&url).send().await.unwrap();
    id("1", "z").send().await.unwrap();
    assert!(receive(&client, &url, 10, 0).await.is_empty());

    let scoped = [(Attribute::DeduplicationScope, "messageGroup")];
    let url = create_fifo(&client, "scoped.fifo", &scoped).await;
    for group in ["a", "b", "a"] {
        send(&client, &url, group, "x").await;
    }
    assert_eq!(bodies(&receive(&client, &url, 10, 0).await), ["x", "x"]);
}

#[tokio::test]
async fn a_batch_keeps_its_order_and_is_refused_whole_without_a_group() {
    let endpoint = Endpoint::start().await;
    let client = endpoint.client();
    let url = create_fifo(&client, "q.fifo", &[]).await;
    let entry = |id: &str, group: Option<&str>| {
        let entry = SendEntry::builder().id(id).message_body(id);
        entry
            .set_message_group_id(group.map(str::to_owned))
            .build()
            .unwrap()
    };
    let batch = |entries: &[(&str, Option<&str>)]| {
        let entries = entries.iter().map(|(id, group)| entry(id, *group));
        let request = client.send_message_batch().queue_url(&url);
        request.set_entries(Some(entries.collect()))
    };
    let groupless = batch(&[("1", Some("g")), ("2", None)]);
    assert_eq!(code!(groupless), "InvalidParameterValue");
    let too_long = "x".repeat(129);
    let sent = batch(&[("1", Some("g")), ("2", Some(&too_long)), ("3", Some("g"))]);
    let sent = sent.send().await.unwrap();
    let numbers: Vec<_> = sent
        .successful()
        .iter()
        .map(|s| s.sequence_number().unwrap())
        .collect();
    assert!(numbers.len() == 2 && numbers.is_sorted(), "{numbers:?}");
    assert_eq!(
        (sent.failed()[0].id(), sent.failed()[0].code()),
        ("2", "InvalidParameterValue")
    );
    assert_eq!(bodies(&receive(&client, &url, 10, 0).await), ["1", "3"]);
}

#[tokio::test]
async fn a_receive_is_repeated_by_its_attempt_id() {
    let endpoint = Endpoint::start().await;
    let client = endpoint.client();
    let url = create_fifo(&client, "q.fifo", &[]).await;
    for body in ["1", "2", "3"] {
        send(&client, &url, "g", body).await;
    }
    let attempt = async |id: &str| {
        let request = client.receive_message().queue_url(&url);
        let request = request
            .max_number_of_messages(2)
            .receive_request_attempt_id(id);
        let request = request.message_system_attribute_names(SystemName::All);
        request.send().await.unwrap().messages.unwrap_or_default()
    };
    let first = attempt("one").await;
    assert_eq!(bodies(&first), ["1", "2"]);
    assert_eq!(
        attempt("one").await,
        first,
        "the same handles, the same counts"
    );
    assert!(attempt("two").await.is_empty(), "the group is in flight");
    delete(&client, &url, &first[0]).await;
    assert!(attempt("one").await.is_empty(), "something happened since");
    hide(&client, &url, &first[1], 0).await;
    assert_eq!(bodies(&attempt("one").await), ["2", "3"]);
}

#[tokio::test]
async fn a_queues_delay_holds_for_what_it_has_already() {
    let endpoint = Endpoint::start().await;
    let client = endpoint.client();
    let url = create_fifo(&client, "q.fifo", &[(Attribute::DelaySeconds, "900")]).await;
    send(&client, &url, "g", "1").await;
    send(&client, &url, "h", "2").await;
    let delayed =
        |all: &HashMap<_, String>| all[&Attribute::ApproximateNumberOfMessagesDelayed].clone();
    assert_eq!(delayed(&attributes(&client, &url).await), "2");
    assert!(receive(&client, &url, 10, 0).await.is_empty());
    let set = client.set_queue_attributes().queue_url(&url);
    set.attributes(Attribute::DelaySeconds, "0")
        .send()
        .await
        .unwrap();
    assert_eq!(delayed(&attributes(&client, &url).await), "0");
    assert_eq!(bodies(&receive(&client, &url, 10, 0).await), ["1", "2"]);
}

#[tokio::test]
async fn order_deduplication_and_numbers_survive_a_restart() {
    let mut endpoint = Endpoint::start().await;
    let client = endpoint.client();
    let url = create_fifo(&client, "q.fifo", &[]).await;
    for body in ["1", "2", "3"] {
        send(&client, &url, "g", body).await;
    }
    let first = receive(&client, &url, 1, 0).await;
    let before = send(&client, &url, "h", "4").await;
    endpoint.begin_stop();
    let dir = endpoint.stopped().await;

    let endpoint = Endpoint::start_in(dir).await;
    let client = endpoint.client();
    let url = format!("{}/000000000000/q.fifo", endpoint.url());
    let messages = receive(&client, &url, 10, 0).await;
    assert_eq!(bodies(&messages), ["4"], "1 is in flight, so 2 and 3 wait");
    send(&client, &url, "g", "2").await;
    delete(&client, &url, &first[0]).await;
    assert_eq!(bodies(&receive(&client, &url, 10, 0).await), ["2", "3"]);
    let after = send(&client, &url, "h", "5").await;
    assert!(after.sequence_number() > before.sequence_number());
}

#[tokio::test]
async fn a_poison_message_leaves_its_group_for_a_fifo_dead_letter_queue() {
    let endpoint = Endpoint::start().await;
    let client = endpoint.client();
    let dead = create_fifo(&client, "q-dlq.fifo", &[]).await;
    let standard = create(&client, "standard", &[]).await;
    let policy = |target: &str| {
        format!(
            r#"{{"deadLetterTargetArn":"arn:aws:sqs:r:000000000000:{target}","maxReceiveCount":1}}"#
        )
    };
    let to_fifo = policy("q-dlq.fifo");
    let url = create_fifo(&client, "q.fifo", &[(Attribute::RedrivePolicy, &to_fifo)]).await;
    // Both queues are of one kind.
    for (url, policy) in [(&standard, &to_fifo), (&url, &policy("standard"))] {
        let set = client.set_queue_attributes().queue_url(url);
        let refused = set.attributes(Attribute::RedrivePolicy, policy);
        assert_eq!(code!(refused), "InvalidParameterValue");
    }
    for body in ["poison", "next"] {
        send(&client, &url, "g", body).await;
    }
    let poison = receive(&client, &url, 1, 0).await.remove(0);
    hide(&client, &url, &poison, 0).await;
    assert_eq!(bodies(&receive(&client, &url, 10, 0).await), ["next"]);
    let message = receive(&client, &dead, 1, 0).await.remove(0);
    assert_eq!(message.body(), Some("poison"));
    assert_eq!(message.message_id(), poison.message_id());
    for name in [
        SystemName::MessageGroupId,
        SystemName::MessageDeduplicationId,
    ] {
        assert_eq!(system(&message, &name), system(&poison, &name));
    }
    assert!(
        message
            .attributes()
            .unwrap()
            .contains_key(&SystemName::SequenceNumber)
    );

    let sources = client.list_dead_letter_source_queues().queue_url(&dead);
    assert_eq!(sources.send().await.unwrap().queue_urls(), [url.as_str()]);
    let none = client.list_dead_letter_source_queues().queue_url(&url);
    assert!(none.send().await.unwrap().queue_urls().is_empty());
}

#[tokio::test]
async fn a_dead_letter_queue_chooses_its_sources() {
    let endpoint = Endpoint::start().await;
    let client = endpoint.client();
    let dead = create(&client, "dead", &[]).await;
    let urls = [
        create(&client, "a", &[]).await,
        create(&client, "b", &[]).await,
    ];
    let allow = |policy: &str| {
        let set = client.set_queue_attributes().queue_url(&dead);
        set.attributes(Attribute::RedriveAllowPolicy, policy)
    };
    let policy =
        r#"{"deadLetterTargetArn":"arn:aws:sqs:r:000000000000:dead","maxReceiveCount":"3"}"#;
    let redrive = |url: &str| {
        let set = client.set_queue_attributes().queue_url(url);
        set.attributes(Attribute::RedrivePolicy, policy)
    };
    for bad in [
        "{}",
        r#"{"redrivePermission":"byQueue"}"#,
        r#"{"redrivePermission":"denyAll","sourceQueueArns":["arn:aws:sqs:r:000000000000:a"]}"#,
    ] {
        assert_eq!(code!(allow(bad)), "InvalidAttributeValue", "{bad}");
    }
    let by_queue =
        r#"{"redrivePermission":"byQueue","sourceQueueArns":["arn:aws:sqs:r:000000000000:a"]}"#;
    allow(by_queue).send().await.unwrap();
    redrive(&urls[0]).send().await.unwrap();
    assert_eq!(code!(redrive(&urls[1])), "InvalidParameterValue");
    allow(r#"{"redrivePermission":"allowAll"}"#)
        .send()
        .await
        .unwrap();
    redrive(&urls[1]).send().await.unwrap();
    let page = client.list_dead_letter_source_queues().queue_url(&dead);
    let page = page.max_results(1).send().await.unwrap();
    assert_eq!(page.queue_urls(), [urls[0].as_str()]);
    let rest = client.list_dead_letter_source_queues().queue_url(&dead);
    let rest = rest.max_results(1).next_token(page.next_token().unwrap());
    assert_eq!(rest.send().await.unwrap().queue_urls(), [urls[1].as_str()]);
}

#[tokio::test]
async fn tags_are_added_changed_taken_away_and_kept() {
    let mut endpoint = Endpoint::start().await;
    let client = endpoint.client();
    let created = client
        .create_queue()
        .queue_name("q")
        .tags("team", "a")
        .tags("empty", "");
    let url = created.send().await.unwrap().queue_url.unwrap();
    let tag = |key: &str, value: &str| client.tag_queue().queue_url(&url).tags(key, value);
    tag("team", "b").tags("stage", "test").send().await.unwrap();
    let untag = client.untag_queue().queue_url(&url);
    untag
        .tag_keys("stage")
        .tag_keys("unknown")
        .send()
        .await
        .unwrap();
    client.purge_queue().queue_url(&url).send().await.unwrap();
    let invalid = "InvalidParameterValue";
    assert_eq!(code!(tag("aws:x", "")), invalid);
    assert_eq!(code!(tag(&"x".repeat(129), "")), invalid);
    assert_eq!(code!(tag("x", &"x".repeat(257))), invalid);
    let many = (0..50).map(|n| (n.to_string(), String::new())).collect();
    let request = client.tag_queue().queue_url(&url).set_tags(Some(many));
    assert_eq!(code!(request), invalid);
    endpoint.begin_stop();
    let dir = endpoint.stopped().await;
    let endpoint = Endpoint::start_in(dir).await;
    let client = endpoint.client();
    let url = format!("{}/000000000000/q", endpoint.url());
    let tags = client
        .list_queue_tags()
        .queue_url(&url)
        .send()
        .await
        .unwrap();
    let expected = [("team", "b"), ("empty", "")].map(|(k, v)| (k.to_owned(), v.to_owned()));
    assert_eq!(tags.tags().unwrap(), &HashMap::from(expected));
}
