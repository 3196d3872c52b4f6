// The queue endpoint as the unmodified AWS SDK for JavaScript sees it. `javascript.rs` runs this file
// and says where the server and the packages are.

import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { test } from 'node:test';

const endpoint = process.env.GRISTMILL_TEST_ENDPOINT;
const require = createRequire(join(process.env.GRISTMILL_TEST_SQS_MODULES, 'here.js'));
const sdk = require('@aws-sdk/client-sqs');

const sqs = new sdk.SQS({
  endpoint,
  region: 'eu-central-1',
  credentials: { accessKeyId: 'any', secretAccessKey: 'any' },
  maxAttempts: 1,
});

async function create(QueueName, Attributes = {}) {
  return (await sqs.createQueue({ QueueName, Attributes })).QueueUrl;
}

async function receive(QueueUrl, more = {}) {
  const got = await sqs.receiveMessage({
    QueueUrl,
    MaxNumberOfMessages: 10,
    MessageAttributeNames: ['All'],
    MessageSystemAttributeNames: ['All'],
    ...more,
  });
  return got.Messages ?? [];
}

async function attributes(QueueUrl) {
  return (await sqs.getQueueAttributes({ QueueUrl, AttributeNames: ['All'] })).Attributes;
}

async function depth(url) {
  const all = await attributes(url);
  return ['', 'NotVisible', 'Delayed'].map((s) => all[`ApproximateNumberOfMessages${s}`]);
}

const bodies = (messages) => messages.map((message) => message.Body);

// Errors are instances of the SDK's classes where its model has one; others have SQS's code as name.
async function refused(name, call, status = 400) {
  await assert.rejects(call, (error) => {
    assert.equal(error.name, name, error.message);
    assert.equal(error.$metadata.httpStatusCode, status);
    if (sdk[name]) assert.ok(error instanceof sdk[name], `an instance of ${name}`);
    return true;
  });
}

test('queues are created, found, listed in pages, tagged and deleted', async () => {
  const { QueueUrl } = await sqs.createQueue({
    QueueName: 'js-a',
    Attributes: { DelaySeconds: '1' },
    tags: { team: 'a', stage: 'test' },
  });
  assert.equal(QueueUrl, `${endpoint}/000000000000/js-a`);
  const urls = [QueueUrl, await create('js-b'), await create('js-c')];
  assert.equal((await sqs.getQueueUrl({ QueueName: 'js-b' })).QueueUrl, urls[1]);
  const pages = [];
  const list = { QueueNamePrefix: 'js-' };
  for await (const page of sdk.paginateListQueues({ client: sqs, pageSize: 2 }, list)) {
    pages.push(page.QueueUrls);
  }
  assert.deepEqual(pages, [urls.slice(0, 2), urls.slice(2)]);
  await sqs.untagQueue({ QueueUrl, TagKeys: ['stage'] });
  assert.deepEqual((await sqs.listQueueTags({ QueueUrl })).Tags, { team: 'a' });
  await refused('QueueNameExists', create('js-a', { DelaySeconds: '2' }));
  await sqs.deleteQueue({ QueueUrl });
  await refused('QueueDoesNotExist', sqs.getQueueUrl({ QueueName: 'js-a' }));
});

test('messages are sent, received, hidden and deleted', async () => {
  const QueueUrl = await create('js-messages', { VisibilityTimeout: '60' });
  const MessageAttributes = {
    text: { DataType: 'String', StringValue: 'größer ≥ 1 😀' },
    number: { DataType: 'Number', StringValue: '-1.5e3' },
    bytes: { DataType: 'Binary.png', BinaryValue: Uint8Array.from([0, 1, 255]) },
  };
  // The SDK itself checks the digest of each body.
  const body = 'Zeile\n\t"quoted" 世界 😀';
  const sent = await sqs.sendMessage({ QueueUrl, MessageBody: body, MessageAttributes });
  const batch = await sqs.sendMessageBatch({
    QueueUrl,
    Entries: [
      { Id: 'a', MessageBody: 'two' },
      { Id: 'late', MessageBody: 'late', DelaySeconds: 900 },
      { Id: 'bad', MessageBody: '\u0001' },
    ],
  });
  assert.deepEqual(batch.Successful.map((entry) => entry.Id), ['a', 'late']);
  assert.deepEqual(batch.Failed.map((entry) => [entry.Id, entry.Code]), [
    ['bad', 'InvalidMessageContents'],
  ]);
  const messages = await receive(QueueUrl);
  assert.deepEqual(bodies(messages), [body, 'two']);
  const [first, second] = messages;
  assert.equal(first.MessageId, sent.MessageId);
  assert.equal(first.MD5OfMessageAttributes, sent.MD5OfMessageAttributes);
  assert.deepEqual([...first.MessageAttributes.bytes.BinaryValue], [0, 1, 255]);
  assert.equal(first.MessageAttributes.text.StringValue, MessageAttributes.text.StringValue);
  assert.equal(first.Attributes.ApproximateReceiveCount, '1');
  const change = (ReceiptHandle, VisibilityTimeout) =>
    sqs.changeMessageVisibility({ QueueUrl, ReceiptHandle, VisibilityTimeout });
  await change(first.ReceiptHandle, 0);
  const [again] = await receive(QueueUrl);
  assert.equal(again.Attributes.ApproximateReceiveCount, '2');
  await refused('InvalidParameterValue', change(again.ReceiptHandle, 43201));
  const deleted = await sqs.deleteMessageBatch({
    QueueUrl,
    Entries: [
      { Id: '1', ReceiptHandle: again.ReceiptHandle },
      { Id: '2', ReceiptHandle: second.ReceiptHandle },
      { Id: 'bad', ReceiptHandle: 'nonsense' },
    ],
  });
  assert.deepEqual(deleted.Successful.map((entry) => entry.Id), ['1', '2']);
  assert.equal(deleted.Failed[0].Code, 'ReceiptHandleIsInvalid');
  assert.deepEqual(await depth(QueueUrl), ['0', '0', '1']);
  await sqs.purgeQueue({ QueueUrl });
  assert.deepEqual(await depth(QueueUrl), ['0', '0', '0']);
});

