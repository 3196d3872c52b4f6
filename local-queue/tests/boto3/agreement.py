"""What every endpoint of SQS should agree on, asked through unmodified boto3.

Usage: agreement.py ENDPOINT_URL PEER, where PEER is `ours`, `ministack` or `localstack`. Each check
says what SQS does. Where a peer does otherwise, DEVIATIONS says so with the reason, and the check
must then fail there: a peer that was mended is noticed. Nothing deviates here.
"""

import hashlib
import json
import sys
import time
import traceback

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

ENDPOINT, PEER = sys.argv[1:]
MIB = 1024 * 1024
BATCH = "AWS.SimpleQueueService."

# What each peer does instead.
DEVIATIONS = {
    "ours": {},
    # 1.5.33
    "ministack": {
        "unknown_attributes_are_refused": "keeps any attribute",
        "a_receive_waits_for_twenty_seconds_at_most": "waits as long as it is asked to",
        "a_receive_hides_for_twelve_hours_at_most": "hides for any time",
        "a_message_is_hidden_for_twelve_hours_at_most": "knows no bound for all changes together",
        "a_wrong_handle_is_told_from_an_old_one": "refuses the handle of a deleted message",
        "a_dead_letter_queue_knows_its_sources": "has no ListDeadLetterSourceQueues",
        "a_redrive_policy_needs_its_target": "has the code InvalidAttributeValue",
        "a_move_task_takes_dead_letters_back": "has no StartMessageMoveTask",
        "a_move_task_needs_a_dead_letter_queue": "has no StartMessageMoveTask",
        "a_standard_queue_refuses_what_is_for_fifo_queues": "ignores the deduplication id",
        "a_standard_queue_is_not_created_with_attributes_of_fifo_queues": "keeps them",
        "a_late_handle_deletes_nothing_of_a_fifo_queue": "deletes by any handle",
        "permissions_are_kept_in_the_policy": "writes actions as a list, in lower case",
    },
    # 4.12.0
    "localstack": {
        "values_out_of_range_are_refused": "keeps any value",
        "a_receive_asks_for_one_to_ten_messages": "takes 0 for 1",
        "a_receive_hides_for_twelve_hours_at_most": "hides for any time",
        "a_message_is_hidden_for_twelve_hours_at_most": "knows no bound for all changes together",
        "a_redrive_policy_needs_its_target": "looks for the target when a message is to go there",
        "a_fifo_group_is_blocked_by_the_message_that_is_hidden_longest": "gives out what is behind",
    },
}

sqs = boto3.client(
    "sqs",
    endpoint_url=ENDPOINT,
    region_name="us-east-1",
    aws_access_key_id="test",
    aws_secret_access_key="test",
    config=Config(retries={"total_max_attempts": 1}, proxies={}),
)
CHECKS = []


def check(function):
    CHECKS.append(function)
    return function


def create(name, **attributes):
    if name.endswith(".fifo"):
        attributes["FifoQueue"] = "true"
    return sqs.create_queue(QueueName=name, Attributes=attributes)["QueueUrl"]


def attribute(url, name):
    got = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=[name])
    return got.get("Attributes", {}).get(name)


def depth(url):
    names = ["ApproximateNumberOfMessages" + suffix for suffix in ("", "NotVisible", "Delayed")]
    got = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
    return tuple(int(got[name]) for name in names)


def send(url, body, **parameters):
    return sqs.send_message(QueueUrl=url, MessageBody=body, **parameters)


def receive(url, count=10, **parameters):
    parameters.setdefault("MessageSystemAttributeNames", ["All"])
    parameters.setdefault("MessageAttributeNames", ["All"])
    got = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=count, **parameters)
    return got.get("Messages", [])


def receive_within(url, seconds, **parameters):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        got = receive(url, WaitTimeSeconds=1, **parameters)
        if got:
            return got
    return []


def delete(url, message):
    sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])


def redrive(url, dead, count):
    policy = {"deadLetterTargetArn": attribute(dead, "QueueArn"), "maxReceiveCount": count}
    sqs.set_queue_attributes(QueueUrl=url, Attributes={"RedrivePolicy": json.dumps(policy)})


