// The application is called with whatever its own API description allows, and
// with much that it does not: Schemathesis finds the cases, this file starts both.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { copyFile, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';

import { start } from './support/app.mjs';
import { login, register, send, upload } from './support/users.mjs';

const SCHEMATHESIS = process.env.GRISTMILL_TEST_SCHEMATHESIS;
// It takes 17 s on two cores; all tests together may take 10 minutes.
const LIMIT_MS = 480_000;
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
  const message = await send(app.url, { grain: 'rye' });
  const folder = await mkdtemp(join(tmpdir(), 'gristmill-api-'));
  t.after(() => rm(folder, { recursive: true, force: true }));
  await copyFile(file('schemathesis.toml'), join(folder, 'schemathesis.toml'));
  await writeFile(join(folder, 'images.txt'), JSON.stringify(image.id));
  await writeFile(join(folder, 'messages.txt'), JSON.stringify(message.message_id));

  const { status, output } = await schemathesis(folder, t.signal, {
    GRISTMILL_API_TOKEN: token,
    // Logging out ends the session: not the one of all the other calls.
    GRISTMILL_API_SPARE_TOKEN: await login(app.url, user),
  });
  if (status !== 0) console.log(`${output}\nThe application said last:\n${app.log()}`);
  assert.equal(status, 0, 'Schemathesis found what is above');
  t.diagnostic(output.trim().split('\n').at(-1));
});

/** Runs it to its end in a folder with its settings, where it may leave traces. */
async function schemathesis(folder, signal, variables) {
  const child = spawn(
    SCHEMATHESIS,
    ['run', `${app.url}/openapi.json`, '--url', app.url, '--no-color'],
    { cwd: folder, env: { ...process.env, ...variables }, stdio: ['ignore', 'pipe', 'pipe'], signal },
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
