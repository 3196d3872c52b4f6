// A real browser that watches itself: nothing may go wrong behind a page's back.
// Owns Chromium and what a visit is checked for; does not know what is on a page.

import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const NODE_MODULES = process.env.GRISTMILL_TEST_NODE_MODULES;
const CHROMIUM = process.env.GRISTMILL_TEST_CHROMIUM;
// Answers that the page asks for knowing that they may come; browsers report each.
const USUAL_REFUSALS = [
  [401, /^\/auth\/profile$/],
  [404, /^\/process_message\/[^/]+$/],
  [404, /^\/images\/[0-9a-f]{32}\/thumbnail$/],
];

/** Starts Chromium with a home and a profile of its own. */
export async function launch() {
  const hint = 'is not set: eval "$(cargo xtask servers)"';
  assert.ok(CHROMIUM, `GRISTMILL_TEST_CHROMIUM ${hint}`);
  assert.ok(NODE_MODULES, `GRISTMILL_TEST_NODE_MODULES ${hint}`);
  const require = createRequire(`${NODE_MODULES}/`);
  const axe = await readFile(require.resolve('axe-core/axe.min.js'), 'utf8');
  // Beside its profile it keeps crash reports and caches.
  const home = await mkdtemp(join(tmpdir(), 'gristmill-browser-'));
  const chromium = await require('playwright-core').chromium.launch({
    executablePath: CHROMIUM,
    env: { ...process.env, HOME: home, XDG_CONFIG_HOME: join(home, '.config'), XDG_CACHE_HOME: join(home, '.cache') },
    args: [
      '--no-sandbox',
      '--disable-gpu',
      '--disable-quic',
      '--no-first-run',
      '--disable-background-networking',
      '--disable-component-update',
      '--disable-sync',
    ],
  });
  return {
    /** Opens the page as a new visitor; `options` are those of Playwright's contexts. */
    async visit(url, options = {}) {
      const context = await chromium.newContext({ reducedMotion: 'reduce', ...options });
      const page = await context.newPage();
      const visit = new Visit(page, axe);
      await page.goto(url);
      return visit;
    },
    async close() {
      await chromium.close();
      await rm(home, { recursive: true, force: true, maxRetries: 5 });
    },
  };
}

class Visit {
  page;
  #axe;
  #faults = [];
  #errors = [];
  #refusals = [...USUAL_REFUSALS];

  constructor(page, axe) {
    this.page = page;
    this.#axe = axe;
    page.on('pageerror', (error) => this.#faults.push(`uncaught: ${error.stack}`));
    page.on('crash', () => this.#faults.push('the page crashed'));
    page.on('console', (message) => {
      if (message.type() === 'error') this.#errors.push(message);
    });
  }

  /** A refusal that the test is about: its status, and what its path looks like. */
  expects(status, path) {
    this.#refusals.push([status, path]);
  }

  /** Ends the visit, which must have been without errors on the console. */
  async leave() {
    await this.page.context().close();
    assert.deepEqual(this.complaints(), [], 'the browser complains');
  }

  /** What went wrong so far, but for the refusals that were expected. */
  complaints() {
    const errors = this.#errors.filter((message) => !this.#isRefusal(message));
    const told = errors.map((message) => `${message.text()} (${message.location().url})`);
    return [...this.#faults, ...told];
  }

  /** Checks what is shown now for barriers. */
  async assertAccessible(state) {
    // The page's policy allows no foreign script; what is evaluated is none.
    await this.page.evaluate(this.#axe);
    const violations = await this.page.evaluate(async () => {
      const { violations } = await globalThis.axe.run(document, { resultTypes: ['violations'] });
      return violations.map(({ id, help, nodes }) => ({
        rule: `${id}: ${help}`,
        nodes: nodes.map(({ target, failureSummary }) => `${target.join(' ')}: ${failureSummary}`),
      }));
    });
    assert.deepEqual(violations, [], `barriers, ${state}`);
  }

  /** Checks that nothing sticks out to the right. */
  async assertFits(state) {
    const [content, width] = await this.page.evaluate(() => [
      document.documentElement.scrollWidth,
      document.documentElement.clientWidth,
    ]);
    assert.ok(content <= width, `${state}: ${content} pixels of content in ${width}`);
  }

  #isRefusal(message) {
    const [, status] = /the server responded with a status of (\d+)/.exec(message.text()) ?? [];
    if (status === undefined) return false;
    const { pathname } = new URL(message.location().url);
    return this.#refusals.some(([usual, path]) => usual === Number(status) && path.test(pathname));
  }
}
