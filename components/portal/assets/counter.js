/**
 * Owns the counters section: one name, its count, and the two ways to ask.
 * Refuses to remember counts: each one shown was just answered.
 */

import { Problem, request } from './api.js';
import { byId, say, sentence, whileBusy } from './dom.js';
import { outageNotice } from './outage.js';

export function startCounter() {
  const notice = outageNotice(byId('counters'), 'counter', 'The counter', () => ask('/value', notice));
  byId('counter-form').addEventListener('submit', (event) => {
    event.preventDefault();
    whileBusy(event.submitter ?? event.currentTarget, () => ask('', notice));
  });
  byId('counter-read').addEventListener('click', (event) => {
    whileBusy(event.currentTarget, () => ask('/value', notice));
  });
  byId('counter-name').addEventListener('input', () => show('–', 'not read yet'));
  return { notice };
}

/** Without `suffix` it counts; with `/value` it only reads. */
async function ask(suffix, notice) {
  const name = byId('counter-name').value.trim();
  // A browser takes these two out of a path before it sends it.
  const fault = ['', '.', '..'].includes(name) ? 'Give the counter a name.' : '';
  complain(fault);
  if (fault !== '') return;
  try {
    const { document } = await request('GET', `/counter/${encodeURIComponent(name)}${suffix}`);
    show(String(document.count), suffix === '' ? 'counted' : 'read, not counted');
    notice.worked();
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    if (error.isOutage) notice.failed(error);
    else complain(sentence(error.message));
  }
}

function show(value, label) {
  byId('counter-value').textContent = value;
  byId('counter-label').textContent = label;
}

function complain(fault) {
  say(byId('counter-error'), fault);
  byId('counter-name').setAttribute('aria-invalid', String(fault !== ''));
}
