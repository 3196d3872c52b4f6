/**
 * Owns how the page talks to the services: one request with a time limit, one
 * upload with progress, polling that backs off and stops when nobody looks.
 * Refuses to know what any route is for, and how anything looks.
 */

const TIMEOUT_MS = 10_000;
const UPLOAD_TIMEOUT_MS = 300_000;

/** An answer that is no success. Status 0: there was no answer at all. */
export class Problem extends Error {
  constructor(status, detail, retryAfter = 0, document = undefined) {
    super(detail);
    this.status = status;
    this.retryAfter = retryAfter;
    this.document = document;
  }

  /** The service failed; the request itself may be fine. */
  get isOutage() {
    return this.status === 0 || this.status >= 500;
  }
}

/** Sends a request; a body is `json` (a value) or `text` (JSON as typed). */
export async function request(method, path, { json, text, timeout = TIMEOUT_MS } = {}) {
  const body = json === undefined ? text : JSON.stringify(json);
  const headers = body === undefined ? {} : { 'content-type': 'application/json' };
  let response;
  let answer;
  try {
    const signal = AbortSignal.timeout(timeout);
    response = await fetch(path, { method, headers, body, signal });
    answer = await response.text();
  } catch (error) {
    throw new Problem(0, silence(error.name === 'TimeoutError'));
  }
  if (!response.ok) {
    throw problem(response.status, answer, response.headers.get('retry-after'));
  }
  return { status: response.status, text: answer, document: parsed(answer) };
}

/** Uploads a file. `done` gives the answer's document, or fails with a `Problem`. */
export function upload(path, file, onProgress) {
  const xhr = new XMLHttpRequest();
  const done = new Promise((resolve, reject) => {
    const fail = (detail) => () => reject(new Problem(0, detail));
    xhr.upload.onprogress = (event) => event.lengthComputable && onProgress(event.loaded / event.total);
    xhr.onerror = fail('the connection ended before the upload was complete; the file may be too large');
    xhr.ontimeout = fail(silence(true));
    xhr.onabort = fail('cancelled');
    xhr.onload = () => {
      if (xhr.status >= 200 && xhr.status < 300) resolve(parsed(xhr.responseText));
      else reject(problem(xhr.status, xhr.responseText, xhr.getResponseHeader('retry-after')));
    };
  });
  xhr.open('POST', path);
  xhr.timeout = UPLOAD_TIMEOUT_MS;
  xhr.setRequestHeader('content-type', file.type || 'application/octet-stream');
  xhr.send(file);
  return { done, cancel: () => xhr.abort() };
}

/**
 * Runs `task` again and again while the page is visible; after a failure the
 * pause doubles up to `slowest`. Returns a function that runs it now.
 */
export function poll(task, { every, slowest = every * 16 }) {
  let timer = 0;
  let pause = every;
  let running = false;
  const run = async () => {
    if (running) return;
    clearTimeout(timer);
    running = true;
    try {
      await task();
      pause = every;
    } catch (error) {
      if (!(error instanceof Problem)) reportError(error);
      pause = Math.min(pause * 2, slowest);
    }
    running = false;
    if (!document.hidden) timer = setTimeout(run, pause);
  };
  document.addEventListener('visibilitychange', () => {
    if (document.hidden) clearTimeout(timer);
    else run();
  });
  run();
  return run;
}

/**
 * Asks `probe` until it gives a value, in pauses that grow. Gives `undefined`
 * once `within` is over.
 */
export async function until(probe, { first = 200, slowest = 4_000, within = 60_000 } = {}) {
  const end = performance.now() + within;
  for (let pause = first; performance.now() + pause < end; pause = Math.min(pause * 1.6, slowest)) {
    await new Promise((resolve) => setTimeout(resolve, pause));
    const found = await probe();
    if (found !== undefined) return found;
  }
  return undefined;
}

function problem(status, answer, retryAfter) {
  const document = parsed(answer);
  const detail = document?.detail || `the server answered ${status}`;
  return new Problem(status, String(detail), seconds(retryAfter), document);
}

function seconds(retryAfter) {
  return /^\d{1,6}$/.test(retryAfter ?? '') ? Number(retryAfter) : 0;
}

function silence(timedOut) {
  return timedOut ? 'the server gave no answer in time' : 'the server cannot be reached';
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
