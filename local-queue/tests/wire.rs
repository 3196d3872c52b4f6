//! The frame of the protocol as raw bytes on a socket: what an SDK hides.
#![allow(
    clippy::unwrap_used,
    missing_docs,
    unreachable_pub,
    dead_code,
    reason = "a test stops at the first failure; `support` is shared by several test binaries"
)]

mod support;

use local_queue::{OutgoingMessage, QueueName, ReceiveOptions};
use support::Endpoint;
use support::raw::{Answer, action, request};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

#[tokio::test]
async fn errors_carry_shape_code_and_request_id() {
    let endpoint = Endpoint::start().await;
    let answer = action(&endpoint, "GetQueueUrl", r#"{"QueueName":"none"}"#).await;
    assert_eq!(answer.status, 400);
    assert!(
        answer
            .body
            .contains(r#""__type":"com.amazonaws.sqs#QueueDoesNotExist""#),
        "{}",
        answer.body
    );
    assert!(
        answer
            .body
            .contains(r#""message":"The specified queue does not exist.""#)
    );
    let code = "x-amzn-query-error: aws.simplequeueservice.nonexistentqueue;sender";
    assert!(answer.head.contains(code), "{}", answer.head);
    assert!(
        answer.head.contains("x-amzn-requestid: "),
        "{}",
        answer.head
    );
    assert!(
        answer
            .head
            .contains("content-type: application/x-amz-json-1.0"),
        "{}",
        answer.head
    );
}

#[tokio::test]
async fn queue_urls_name_the_bound_address_and_any_host_is_understood() {
    let endpoint = Endpoint::start().await;
    let created = action(&endpoint, "CreateQueue", r#"{"QueueName":"q","Unknown":1}"#).await;
    let url = format!("http://{}/000000000000/q", endpoint.addr);
    assert_eq!(created.body, format!(r#"{{"QueueUrl":"{url}"}}"#));
    for url in [
        "http://other:99/000000000000/q",
        "https://sqs.example/000000000000/q/",
    ] {
        let body = format!(r#"{{"QueueUrl":"{url}","MessageBody":"x"}}"#);
        assert_eq!(
            action(&endpoint, "SendMessage", &body).await.status,
            200,
            "{url}"
        );
    }
}

#[tokio::test]
async fn other_protocols_are_told_what_is_spoken_here() {
    let endpoint = Endpoint::start().await;
    let greeting = request(&endpoint, "GET", &[], "").await;
    assert_eq!(greeting.status, 200);
    assert!(greeting.body.contains(&endpoint.url()), "{}", greeting.body);
    let neither = request(&endpoint, "POST", &[], "Action=SendMessage").await;
    assert_eq!(neither.status, 400);
    assert!(
        neither.body.contains("JSON 1.0") && neither.body.contains("query protocol"),
        "{}",
        neither.body
    );
    let other = request(
        &endpoint,
        "POST",
        &[("x-amz-target", "DynamoDB_20120810.GetItem")],
        "{}",
    )
    .await;
    assert_eq!(other.status, 400);
    assert!(
        other.body.contains("DynamoDB_20120810.GetItem"),
        "{}",
        other.body
    );
    let unknown = action(&endpoint, "Nonsense", "{}").await;
    assert_eq!(unknown.status, 400);
    assert!(unknown.body.contains("Nonsense"), "{}", unknown.body);
}

async fn query(endpoint: &Endpoint, form: &str) -> Answer {
    let headers = [(
        "content-type",
        "application/x-www-form-urlencoded; charset=utf-8",
    )];
    request(endpoint, "POST", &headers, form).await
}

fn between<'a>(text: &'a str, before: &str, after: &str) -> &'a str {
    let (_, rest) = text.split_once(before).unwrap();
    rest.split_once(after).unwrap().0
}

#[tokio::test]
async fn the_query_protocol_reaches_the_same_queues() {
    let endpoint = Endpoint::start().await;
    let created = query(
        &endpoint,
        "Action=CreateQueue&Version=2012-11-05&QueueName=q&Attribute.1.Name=VisibilityTimeout\
         &Attribute.1.Value=600",
    )
    .await;
    let url = format!("{}/000000000000/q", endpoint.url());
    assert_eq!(created.status, 200);
    assert!(created.head.contains("content-type: text/xml"));
    let found = between(&created.body, "<QueueUrl>", "</QueueUrl>");
    assert_eq!(found, url);
    let id = between(&created.body, "<RequestId>", "</RequestId>");
    let header = format!("x-amzn-requestid: {id}");
    assert!(created.head.contains(&header), "{}", created.head);

    let url = url.replace(':', "%3A").replace('/', "%2F");
    let send = format!(
        "Action=SendMessage&QueueUrl={url}&MessageBody=a+%26%0D%0Ab&MessageAttribute.1.Name=n\
         &MessageAttribute.1.Value.DataType=Number&MessageAttribute.1.Value.StringValue=1"
    );
    assert_eq!(query(&endpoint, &send).await.status, 200);
    let receive = format!(
        "Action=ReceiveMessage&QueueUrl={url}&AttributeName.1=All&MessageAttributeName.1=All\
         &MaxNumberOfMessages=10"
    );
    let received = query(&endpoint, &receive).await.body;
    assert_eq!(between(&received, "<Body>", "</Body>"), "a &amp;&#xD;\nb");
    assert!(received.contains("<Name>ApproximateReceiveCount</Name><Value>1</Value>"));
    assert!(
        received.contains("<StringValue>1</StringValue>"),
        "{received}"
    );
    let handle = between(&received, "<ReceiptHandle>", "</ReceiptHandle>");
    let delete = format!(
        "Action=DeleteMessageBatch&QueueUrl={url}&DeleteMessageBatchRequestEntry.1.Id=a\
         &DeleteMessageBatchRequestEntry.1.ReceiptHandle={handle}\
         &DeleteMessageBatchRequestEntry.2.Id=b&DeleteMessageBatchRequestEntry.2.ReceiptHandle=x"
    );
    let deleted = query(&endpoint, &delete).await.body;
    assert!(
        deleted.contains("<DeleteMessageBatchResultEntry><Id>a</Id>"),
        "{deleted}"
    );
    assert!(
        deleted.contains("<Code>ReceiptHandleIsInvalid</Code>"),
        "{deleted}"
    );

    let missing = query(&endpoint, "Action=GetQueueUrl&QueueName=none").await;
    assert_eq!(missing.status, 400);
    let error = "<Error><Type>Sender</Type><Code>AWS.SimpleQueueService.NonExistentQueue</Code>\
                 <Message>The specified queue does not exist for this wsdl version.</Message>";
    assert!(missing.body.contains(error), "{}", missing.body);
    let unknown = query(&endpoint, "Action=Nonsense").await;
    assert!(
        unknown.body.contains("<Code>InvalidAction</Code>"),
        "{}",
        unknown.body
    );
}

#[tokio::test]
async fn broken_json_and_missing_parameters_are_refused() {
    let endpoint = Endpoint::start().await;
    action(&endpoint, "CreateQueue", r#"{"QueueName":"q"}"#).await;
    let url = format!("{}/000000000000/q", endpoint.url());
    for (name, body, shape) in [
        ("SendMessage", "{".to_owned(), "SerializationException"),
        (
            "SendMessage",
            r#"{"QueueUrl":1}"#.to_owned(),
            "SerializationException",
        ),
        (
            "SendMessage",
            "{}".to_owned(),
            "MissingRequiredParameterException",
        ),
        (
            "SendMessage",
            format!(r#"{{"QueueUrl":"{url}"}}"#),
            "MissingRequiredParameterException",
        ),
        (
            "CreateQueue",
            String::new(),
            "InvalidParameterValueException",
        ),
        (
            "SendMessageBatch",
            format!(r#"{{"QueueUrl":"{url}"}}"#),
            "EmptyBatchRequest",
        ),
    ] {
        let answer = action(&endpoint, name, &body).await;
        assert_eq!(answer.status, 400, "{name} {body}");
        assert!(
            answer.body.contains(shape),
            "{name} {body}: {}",
            answer.body
        );
    }
    assert_eq!(action(&endpoint, "ListQueues", "").await.status, 200);
}

#[tokio::test]
async fn a_body_beyond_the_limit_is_refused_in_words() {
    let endpoint = Endpoint::start().await;
    let answer = action(&endpoint, "SendMessage", &"x".repeat(9_000_000)).await;
    assert_eq!(answer.status, 413);
    assert!(
        answer.body.contains("at most 8388608 bytes"),
        "{}",
        answer.body
    );
}

#[tokio::test]
async fn a_client_that_hangs_up_takes_no_message_with_it() {
    let endpoint = Endpoint::start().await;
    action(&endpoint, "CreateQueue", r#"{"QueueName":"q"}"#).await;
    let name = QueueName::parse("q").unwrap();
    let body = format!(
        r#"{{"QueueUrl":"{}/000000000000/q","WaitTimeSeconds":20}}"#,
        endpoint.url()
    );
    let request = format!(
        "POST / HTTP/1.1\r\nhost: x\r\nx-amz-target: AmazonSQS.ReceiveMessage\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut stream = TcpStream::connect(endpoint.addr).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    // The server hangs up as well, without an answer: the receive is dropped.
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    assert!(answer.is_empty(), "{}", String::from_utf8_lossy(&answer));
    endpoint
        .queue
        .send(&name, OutgoingMessage::new("x"))
        .await
        .unwrap();
    let messages = endpoint
        .queue
        .receive(&name, ReceiveOptions::default())
        .await
        .unwrap();
    assert_eq!(
        messages.iter().map(|m| m.receive_count).collect::<Vec<_>>(),
        [1]
    );
}
