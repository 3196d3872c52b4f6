// Users of the application, by its API: each call makes a new one. Does not know
// the page.

import { randomBytes } from 'node:crypto';

/** A name and a password that nobody has yet. */
export function newUser() {
  const random = randomBytes(6).toString('hex');
  return { username: `miller-${random}`, password: `stone-${random}-water` };
}

/** Registers a new user. */
export async function register(origin) {
  const user = newUser();
  await post(origin, '/auth/register', user);
  return user;
}

/** Opens a session and gives its token. */
export async function login(origin, user) {
  return (await post(origin, '/auth/login', user)).token;
}

/** Uploads an image and gives its document. */
export async function upload(origin, token, bytes) {
  const response = await fetch(`${origin}/images/upload`, {
    method: 'POST',
    headers: { authorization: `Bearer ${token}`, 'content-type': 'application/octet-stream' },
    body: bytes,
  });
  return read(response);
}

/** Sends a message, and gives what the queue said of it. */
export function send(origin, body) {
  return post(origin, '/process_message', body);
}

async function post(origin, path, body) {
  const response = await fetch(origin + path, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(body),
  });
  return read(response);
}

async function read(response) {
  const text = await response.text();
  if (!response.ok) throw new Error(`${response.url} answered ${response.status}: ${text}`);
  return JSON.parse(text);
}
