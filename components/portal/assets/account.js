/**
 * Owns who is logged in: the forms, the profile, the wait after too many
 * attempts. Refuses to know the session itself, which is a cookie that scripts
 * cannot read, and the rules for names and passwords, which the service states.
 */

import { Problem, request } from './api.js';
import { announce, byId, dateTime, say, sentence, whileBusy } from './dom.js';
import { outageNotice } from './outage.js';

/** `onChange` gets the name of who is logged in, or `null`. */
export function startAccount({ onChange }) {
  const notice = outageNotice(byId('account'), 'account', 'Accounts', () => refresh());
  const error = formError();

  const show = (profile) => {
    byId('account-forms').hidden = profile !== null;
    byId('profile').hidden = profile === null;
    byId('who').textContent = profile ? `Account: ${profile.username}` : 'Log in';
    if (profile) fillProfile(profile);
    onChange(profile ? profile.username : null);
  };

  const refresh = async () => {
    try {
      show((await request('GET', '/auth/profile')).document);
      notice.worked();
    } catch (failure) {
      if (!(failure instanceof Problem)) throw failure;
      if (failure.status === 401) leave(notice, show);
      else notice.failed(failure);
    }
  };

  const logIn = async (credentials) => {
    await request('POST', '/auth/login', { json: credentials });
    show((await request('GET', '/auth/profile')).document);
    notice.worked();
    byId('account-title').focus();
    announce('You are logged in.');
  };
  onSubmit(byId('login-form'), error, logIn);
  onSubmit(byId('register-form'), error, async (credentials) => {
    await request('POST', '/auth/register', { json: credentials });
    await logIn(credentials);
  });
  byId('logout').addEventListener('click', (event) => whileBusy(event.currentTarget, async () => {
    try {
      await request('POST', '/auth/logout');
      leave(notice, show);
      byId('account-title').focus();
      announce('You are logged out.');
    } catch (failure) {
      if (!(failure instanceof Problem)) throw failure;
      notice.failed(failure);
    }
  }));
  document.querySelectorAll('.secret').forEach(addToggle);
  refresh();
  return { notice, refresh };
}

function leave(notice, show) {
  notice.worked();
  show(null);
}

function fillProfile({ username, created_at: created, expires_at: expires }) {
  byId('profile-name').textContent = username;
  byId('profile-initial').textContent = username.charAt(0).toUpperCase();
  for (const [id, time] of [['profile-created', created], ['profile-expires', expires]]) {
    byId(id).dateTime = time;
    byId(id).textContent = dateTime(time);
  }
}

/** Sends the form's fields to `action`; what goes wrong is said in the form. */
function onSubmit(form, error, action) {
  const { username, password } = form.elements;
  const attempt = async () => {
    if (!username.value || !password.value) return new Problem(401, 'enter a name and a password');
    try {
      await action({ username: username.value, password: password.value });
      form.reset();
      return undefined;
    } catch (problem) {
      if (problem instanceof Problem) return problem;
      throw problem;
    }
  };
  form.addEventListener('submit', async (event) => {
    event.preventDefault();
    const outcome = await whileBusy(submitOf(form), () => {
      error.clear();
      return attempt();
    });
    if (outcome) error.show(form, outcome);
  });
}

const submitOf = (form) => form.querySelector('[type=submit]');

/** The one error text of the section; it moves into the form it is about. */
function formError() {
  const box = byId('account-error');
  const text = byId('account-error-text');
  const wait = byId('account-error-wait');
  let timer = 0;
  let held = null;

  const clear = () => {
    clearInterval(timer);
    held?.removeAttribute('aria-disabled');
    held = null;
    box.hidden = true;
    text.textContent = '';
    say(wait, '');
    for (const field of document.querySelectorAll('#account-forms [aria-invalid]')) {
      field.removeAttribute('aria-invalid');
      field.removeAttribute('aria-errormessage');
    }
  };

  /** Holds the button until the service would listen again. */
  const countDown = (button, seconds) => {
    const end = Date.now() + seconds * 1000;
    held = button;
    held.setAttribute('aria-disabled', 'true');
    const tick = () => {
      const left = Math.ceil((end - Date.now()) / 1000);
      if (left > 0) say(wait, `You can try again in ${left} s.`);
      else clear();
    };
    timer = setInterval(tick, 1000);
    tick();
  };

  return {
    clear,
    show(form, problem) {
      clear();
      submitOf(form).before(box);
      box.hidden = false;
      text.textContent = sentence(problem.message);
      if (problem.status === 429) countDown(submitOf(form), problem.retryAfter || 1);
      else if (!problem.isOutage) markFields(form, problem);
    },
  };
}

/** Marks what the service found fault with, as far as its answer tells. */
function markFields({ elements: { username, password } }, { status, message }) {
  const ofPassword = status === 422 && message.includes('password');
  const fields = status === 401 ? [username, password] : [ofPassword ? password : username];
  for (const field of fields) {
    field.setAttribute('aria-invalid', 'true');
    field.setAttribute('aria-errormessage', 'account-error-text');
  }
  fields[0].focus();
}

function addToggle(secret) {
  const field = secret.querySelector('input');
  const button = secret.querySelector('button');
  const show = (visible) => {
    field.type = visible ? 'text' : 'password';
    button.textContent = visible ? 'Hide' : 'Show';
    button.setAttribute('aria-label', `${button.textContent} the password`);
  };
  button.addEventListener('click', () => show(field.type === 'password'));
  field.form.addEventListener('reset', () => show(false));
}
