// Takes the pictures of the page that the documentation shows, into the folder
// `GRISTMILL_SCREENSHOTS`: `cargo xtask screenshots`.

import assert from 'node:assert/strict';
import { join } from 'node:path';
import { after, before, test } from 'node:test';

import { start } from './support/app.mjs';
import { launch } from './support/browser.mjs';
import { FIXTURES, Portal } from './support/portal.mjs';

const FOLDER = process.env.GRISTMILL_SCREENSHOTS;
const DESKTOP = { viewport: { width: 1280, height: 900 } };
const PHONE = { viewport: { width: 360, height: 740 }, deviceScaleFactor: 2, hasTouch: true, isMobile: true };
const USER = { username: 'ada', password: 'wind over the hill' };

let browser;

before(async () => {
  assert.ok(FOLDER, 'GRISTMILL_SCREENSHOTS is not set: cargo xtask screenshots');
  browser = await launch();
});

after(() => browser?.close());

test('the page with all services', { timeout: 240_000 }, async (t) => {
  const app = await start();
  t.after(() => app.stop());
  const open = async (options) => {
    const visit = await browser.visit(app.url, options);
    return { visit, page: visit.page, portal: new Portal(visit.page) };
  };

  const first = await open(DESKTOP);
  await first.portal.register(USER);
  await first.portal.greets(USER);
  await first.portal.upload(FIXTURES);
  await first.portal.hasThumbnails(FIXTURES.length);
  const ids = await first.portal.parts('image-card').evaluateAll((cards) => cards.map((card) => card.dataset.id));
  for (const [index, views] of [5, 2, 9].entries()) {
    for (let view = 0; view < views; view += 1) {
      const response = await fetch(`${app.url}/images/${ids[index]}`);
      assert.equal((await response.blob()).size > 0, response.ok);
    }
  }
  for (const id of ids.slice(0, 3)) await first.portal.recommends(id);
  await first.visit.leave();

  for (const [name, options, fullPage] of [
    ['portal-light', DESKTOP, true],
    ['portal-dark', { ...DESKTOP, colorScheme: 'dark' }, true],
    ['portal-phone', PHONE, false],
  ]) {
    const { visit, page, portal } = await open(options);
    await portal.login(USER);
    await portal.greets(USER);
    await busy(page, portal);
    await portal.hasThumbnails(FIXTURES.length);
    await picture(page, name, fullPage);
    await visit.leave();
  }
});

test('the page with a service down', { timeout: 120_000 }, async (t) => {
  const app = await start({ auth_origin: 'http://127.0.0.1:1' });
  t.after(() => app.stop());
  const visit = await browser.visit(app.url, DESKTOP);
  visit.expects(503, /^/);
  const portal = new Portal(visit.page);
  await portal.register(USER);
  await portal.greets(USER);
  await portal.part('section-error-images').waitFor();
  await busy(visit.page, portal);
  await picture(visit.page, 'portal-down', true);
  await visit.leave();
});

/** Something to see in every section, and for some seconds in the charts. */
async function busy(page, portal) {
  await portal.settled();
  for (let bursts = 1; bursts <= 4; bursts += 1) {
    await portal.part('message-burst').click();
    for (let looks = 0; looks < 2; looks += 1) await page.waitForResponse(/\/portal\/stats$/);
  }
  await portal.part('counter-increment').click();
  await portal.part('counter-value').filter({ hasText: /\d/ }).waitFor();
}

async function picture(page, name, fullPage) {
  // Nothing is pointed at or in focus.
  await page.mouse.move(0, 0);
  await page.evaluate(() => {
    document.activeElement?.blur();
    window.scrollTo(0, 0);
  });
  await page.screenshot({ path: join(FOLDER, `${name}.png`), fullPage, animations: 'disabled' });
}
