// The application is called with whatever its own API description allows, and
// with much that it does not: Schemathesis finds the cases, this file starts both.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';

import { start } from './support/app.mjs';
import { login, register, upload } from './support/users.mjs';

const SCHEMATHESIS = process.env.GRISTMILL_TEST_SCHEMATHESIS;
const LIMIT_MS = 300_000;
const file = (name) => fileURLToPath(new URL(name, import.meta.url));

let app;

before(async () => {
  assert.ok(SCHEMATHESIS, 'GRISTMILL_TEST_SCHEMATHESIS is not set: eval "$(cargo xtask servers)"');
  // Each of the many registrations comes from the same address.
  app = await start({ registrations_per_hour: '1000000' });
});

after(() => app?.stop());

test('the application keeps what its API description says', { timeout: LIMIT_MS }, async (t) => {
  const user = await register(app.url);
  const token = await login(app.url, user);
  const image = await upload(app.url, token, await readFile(file('fixtures/meadow.png')));
  const { status, output } = await schemathesis(t.signal, {
    GRISTMILL_API_TOKEN: token,
    // Logging out ends the session: not the one of all the other calls.
    GRISTMILL_API_SPARE_TOKEN: await login(app.url, user),
    GRISTMILL_API_IMAGE: image.id,
  });
  assert.equal(status, 0, `${output}\n\nThe application said last:\n${app.log()}`);
  t.diagnostic(output.trim().split('\n').at(-1));
});

/** Runs it to its end, with the settings beside this file. */
async function schemathesis(signal, variables) {
  const child = spawn(
    SCHEMATHESIS,
    [
      ...['--config-file', file('schemathesis.toml'), 'run', `${app.url}/openapi.json`],
      ...['--url', app.url, '--no-color'],
    ],
    { env: { ...process.env, ...variables }, stdio: ['ignore', 'pipe', 'pipe'], signal },
  );
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text) => (output += text));
  }
  const status = await new Promise((resolve, reject) => {
    child.on('error', reject).on('close', resolve);
  });
  return { status, output };
}
