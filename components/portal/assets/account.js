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
    byId('who').textContent = profile ? profile.username : 'Log in';
    if (profile) fillProfile(profile);
    onChange(profile ? profile.username : null);
  };

  const refresh = async () => {
    try {
      show((await request('GET', '/auth/profile')).document);
      notice.worked();
    } catch (failure) {
      if (failure.isOutage) notice.failed(failure);
      else if (failure.status === 401) leave(notice, show);
      else throw failure;
    }
  };

  const logIn = async (credentials) => {
    await request('POST', '/auth/login', { json: credentials });
    await refresh();
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
  const button = form.querySelector('[type=submit]');
  form.addEventListener('submit', (event) => {
    event.preventDefault();
    if (error.isWaiting(form)) return;
    whileBusy(button, async () => {
      error.clear();
      if (!username.value || !password.value) {
        error.show(form, new Problem(422, 'enter a name and a password'));
        return;
      }
      try {
        await action({ username: username.value, password: password.value });
        form.reset();
      } catch (problem) {
        if (!(problem instanceof Problem)) throw problem;
        error.show(form, problem);
      }
    });
  });
}

/** The one error text of the section; it moves into the form it is about. */
function formError() {
  const box = byId('account-error');
  const text = byId('account-error-text');
  const wait = byId('account-error-wait');
  let timer = 0;
  let waiting = null;

  const clear = () => {
    clearInterval(timer);
    waiting = null;
    box.hidden = true;
    text.textContent = '';
    say(wait, '');
    for (const field of document.querySelectorAll('#account-forms [aria-invalid]')) {
      field.removeAttribute('aria-invalid');
    }
  };

  const countDown = (form, seconds) => {
    const end = Date.now() + seconds * 1000;
    waiting = form;
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
    isWaiting: (form) => waiting === form,
    show(form, problem) {
      clear();
      form.querySelector('[type=submit]').before(box);
      box.hidden = false;
      text.textContent = sentence(problem.message);
      if (problem.status === 429) countDown(form, problem.retryAfter || 1);
      else if (!problem.isOutage) markFields(form, problem.status);
    },
  };
}

/** A taken name is the name's fault; for the rest the text says more. */
function markFields(form, status) {
  const { username, password } = form.elements;
  const fields = status === 409 ? [username] : [username, password];
  fields.forEach((field) => field.setAttribute('aria-invalid', 'true'));
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