def refusal(call, **parameters):
    """The code and the words of a refusal."""
    try:
        call(**parameters)
    except ClientError as error:
        return (error.response["Error"]["Code"], error.response["Error"]["Message"])
    return "not refused"


def refused(expected, call, **parameters):
    got = refusal(call, **parameters)
    code = got[0] if isinstance(got, tuple) else got
    assert code == expected, f"{expected} expected: {got}"
    return got[1]


def equal(got, expected):
    assert got == expected, f"{expected!r} expected: {got!r}"


@check
def queues_are_created_found_listed_in_pages_and_deleted(name):
    urls = [create(f"{name}-{n}") for n in range(3)]
    equal(sqs.get_queue_url(QueueName=f"{name}-1")["QueueUrl"], urls[1])
    pages = sqs.get_paginator("list_queues").paginate(
        QueueNamePrefix=name, PaginationConfig={"PageSize": 2}
    )
    pages = [page.get("QueueUrls", []) for page in pages]
    equal([len(page) for page in pages], [2, 1])
    equal(sorted(sum(pages, [])), sorted(urls))
    sqs.delete_queue(QueueUrl=urls[0])
    refused(BATCH + "NonExistentQueue", sqs.get_queue_url, QueueName=f"{name}-0")


@check
def creating_again_needs_the_same_attributes(name):
    url = create(name, DelaySeconds="1")
    equal(create(name, DelaySeconds="1"), url)
    said = refused(
        "QueueAlreadyExists", sqs.create_queue, QueueName=name, Attributes={"DelaySeconds": "2"}
    )
    assert "DelaySeconds" in said, said


@check
def attributes_have_their_defaults(name):
    url = create(name)
    got = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    expected = {
        "VisibilityTimeout": "30",
        "DelaySeconds": "0",
        "ReceiveMessageWaitTimeSeconds": "0",
        "MessageRetentionPeriod": "345600",
        "MaximumMessageSize": str(MIB),
    }
    equal({key: got.get(key) for key in expected}, expected)


@check
def values_out_of_range_are_refused(name):
    url = create(name)
    for key, value in (("VisibilityTimeout", "43201"), ("DelaySeconds", "901")):
        code = refusal(sqs.set_queue_attributes, QueueUrl=url, Attributes={key: value})[0]
        assert code in ("InvalidAttributeValue", "InvalidParameterValue"), f"{key}: {code}"


@check
def unknown_attributes_are_refused(name):
    url = create(name)
    refused(
        "InvalidAttributeName", sqs.set_queue_attributes, QueueUrl=url, Attributes={"Nope": "1"}
    )


@check
def tags_are_set_and_taken_away(name):
    url = sqs.create_queue(QueueName=name, tags={"team": "a", "stage": "test"})["QueueUrl"]
    sqs.untag_queue(QueueUrl=url, TagKeys=["stage"])
    sqs.tag_queue(QueueUrl=url, Tags={"more": "1"})
    equal(sqs.list_queue_tags(QueueUrl=url)["Tags"], {"team": "a", "more": "1"})


@check
def a_message_keeps_its_body_and_attributes(name):
    url = create(name)
    attributes = {
        "text": {"DataType": "String", "StringValue": "größer ≥ 1"},
        "number": {"DataType": "Number.float", "StringValue": "-1.5e3"},
        "bytes": {"DataType": "Binary.png", "BinaryValue": bytes(range(256))},
    }
    body = 'Zeile\n\t"quoted" 世界 😀'
    sent = send(url, body, MessageAttributes=attributes)
    equal(sent["MD5OfMessageBody"], hashlib.md5(body.encode()).hexdigest())
    (message,) = receive(url)
    equal((message["Body"], message["MessageAttributes"]), (body, attributes))
    equal(message["MD5OfMessageAttributes"], sent["MD5OfMessageAttributes"])
    equal(message["Attributes"]["ApproximateReceiveCount"], "1")
    equal(depth(url), (0, 1, 0))
    delete(url, message)
    equal(depth(url), (0, 0, 0))


