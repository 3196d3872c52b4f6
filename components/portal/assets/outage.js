/**
 * Owns the notice by which a section says that its service is down, with a
 * button to retry. Refuses to know how a section loads: it is told what failed.
 */

import { el, say, sentence, whileBusy } from './dom.js';

/**
 * A notice at the top of `section`. `retry` loads the section again; it reports
 * what came of it by `failed` or `worked`.
 */
export function outageNotice(section, key, name, retry) {
  const title = section.querySelector('h2');
  const text = el('p', { role: 'alert' });
  const button = el('button', { type: 'button' }, 'Retry');
  const box = el('div', { class: 'notice', 'data-testid': `section-error-${key}`, hidden: '' }, text, button);
  section.querySelector('.head').after(box);

  let unready = '';
  let failure = '';
  const show = () => {
    const reason = unready || failure;
    if (reason === '' && box.contains(document.activeElement)) title.focus();
    say(text, reason);
    box.hidden = reason === '';
  };

  const notice = {
    /** Asks the service for its state; the status strip puts this in. */
    recheck: async () => {},

    /** What the service says of itself; empty when it is ready. */
    service(reason) {
      const recovered = unready !== '' && reason === '';
      unready = reason;
      show();
      if (recovered) retry();
    },

    /** A request of the section got no useful answer. */
    failed(problem) {
      failure = `${name} cannot be used now: ${sentence(problem.message)}`;
      show();
    },

    worked() {
      failure = '';
      show();
    },
  };

  button.addEventListener('click', () => whileBusy(button, async () => {
    const wasUnready = unready !== '';
    button.textContent = 'Retrying…';
    try {
      await notice.recheck();
      if (!wasUnready) await retry();
    } finally {
      button.textContent = 'Retry';
    }
  }));
  return notice;
}