test('a long poll is woken by a send', async () => {
  const QueueUrl = await create('js-poll');
  const poll = receive(QueueUrl, { WaitTimeSeconds: 20 });
  await sqs.sendMessage({ QueueUrl, MessageBody: 'x', DelaySeconds: 1 });
  assert.deepEqual(bodies(await poll), ['x']);
});

test('a FIFO queue keeps the order of a group and takes a message once', async () => {
  const fifo = { FifoQueue: 'true', ContentBasedDeduplication: 'true' };
  const QueueUrl = await create('js-order.fifo', fifo);
  const send = (MessageBody, MessageGroupId) =>
    sqs.sendMessage({ QueueUrl, MessageBody, MessageGroupId });
  const first = await send('a1', 'a');
  await send('a2', 'a');
  await send('b1', 'b');
  assert.equal((await send('a1', 'a')).SequenceNumber, first.SequenceNumber);
  const [a1] = await receive(QueueUrl, { MaxNumberOfMessages: 1 });
  assert.equal(a1.Body, 'a1');
  assert.equal(a1.Attributes.MessageGroupId, 'a');
  assert.deepEqual(bodies(await receive(QueueUrl)), ['b1']);
  await sqs.deleteMessage({ QueueUrl, ReceiptHandle: a1.ReceiptHandle });
  assert.deepEqual(bodies(await receive(QueueUrl)), ['a2']);
  await refused('MissingParameter', send('x'));
});

test('dead letters go to their queue and a move task takes them back', async () => {
  const dead = await create('js-poison-dlq');
  const SourceArn = (await attributes(dead)).QueueArn;
  const RedrivePolicy = JSON.stringify({ deadLetterTargetArn: SourceArn, maxReceiveCount: 1 });
  const QueueUrl = await create('js-poison', { RedrivePolicy, VisibilityTimeout: '0' });
  await sqs.sendMessage({ QueueUrl, MessageBody: 'poison' });
  assert.equal((await receive(QueueUrl)).length, 1);
  assert.deepEqual(await receive(QueueUrl), []);
  assert.deepEqual(await depth(dead), ['1', '0', '0']);
  const sources = await sqs.listDeadLetterSourceQueues({ QueueUrl: dead });
  assert.deepEqual(sources.queueUrls, [QueueUrl]);
  await sqs.setQueueAttributes({ QueueUrl, Attributes: { VisibilityTimeout: '60' } });
  assert.ok((await sqs.startMessageMoveTask({ SourceArn })).TaskHandle);
  assert.deepEqual(bodies(await receive(QueueUrl, { WaitTimeSeconds: 20 })), ['poison']);
  const { Results } = await sqs.listMessageMoveTasks({ SourceArn });
  assert.equal(Results[0].ApproximateNumberOfMessagesMoved, 1);
  const start = sqs.startMessageMoveTask({ SourceArn: `${SourceArn}-none` });
  await refused('ResourceNotFoundException', start, 404);
});

test('permissions are kept in the policy', async () => {
  const QueueUrl = await create('js-policy');
  const permission = { QueueUrl, Label: 'l', AWSAccountIds: ['111111111111'], Actions: ['*'] };
  await sqs.addPermission(permission);
  const { Policy } = await attributes(QueueUrl);
  assert.equal(JSON.parse(Policy).Statement[0].Action, 'SQS:*');
  await refused('InvalidParameterValue', sqs.addPermission(permission));
  await sqs.removePermission({ QueueUrl, Label: 'l' });
  assert.equal((await attributes(QueueUrl)).Policy, undefined);
});

test('refusals are the errors of the SDK', async () => {
  const QueueUrl = await create('js-refusals');
  const batch = (Entries) => sqs.sendMessageBatch({ QueueUrl, Entries });
  const entry = { Id: 'a', MessageBody: 'x' };
  await refused('EmptyBatchRequest', batch([]));
  await refused('BatchEntryIdsNotDistinct', batch([entry, entry]));
  await refused('InvalidBatchEntryId', batch([{ ...entry, Id: 'a b' }]));
  await refused('TooManyEntriesInBatchRequest', batch(Array(11).fill(entry)));
  const send = (MessageBody) => sqs.sendMessage({ QueueUrl, MessageBody });
  await refused('InvalidMessageContents', send('\u0001'));
  await refused('InvalidParameterValue', send('x'.repeat(1024 * 1024 + 1)));
  await send('x'.repeat(1024 * 1024));
  await refused('ReceiptHandleIsInvalid', sqs.deleteMessage({ QueueUrl, ReceiptHandle: 'x' }));
  const Attributes = { VisibilityTimeout: '43201' };
  await refused('InvalidAttributeValue', sqs.setQueueAttributes({ QueueUrl, Attributes }));
});