@check
def batches_succeed_and_fail_by_entry(name):
    url = create(name)
    entries = [{"Id": str(n), "MessageBody": str(n)} for n in range(9)]
    entries.append({"Id": "bad", "MessageBody": "\x01"})
    sent = sqs.send_message_batch(QueueUrl=url, Entries=entries)
    equal([entry["Id"] for entry in sent["Successful"]], list("012345678"))
    equal([entry["Id"] for entry in sent["Failed"]], ["bad"])
    equal(sent["Failed"][0]["Code"], "InvalidMessageContents")
    messages = receive(url)
    equal(len(messages), 9)
    entries = [
        {"Id": str(n), "ReceiptHandle": message["ReceiptHandle"]}
        for n, message in enumerate(messages)
    ]
    deleted = sqs.delete_message_batch(
        QueueUrl=url, Entries=entries + [{"Id": "bad", "ReceiptHandle": "nonsense"}]
    )
    equal(len(deleted["Successful"]), 9)
    equal([entry["Code"] for entry in deleted["Failed"]], ["ReceiptHandleIsInvalid"])


@check
def batches_of_the_wrong_shape_are_refused_whole(name):
    url = create(name)
    entry = {"Id": "a", "MessageBody": "x"}
    many = [{"Id": str(n), "MessageBody": "x"} for n in range(11)]
    half = "x" * (MIB // 2 + 1)
    for code, entries in (
        ("EmptyBatchRequest", []),
        ("TooManyEntriesInBatchRequest", many),
        ("BatchEntryIdsNotDistinct", [entry, entry]),
        ("InvalidBatchEntryId", [{"Id": "a b", "MessageBody": "x"}]),
        ("BatchRequestTooLong", [{"Id": i, "MessageBody": half} for i in "ab"]),
    ):
        refused(BATCH + code, sqs.send_message_batch, QueueUrl=url, Entries=entries)


@check
def a_message_has_one_mebibyte_at_most(name):
    url = create(name)
    send(url, "x" * MIB)
    refused("InvalidParameterValue", sqs.send_message, QueueUrl=url, MessageBody="x" * (MIB + 1))


@check
def bodies_are_neither_empty_nor_full_of_control_characters(name):
    url = create(name)
    refused("InvalidMessageContents", sqs.send_message, QueueUrl=url, MessageBody="\x01")
    refused("MissingParameter", sqs.send_message, QueueUrl=url, MessageBody="")


@check
def a_receive_asks_for_one_to_ten_messages(name):
    call, url = sqs.receive_message, create(name)
    for count in (0, 11):
        refused("InvalidParameterValue", call, QueueUrl=url, MaxNumberOfMessages=count)


@check
def a_receive_waits_for_twenty_seconds_at_most(name):
    call, url = sqs.receive_message, create(name)
    refused("InvalidParameterValue", call, QueueUrl=url, WaitTimeSeconds=21)


@check
def a_receive_hides_for_twelve_hours_at_most(name):
    call, url = sqs.receive_message, create(name)
    refused("InvalidParameterValue", call, QueueUrl=url, VisibilityTimeout=43201)


@check
def a_message_is_visible_again_after_its_timeout_or_at_once(name):
    url = create(name, VisibilityTimeout="1")
    send(url, "x")
    receive(url)
    (message,) = receive_within(url, 5)
    equal(message["Attributes"]["ApproximateReceiveCount"], "2")
    handle = message["ReceiptHandle"]
    sqs.change_message_visibility(QueueUrl=url, ReceiptHandle=handle, VisibilityTimeout=60)
    equal(receive(url), [])
    sqs.change_message_visibility(QueueUrl=url, ReceiptHandle=handle, VisibilityTimeout=0)
    equal(len(receive(url)), 1)


@check
def a_message_is_hidden_for_twelve_hours_at_most(name):
    url = create(name)
    send(url, "x")
    handle = receive(url)[0]["ReceiptHandle"]
    time.sleep(1.1)
    change = {"QueueUrl": url, "ReceiptHandle": handle, "VisibilityTimeout": 43200}
    said = refused("InvalidParameterValue", sqs.change_message_visibility, **change)
    assert "Total VisibilityTimeout" in said, said
    change["VisibilityTimeout"] = 43100
    sqs.change_message_visibility(**change)


@check
def a_wrong_handle_is_told_from_an_old_one(name):
    url = create(name)
    code = "ReceiptHandleIsInvalid"
    refused(code, sqs.delete_message, QueueUrl=url, ReceiptHandle="nonsense")
    send(url, "x")
    (message,) = receive(url)
    delete(url, message)
    delete(url, message)


@check
def a_delayed_message_comes_late(name):
    url = create(name)
    send(url, "x", DelaySeconds=2)
    equal((receive(url), depth(url)), ([], (0, 0, 1)))
    equal(len(receive_within(url, 6)), 1)


@check
def a_long_poll_is_woken_by_a_delay_that_ends(name):
    url = create(name)
    send(url, "x", DelaySeconds=1)
    start = time.monotonic()
    equal(len(receive(url, WaitTimeSeconds=10)), 1)
    assert time.monotonic() - start < 4, "it waited on"


@check
def purging_empties_a_queue(name):
    url = create(name)
    for _ in range(3):
        send(url, "x")
    receive(url, 1)
    sqs.purge_queue(QueueUrl=url)
    equal(depth(url), (0, 0, 0))


@check
def a_poison_message_goes_to_the_dead_letter_queue(name):
    dead = create(name + "-dlq")
    url = create(name, VisibilityTimeout="0")
    redrive(url, dead, 2)
    sent = send(url, "poison")
    for _ in range(2):
        equal(len(receive(url)), 1)
    equal(receive(url), [])
    (message,) = receive_within(dead, 5)
    equal((message["Body"], message["MessageId"]), ("poison", sent["MessageId"]))
    equal(message["Attributes"]["DeadLetterQueueSourceArn"], attribute(url, "QueueArn"))


@check
def a_dead_letter_queue_knows_its_sources(name):
    dead, url = create(name + "-dlq"), create(name)
    redrive(url, dead, 2)
    equal(sqs.list_dead_letter_source_queues(QueueUrl=dead)["queueUrls"], [url])


@check
def a_redrive_policy_needs_its_target(name):
    url = create(name)
    arn = attribute(url, "QueueArn") + "-none"
    policy = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": 1})
    said = refused(
        "InvalidParameterValue",
        sqs.set_queue_attributes,
        QueueUrl=url,
        Attributes={"RedrivePolicy": policy},
    )
    assert "does not exist" in said, said


@check
def a_move_task_takes_dead_letters_back(name):
    dead = create(name + "-dlq")
    url = create(name, VisibilityTimeout="0")
    redrive(url, dead, 1)
    for body in "abc":
        send(url, body)
    for _ in range(2):
        receive(url)
    arn = attribute(dead, "QueueArn")
    equal(depth(dead), (3, 0, 0))
    sqs.start_message_move_task(SourceArn=arn)
    got, until = [], time.monotonic() + 10
    while len(got) < 3 and time.monotonic() < until:
        for message in receive(url, WaitTimeSeconds=1, VisibilityTimeout=60):
            got.append(message["Body"])
    equal(sorted(got), ["a", "b", "c"])
    task = sqs.list_message_move_tasks(SourceArn=arn)["Results"][0]
    equal(task["ApproximateNumberOfMessagesMoved"], 3)
    equal(depth(dead), (0, 0, 0))


@check
def a_move_task_needs_a_dead_letter_queue(name):
    url = create(name)
    arn = attribute(url, "QueueArn")
    said = refused("InvalidParameterValue", sqs.start_message_move_task, SourceArn=arn)
    equal(said, "Source queue must be configured as a Dead Letter Queue.")
    start = sqs.start_message_move_task
    refused("ResourceNotFoundException", start, SourceArn=arn + "-none")


@check
def a_fifo_group_is_delivered_in_order_and_blocks_only_itself(name):
    url = create(name + ".fifo", ContentBasedDeduplication="true", VisibilityTimeout="30")
    for group, body in (("a", "a1"), ("b", "b1"), ("a", "a2"), ("b", "b2")):
        send(url, body, MessageGroupId=group)
    (first,) = receive(url, 1)
    equal(first["Body"], "a1")
    rest = receive(url)
    equal([message["Body"] for message in rest], ["b1", "b2"])
    delete(url, first)
    (second,) = receive(url)
    equal(second["Body"], "a2")
    assert first["Attributes"]["SequenceNumber"] < second["Attributes"]["SequenceNumber"]


@check
def a_fifo_group_is_blocked_by_the_message_that_is_hidden_longest(name):
    url = create(name + ".fifo", ContentBasedDeduplication="true")
    for body in "ab":
        send(url, body, MessageGroupId="g")
    first, second = receive(url)
    for message, secs in ((first, 60), (second, 0)):
        handle = message["ReceiptHandle"]
        sqs.change_message_visibility(QueueUrl=url, ReceiptHandle=handle, VisibilityTimeout=secs)
    equal(receive(url), [])


@check
def a_fifo_queue_takes_a_message_once(name):
    url = create(name + ".fifo", ContentBasedDeduplication="true")
    first = send(url, "x", MessageGroupId="g")
    again = send(url, "x", MessageGroupId="g")
    equal(again["MessageId"], first["MessageId"])
    send(url, "x", MessageGroupId="g", MessageDeduplicationId="other")
    equal(depth(url), (2, 0, 0))
    (message,) = receive(url, 1)
    equal(
        message["Attributes"]["MessageDeduplicationId"], hashlib.sha256(b"x").hexdigest()
    )


@check
def a_fifo_queue_asks_for_its_parameters(name):
    url = create(name + ".fifo")
    call = sqs.send_message
    refused("MissingParameter", call, QueueUrl=url, MessageBody="x", MessageDeduplicationId="d")
    refused("InvalidParameterValue", call, QueueUrl=url, MessageBody="x", MessageGroupId="g")
    late = {"MessageGroupId": "g", "MessageDeduplicationId": "d", "DelaySeconds": 1}
    refused("InvalidParameterValue", call, QueueUrl=url, MessageBody="x", **late)


@check
def a_standard_queue_refuses_what_is_for_fifo_queues(name):
    url = create(name)
    call = sqs.send_message
    identified = {"MessageBody": "x", "MessageDeduplicationId": "d"}
    refused("InvalidParameterValue", call, QueueUrl=url, **identified)


@check
def a_standard_queue_is_not_created_with_attributes_of_fifo_queues(name):
    fifo = {"ContentBasedDeduplication": "true"}
    call = sqs.create_queue
    refused("InvalidAttributeName", call, QueueName=name, Attributes=fifo)


@check
def a_late_handle_deletes_nothing_of_a_fifo_queue(name):
    url = create(name + ".fifo", ContentBasedDeduplication="true", VisibilityTimeout="1")
    send(url, "x", MessageGroupId="g")
    (message,) = receive(url)
    time.sleep(1.2)
    said = refused("InvalidParameterValue", delete, url=url, message=message)
    assert "expired" in said, said
    equal(len(receive_within(url, 5)), 1)


@check
def permissions_are_kept_in_the_policy(name):
    url = create(name)
    permission = {"Label": "l", "AWSAccountIds": ["111111111111"], "Actions": ["SendMessage"]}
    sqs.add_permission(QueueUrl=url, **permission)
    (statement,) = json.loads(attribute(url, "Policy"))["Statement"]
    equal((statement["Sid"], statement["Action"]), ("l", "SQS:SendMessage"))
    said = refused("InvalidParameterValue", sqs.add_permission, QueueUrl=url, **permission)
    equal(said, "Value l for parameter Label is invalid. Reason: Already exists.")
    sqs.remove_permission(QueueUrl=url, Label="l")
    equal(attribute(url, "Policy"), None)
    said = refused("InvalidParameterValue", sqs.remove_permission, QueueUrl=url, Label="l")
    equal(said, "Value l for parameter Label is invalid. Reason: can't find label.")


def main():
    deviations = DEVIATIONS[PEER]
    wrong = sorted(set(deviations) - {function.__name__ for function in CHECKS})
    for function in CHECKS:
        name = function.__name__
        reason = deviations.get(name)
        try:
            function("agree-" + name.replace("_", "-")[:60])
        except Exception as error:
            if reason is None:
                wrong.append(name)
                traceback.print_exc(file=sys.stdout)
            print("deviates" if reason else "FAILED", name, "|", reason or "", "|", error)
        else:
            if reason is not None:
                wrong.append(name)
            print("agrees" if reason is None else "FAILED: no longer deviates", name)
    print(f"{PEER}: {len(CHECKS)} checks, {len(deviations)} deviations, {len(wrong)} failures")
    sys.exit(bool(wrong))


main()
