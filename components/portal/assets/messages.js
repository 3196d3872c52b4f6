/**
 * Owns the messages of this page: checks and sends them, and follows each one
 * until it is processed. Refuses to know the queue: it sees only HTTP answers.
 */

import { Problem, request, until } from './api.js';
import { byId, clock, duration, el, say, sentence, whileBusy } from './dom.js';
import { outageNotice } from './outage.js';

const BURST = 20;
const PARALLEL = 4;
const MAX_ROWS = 60;
const PATIENCE_MS = 60_000;
const WORDS = { queued: 'Queued', processed: 'Processed', waiting: 'Still waiting', failed: 'Failed' };

/** `onFinished` gets the latency of each processed message, in milliseconds. */
export function startMessages({ onFinished }) {
  // There is nothing to load: that the service is ready again is enough.
  const notice = outageNotice(byId('messages'), 'messages', 'The message service', () => notice.worked());
  const form = byId('message-form');
  const send = (text) => sendOne(text, notice, onFinished);
  form.addEventListener('submit', (event) => {
    event.preventDefault();
    whileBusy(event.submitter ?? form, async () => {
      const text = checkedText();
      if (text === undefined) return;
      const sent = await send(text);
      byId('message-progress').textContent = sent ? 'Sent; its row says when it is processed' : '';
    });
  });
  byId('message-input').addEventListener('keydown', (event) => {
    if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) form.requestSubmit(form.querySelector('[type=submit]'));
  });
  byId('message-burst').addEventListener('click', (event) => whileBusy(event.currentTarget, async () => {
    const text = checkedText();
    if (text !== undefined) await burst(() => send(text));
  }));
  return { notice };
}

/** What was typed, byte for byte; `undefined` after saying what is wrong with it. */
function checkedText() {
  const input = byId('message-input');
  const text = input.value;
  let fault = '';
  try {
    JSON.parse(text);
  } catch (error) {
    fault = text.trim() === '' ? 'Type a message first.' : `This is not JSON: ${sentence(error.message)}`;
  }
  say(byId('message-error'), fault);
  input.setAttribute('aria-invalid', String(fault !== ''));
  if (fault === '') return text;
  input.focus();
  return undefined;
}

/** Sends `BURST` times, a few at once; stops at the first failure. */
async function burst(send) {
  let taken = 0;
  let sent = 0;
  const progress = byId('message-progress');
  progress.textContent = `0 of ${BURST} sent`;
  const worker = async () => {
    while (taken < BURST) {
      taken += 1;
      if (!(await send())) taken = BURST;
      else progress.textContent = `${(sent += 1)} of ${BURST} sent`;
    }
  };
  await Promise.all(Array.from({ length: PARALLEL }, worker));
  if (sent < BURST) progress.textContent = `Stopped: ${sent} of ${BURST} sent`;
}

/** Sends and follows; true once the queue has the message. */
async function sendOne(text, notice, onFinished) {
  const start = performance.now();
  try {
    const { document } = await request('POST', '/process_message', { text });
    notice.worked();
    follow(newRow(document.message_id), document.status_url, start, onFinished);
    return true;
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    if (error.isOutage) notice.failed(error);
    newRow('').failed(sentence(error.message));
    return false;
  }
}

async function follow(row, url, start, onFinished) {
  const answer = await until(() => stored(url), { first: 150, within: PATIENCE_MS });
  if (answer === undefined) {
    row.waiting(() => {
      row.queued();
      follow(row, url, start, onFinished);
    });
    return;
  }
  const { received_at: received, processed_at: processed } = answer.document;
  const latency = Math.max(0, Date.parse(processed) - Date.parse(received));
  row.processed(answer, latency, performance.now() - start);
  onFinished(latency);
}

/** The stored result, or nothing yet: 404 and an outage both mean "ask later". */
async function stored(url) {
  try {
    return await request('GET', url);
  } catch (error) {
    if (error instanceof Problem) return undefined;
    throw error;
  }
}

function newRow(id) {
  const badge = el('span', { class: 'badge' });
  const facts = el('span', { class: 'quiet' });
  const more = el('div', { class: 'result' });
  const details = el('details', {}, el('summary', {}, badge, el('code', {}, id.slice(0, 8)), facts), more);
  const item = el('li', { 'data-testid': 'message-row', 'data-id': id }, details);
  const turn = (state, text, ...inside) => {
    item.dataset.state = state;
    badge.textContent = WORDS[state];
    facts.textContent = text;
    more.replaceChildren(...inside);
  };
  const row = {
    queued: () => turn('queued', `since ${clock(Date.now())}`, el('p', {}, `The worker has not stored message ${id} yet.`)),
    failed: (reason) => turn('failed', 'not sent', el('p', {}, reason)),
    waiting(again) {
      const button = el('button', { type: 'button' }, 'Look again');
      button.addEventListener('click', again, { once: true });
      const text = `Message ${id} has no result after a minute. It may still come.`;
      turn('waiting', 'over a minute', el('p', {}, text), button);
    },
    processed(answer, latency, seen) {
      turn('processed', `${duration(latency)} · seen after ${duration(seen)}`);
      const unfold = () => more.append(...result(answer, latency));
      if (details.open) unfold();
      else details.addEventListener('toggle', unfold, { once: true });
    },
  };
  row.queued();
  prepend(item);
  return row;
}

function prepend(item) {
  const rows = byId('message-rows');
  rows.prepend(item);
  if (rows.children.length > MAX_ROWS) rows.lastElementChild.remove();
  byId('messages-empty').hidden = true;
}

function result({ text, document }, latency) {
  const fact = (name, value) => el('div', {}, el('dt', {}, name), el('dd', {}, value));
  return [
    el('pre', {}, JSON.stringify(exactly(text).body, null, 2)),
    el(
      'dl', {},
      fact('Id', document.message_id),
      fact('SHA-256', document.sha256),
      fact('Received', document.received_at),
      fact('Processed', `${document.processed_at} (${duration(latency)} later)`),
    ),
  ];
}

/** Reads JSON without rounding its numbers, where the browser can. */
function exactly(text) {
  if (!JSON.rawJSON) return JSON.parse(text);
  return JSON.parse(text, (_, value, context) => (
    typeof value === 'number' && context?.source ? JSON.rawJSON(context.source) : value
  ));
}
