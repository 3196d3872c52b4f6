"""What Gristmill replaces: receive up to ten, handle each, delete each."""

import json
import sys

import boto3

origin, queue_url, messages = sys.argv[1], sys.argv[2], int(sys.argv[3])
sqs = boto3.client(
    "sqs",
    endpoint_url=origin,
    region_name="us-east-1",
    aws_access_key_id="local",
    aws_secret_access_key="local",
)
left = messages
while left:
    answer = sqs.receive_message(QueueUrl=queue_url, MaxNumberOfMessages=10, WaitTimeSeconds=10)
    for message in answer.get("Messages", []):
        assert isinstance(json.loads(message["Body"]), dict)
        sqs.delete_message(QueueUrl=queue_url, ReceiptHandle=message["ReceiptHandle"])
        left -= 1
