"""The queue endpoint as unmodified boto3 sees it.

Usage: test_boto3.py ENDPOINT_URL (or GRISTMILL_TEST_ENDPOINT). botocore checks MD5OfBody itself;
here the digests of attributes are computed apart from the server's code.
"""

import hashlib
import json
import os
import struct
import sys
import threading
import time
import unittest

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

ENDPOINT = sys.argv.pop(1) if len(sys.argv) > 1 else os.environ["GRISTMILL_TEST_ENDPOINT"]
MIB = 1024 * 1024


def client():
    return boto3.client(
        "sqs",
        endpoint_url=ENDPOINT,
        region_name="eu-west-1",
        aws_access_key_id="any",
        aws_secret_access_key="any",
        config=Config(retries={"total_max_attempts": 1}, proxies={}),
    )


def attributes_md5(attributes):
    md5 = hashlib.md5()

    def with_length(data):
        md5.update(struct.pack(">I", len(data)) + data)

    for name in sorted(attributes):
        attribute = attributes[name]
        with_length(name.encode())
        with_length(attribute["DataType"].encode())
        if attribute["DataType"].startswith("Binary"):
            md5.update(b"\x02")
            with_length(attribute["BinaryValue"])
        else:
            md5.update(b"\x01")
            with_length(attribute["StringValue"].encode())
    return md5.hexdigest()


