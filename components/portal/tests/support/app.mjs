// The application as its users run it: `gristmill up` on free ports, with a state
// of its own. Owns the process; does not know what is asked of it.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

const ROOT = fileURLToPath(new URL('../../../../', import.meta.url));
const BINARY = process.env.GRISTMILL_TEST_BIN ?? join(ROOT, 'target/release/gristmill');
// The first start compiles every component.
const START_LIMIT_MS = 120_000;
const STOP_LIMIT_MS = 15_000;
const LOG_LINES = 60;

/** Starts the application; `variables` are those of `spin.toml`. */
export async function start(variables = {}) {
  const state = await mkdtemp(join(tmpdir(), 'gristmill-test-'));
  const child = spawn(
    BINARY,
    [
      ...['up', '--from', 'spin.toml', '--state-dir', state],
      ...['--listen', '127.0.0.1:0', '--admin-listen', '127.0.0.1:0', '--queue-listen', '127.0.0.1:0'],
      ...Object.entries(variables).flatMap(([name, value]) => ['--variable', `${name}=${value}`]),
    ],
    { cwd: ROOT, env: environment(), stdio: ['ignore', 'pipe', 'pipe'] },
  );
  const app = new App(child, state);
  try {
    await app.ready();
  } catch (error) {
    await app.stop();
    throw error;
  }
  return app;
}

/** What the user's shell says about an application of their own does not count. */
function environment() {
  const own = ([name]) => !name.startsWith('SPIN_VARIABLE_') && name !== 'RUNTIME_CONFIG_FILE';
  return Object.fromEntries(Object.entries(process.env).filter(own));
}

class App {
  /** The origin of the application, as in `http://127.0.0.1:40001`. */
  url;
  #child;
  #state;
  #exited;
  #log = [];

  constructor(child, state) {
    this.#child = child;
    this.#state = state;
    this.#exited = once(child, 'exit');
    // A failure to start is told by `ready`.
    this.#exited.catch(() => {});
    createInterface({ input: child.stderr }).on('line', (line) => this.#remember(line));
  }

  /** Resolves when every trigger of the application runs. */
  async ready() {
    const lines = createInterface({ input: this.#child.stdout });
    const ready = new Promise((resolve) => {
      lines.on('line', (line) => {
        this.#remember(line);
        const [, origin] = /^Serving (http:\S+)/.exec(line) ?? [];
        this.url ??= origin;
        if (line === 'Ready') resolve('ready');
      });
    });
    const outcome = await Promise.race([ready, this.#exited, after(START_LIMIT_MS)]);
    if (outcome !== 'ready' || !this.url) {
      throw new Error(`the application does not start\n${this.log()}`);
    }
  }

  /** What the application said last. */
  log() {
    return this.#log.join('\n');
  }

  /** Ends it and removes its state. */
  async stop() {
    const running = () => this.#child.exitCode === null && this.#child.signalCode === null;
    if (this.#child.pid !== undefined && running()) {
      this.#child.kill('SIGTERM');
      await Promise.race([this.#exited, after(STOP_LIMIT_MS)]);
      if (running()) {
        this.#child.kill('SIGKILL');
        await this.#exited;
      }
    }
    await rm(this.#state, { recursive: true, force: true, maxRetries: 5 });
  }

  #remember(line) {
    this.#log.push(line);
    if (this.#log.length > LOG_LINES) this.#log.shift();
  }
}

/** A limit that does not keep the process alive. */
function after(milliseconds) {
  return new Promise((resolve) => setTimeout(resolve, milliseconds).unref());
}
