/**
 * Owns the strip that says which services are ready, and tells each section
 * about its own service. Refuses to know what the services do.
 */

import { Problem, poll, request } from './api.js';
import { byId, el, say } from './dom.js';

const EVERY_MS = 5_000;
const SLOWEST_MS = 20_000;
const TIMEOUT_MS = 4_000;

/** `services`: `{ id, name, notice }`, in the order of the strip. */
export function startStatus(services) {
  const rows = services.map(row);
  byId('services-list').append(...rows.map((each) => each.item));
  const check = (each) => readiness(each.service).then((reason) => show(each, reason));
  for (const each of rows) {
    each.service.notice.recheck = async () => {
      await check(each);
      summarise(rows);
    };
  }
  poll(async () => {
    await Promise.all(rows.map(check));
    summarise(rows);
    if (rows.every(({ reason }) => reason !== '')) throw new Problem(0, 'no service answers');
  }, { every: EVERY_MS, slowest: SLOWEST_MS });
}

function row(service) {
  const word = el('span', { class: 'word' }, 'checking');
  const item = el(
    'li',
    { 'data-testid': `service-status-${service.id}`, 'data-state': 'checking' },
    el('span', { class: 'dot', 'aria-hidden': 'true' }), `${service.name} `, word,
  );
  return { service, item, word, reason: '' };
}

/** Why the service is not ready, as a sentence; empty when it is. */
async function readiness({ id, name }) {
  try {
    await request('GET', `/readyz/${id}`, { timeout: TIMEOUT_MS });
    return '';
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    const service = name.toLowerCase();
    return error.status === 503
      ? `The ${service} service is down.${failedChecks(error.document)}`
      : `The ${service} service is down: it does not answer.`;
  }
}

function failedChecks(document) {
  const failed = (document?.checks ?? []).filter((check) => check.status === 'failed');
  if (failed.length === 0) return '';
  const names = failed.map(({ name, problem }) => (problem ? `${name} (${problem})` : name));
  return ` What failed: ${names.join(', ')}.`;
}

function show(each, reason) {
  const state = reason === '' ? 'ready' : 'down';
  each.reason = reason;
  each.item.dataset.state = state;
  say(each.word, state);
  each.service.notice.service(reason);
}

function summarise(rows) {
  const down = rows.filter((each) => each.reason !== '').map((each) => each.service.name);
  const others = down.length < rows.length ? ' The others go on working.' : '';
  const text = down.length === 0 ? 'All services are ready.' : `Down now: ${down.join(', ')}.${others}`;
  const summary = byId('services-summary');
  summary.classList.toggle('bad', down.length > 0);
  say(summary, text);
}