class Queue(unittest.TestCase):
    def setUp(self):
        self.sqs = client()
        self.name = "boto3-" + self.id().rsplit(".", 1)[-1].replace("_", "-")
        self.url = self.sqs.create_queue(QueueName=self.name)["QueueUrl"]
        self.addCleanup(self.delete)

    def delete(self):
        try:
            self.sqs.delete_queue(QueueUrl=self.url)
        except self.sqs.exceptions.QueueDoesNotExist:
            pass

    def refused(self, code, call, **parameters):
        with self.assertRaises(ClientError) as caught:
            call(**parameters)
        self.assertEqual(caught.exception.response["Error"]["Code"], code)
        return caught.exception

    def depth(self):
        names = ["ApproximateNumberOfMessages" + suffix for suffix in ("", "NotVisible", "Delayed")]
        got = self.sqs.get_queue_attributes(QueueUrl=self.url, AttributeNames=names)["Attributes"]
        return tuple(int(got[name]) for name in names)

    def receive(self, **parameters):
        return self.sqs.receive_message(QueueUrl=self.url, **parameters).get("Messages", [])

    def test_queue_urls(self):
        self.assertEqual(self.url, f"{ENDPOINT}/000000000000/{self.name}")
        self.assertEqual(self.sqs.get_queue_url(QueueName=self.name)["QueueUrl"], self.url)
        pages = self.sqs.get_paginator("list_queues").paginate(
            QueueNamePrefix=self.name, PaginationConfig={"PageSize": 1}
        )
        self.assertEqual([url for page in pages for url in page["QueueUrls"]], [self.url])
        self.sqs.delete_queue(QueueUrl=self.url)
        with self.assertRaises(self.sqs.exceptions.QueueDoesNotExist):
            self.sqs.get_queue_url(QueueName=self.name)
        # The query protocol's code, as botocore shows it and old programs test it.
        error = self.refused(
            "AWS.SimpleQueueService.NonExistentQueue", self.sqs.purge_queue, QueueUrl=self.url
        )
        self.assertEqual(error.response["Error"]["Type"], "Sender")
        self.assertEqual(error.response["ResponseMetadata"]["HTTPStatusCode"], 400)
        self.assertTrue(error.response["ResponseMetadata"]["RequestId"])

    def test_message_round_trip(self):
        attributes = {
            "text": {"DataType": "String", "StringValue": "größer ≥ 1 😀"},
            "number": {"DataType": "Number.float", "StringValue": "-1.5e3"},
            "bytes": {"DataType": "Binary.png", "BinaryValue": bytes(range(256))},
        }
        trace = {"AWSTraceHeader": {"DataType": "String", "StringValue": "Root=1-2-3"}}
        body = json.dumps({"text": "Zeile\n\t\"quoted\" 世界 😀"}, ensure_ascii=False)
        sent = self.sqs.send_message(
            QueueUrl=self.url,
            MessageBody=body,
            MessageAttributes=attributes,
            MessageSystemAttributes=trace,
        )
        self.assertEqual(sent["MD5OfMessageBody"], hashlib.md5(body.encode()).hexdigest())
        self.assertEqual(sent["MD5OfMessageAttributes"], attributes_md5(attributes))
        self.assertEqual(sent["MD5OfMessageSystemAttributes"], attributes_md5(trace))
        self.assertEqual(self.depth(), (1, 0, 0))
        (message,) = self.receive(AttributeNames=["All"], MessageAttributeNames=["All"])
        self.assertEqual(message["MessageId"], sent["MessageId"])
        self.assertEqual(message["Body"], body)
        self.assertEqual(message["MessageAttributes"], attributes)
        self.assertEqual(message["MD5OfMessageAttributes"], attributes_md5(attributes))
        self.assertEqual(message["Attributes"]["AWSTraceHeader"], "Root=1-2-3")
        self.assertEqual(message["Attributes"]["ApproximateReceiveCount"], "1")
        self.assertEqual(self.depth(), (0, 1, 0))
        self.sqs.delete_message(QueueUrl=self.url, ReceiptHandle=message["ReceiptHandle"])
        self.assertEqual(self.depth(), (0, 0, 0))

    def test_batches(self):
        entries = [{"Id": str(n), "MessageBody": f"body {n}"} for n in range(9)]
        entries.append({"Id": "bad", "MessageBody": "x", "DelaySeconds": 901})
        sent = self.sqs.send_message_batch(QueueUrl=self.url, Entries=entries)
        self.assertEqual([entry["Id"] for entry in sent["Successful"]], list("012345678"))
        self.assertEqual([entry["Id"] for entry in sent["Failed"]], ["bad"])
        self.assertTrue(sent["Failed"][0]["SenderFault"])
        messages = self.receive(MaxNumberOfMessages=10)
        self.assertEqual([m["Body"] for m in messages], [f"body {n}" for n in range(9)])
        changed = self.sqs.change_message_visibility_batch(
            QueueUrl=self.url,
            Entries=[
                {"Id": str(n), "ReceiptHandle": m["ReceiptHandle"], "VisibilityTimeout": 0}
                for n, m in enumerate(messages[:4])
            ],
        )
        self.assertEqual(len(changed["Successful"]), 4)
        self.assertEqual(self.depth(), (4, 5, 0))
        deleted = self.sqs.delete_message_batch(
            QueueUrl=self.url,
            Entries=[
                {"Id": str(n), "ReceiptHandle": m["ReceiptHandle"]}
                for n, m in enumerate(messages)
            ] + [{"Id": "bad", "ReceiptHandle": "nonsense"}],
        )
        self.assertEqual(len(deleted["Successful"]), 9)
        self.assertEqual(deleted["Failed"][0]["Code"], "ReceiptHandleIsInvalid")
        self.assertEqual(self.depth(), (0, 0, 0))

    def test_errors(self):
        sqs, url = self.sqs, self.url
        batch = "AWS.SimpleQueueService."
        self.refused(
            batch + "EmptyBatchRequest", sqs.send_message_batch, QueueUrl=url, Entries=[]
        )
        same = [{"Id": "a", "MessageBody": "x"}] * 2
        self.refused(
            batch + "BatchEntryIdsNotDistinct", sqs.send_message_batch, QueueUrl=url, Entries=same
        )
        many = [{"Id": str(n), "MessageBody": "x"} for n in range(11)]
        self.refused(
            batch + "TooManyEntriesInBatchRequest",
            sqs.send_message_batch,
            QueueUrl=url,
            Entries=many,
        )
        for code, parameters in [
            ("InvalidMessageContents", {"MessageBody": "\x00"}),
            ("MissingParameter", {"MessageBody": ""}),
            ("InvalidParameterValue", {"MessageBody": "x" * (MIB + 1)}),
            ("InvalidParameterValue", {"MessageBody": "x", "DelaySeconds": 901}),
        ]:
            self.refused(code, sqs.send_message, QueueUrl=url, **parameters)
        sqs.send_message(QueueUrl=url, MessageBody="x" * MIB)
        self.refused(
            "QueueAlreadyExists",
            sqs.create_queue,
            QueueName=self.name,
            Attributes={"VisibilityTimeout": "31"},
        )
        self.refused(
            "InvalidAttributeValue",
            sqs.set_queue_attributes,
            QueueUrl=url,
            Attributes={"VisibilityTimeout": "43201"},
        )
        (message,) = self.receive(VisibilityTimeout=0)
        self.refused(
            batch + "MessageNotInflight",
            sqs.change_message_visibility,
            QueueUrl=url,
            ReceiptHandle=message["ReceiptHandle"],
            VisibilityTimeout=1,
        )

    def test_long_poll(self):
        got = []
        poll = threading.Thread(
            target=lambda: got.extend(
                client().receive_message(QueueUrl=self.url, WaitTimeSeconds=20)["Messages"]
            )
        )
        poll.start()
        start = time.monotonic()
        self.sqs.send_message(QueueUrl=self.url, MessageBody="late", DelaySeconds=1)
        poll.join()
        self.assertEqual([message["Body"] for message in got], ["late"])
        self.assertTrue(0.9 < time.monotonic() - start < 10)

    def test_dead_letters(self):
        dead = self.sqs.create_queue(QueueName=self.name + "-dlq")["QueueUrl"]
        self.addCleanup(self.sqs.delete_queue, QueueUrl=dead)
        arn = self.sqs.get_queue_attributes(QueueUrl=dead, AttributeNames=["QueueArn"])
        policy = {
            "deadLetterTargetArn": arn["Attributes"]["QueueArn"],
            "maxReceiveCount": 1,
        }
        self.sqs.set_queue_attributes(
            QueueUrl=self.url,
            Attributes={"RedrivePolicy": json.dumps(policy), "VisibilityTimeout": "0"},
        )
        got = self.sqs.get_queue_attributes(QueueUrl=self.url, AttributeNames=["All"])
        self.assertEqual(json.loads(got["Attributes"]["RedrivePolicy"]), policy)
        sent = self.sqs.send_message(QueueUrl=self.url, MessageBody="poison")
        self.assertEqual(len(self.receive()), 1)
        self.assertEqual(self.receive(), [])
        (message,) = self.sqs.receive_message(
            QueueUrl=dead, MessageSystemAttributeNames=["All"]
        )["Messages"]
        self.assertEqual(message["MessageId"], sent["MessageId"])
        self.assertTrue(
            message["Attributes"]["DeadLetterQueueSourceArn"].endswith(":" + self.name)
        )

    def test_purge(self):
        for _ in range(2):
            self.sqs.send_message(QueueUrl=self.url, MessageBody="x")
            self.sqs.purge_queue(QueueUrl=self.url)
            self.assertEqual(self.depth(), (0, 0, 0))

    def test_resource_interface(self):
        resource = boto3.resource(
            "sqs",
            endpoint_url=ENDPOINT,
            region_name="eu-west-1",
            aws_access_key_id="any",
            aws_secret_access_key="any",
        )
        queue = resource.get_queue_by_name(QueueName=self.name)
        queue.send_message(MessageBody="x")
        (message,) = queue.receive_messages(WaitTimeSeconds=1)
        message.change_visibility(VisibilityTimeout=60)
        message.delete()
        queue.load()
        self.assertEqual(queue.attributes["ApproximateNumberOfMessages"], "0")

    def test_fifo_queue(self):
        name = self.name + ".fifo"
        attributes = {"FifoQueue": "true", "ContentBasedDeduplication": "true"}
        url = self.sqs.create_queue(QueueName=name, Attributes=attributes)["QueueUrl"]
        self.addCleanup(self.sqs.delete_queue, QueueUrl=url)
        sent = [
            self.sqs.send_message(QueueUrl=url, MessageBody=body, MessageGroupId=group)
            for group, body in (("a", "a1"), ("b", "b1"), ("a", "a2"), ("a", "a1"))
        ]
        self.assertEqual(sent[3]["SequenceNumber"], sent[0]["SequenceNumber"])
        self.assertLess(sent[0]["SequenceNumber"], sent[2]["SequenceNumber"])
        got = self.sqs.receive_message(
            QueueUrl=url, MaxNumberOfMessages=10, AttributeNames=["All"], WaitTimeSeconds=0
        )["Messages"]
        self.assertEqual([message["Body"] for message in got], ["a1", "a2", "b1"])
        digest = hashlib.sha256(b"a1").hexdigest()
        self.assertEqual(got[0]["Attributes"]["MessageDeduplicationId"], digest)
        self.assertEqual(got[0]["Attributes"]["MessageGroupId"], "a")
        self.refused("MissingParameter", self.sqs.send_message, QueueUrl=url, MessageBody="x")

    def test_tags_and_message_move_task(self):
        self.sqs.tag_queue(QueueUrl=self.url, Tags={"team": "a", "stage": "test"})
        self.sqs.untag_queue(QueueUrl=self.url, TagKeys=["stage"])
        self.assertEqual(self.sqs.list_queue_tags(QueueUrl=self.url)["Tags"], {"team": "a"})
        arn = self.sqs.get_queue_attributes(QueueUrl=self.url, AttributeNames=["QueueArn"])
        arn = arn["Attributes"]["QueueArn"]
        policy = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": 1})
        attributes = {"RedrivePolicy": policy, "VisibilityTimeout": "0"}
        source = self.sqs.create_queue(QueueName=self.name + "-source", Attributes=attributes)
        source = source["QueueUrl"]
        self.addCleanup(self.sqs.delete_queue, QueueUrl=source)
        sources = self.sqs.list_dead_letter_source_queues(QueueUrl=self.url)["queueUrls"]
        self.assertEqual(sources, [source])
        self.sqs.send_message(QueueUrl=source, MessageBody="poison")
        for _ in range(2):
            self.sqs.receive_message(QueueUrl=source)
        self.assertEqual(self.depth(), (1, 0, 0))
        task = self.sqs.start_message_move_task(SourceArn=arn)
        got = self.sqs.receive_message(QueueUrl=source, WaitTimeSeconds=20)["Messages"]
        self.assertEqual(got[0]["Body"], "poison")
        (listed,) = self.sqs.list_message_move_tasks(SourceArn=arn)["Results"]
        self.assertEqual(listed["ApproximateNumberOfMessagesMoved"], 1)
        unknown = "ResourceNotFoundException"
        self.refused(unknown, self.sqs.start_message_move_task, SourceArn=arn + "-none")
        self.assertTrue(task["TaskHandle"])


if __name__ == "__main__":
    unittest.main()
