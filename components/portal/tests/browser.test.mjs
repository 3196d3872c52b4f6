// The page in a real browser, against the application as it is started. Each test
// is a visitor of its own; a visit without errors on the console is part of each.

import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { after, before, describe, test } from 'node:test';

import { start } from './support/app.mjs';
import { launch } from './support/browser.mjs';
import { Keyboard } from './support/keyboard.mjs';
import { FIXTURES, Portal, fixture } from './support/portal.mjs';
import { login, newUser, register, upload } from './support/users.mjs';

const PHONE = { viewport: { width: 360, height: 740 }, hasTouch: true, isMobile: true };
const DARK = { colorScheme: 'dark' };
const HEAVIEST_PAGE = 100 * 1024;
// So many images the gallery shows at first.
const GALLERY_PAGE = 24;

let app;
let browser;

before(async () => {
  browser = await launch();
  app = await start();
});

after(async () => {
  await browser?.close();
  await app?.stop();
});

/** Visits the page, and checks in the end that nothing went wrong unseen. */
async function visiting(app, options, work) {
  const visit = await browser.visit(app.url, options);
  const { page } = visit;
  const portal = new Portal(page);
  try {
    await portal.settled();
    await work({ visit, page, portal });
  } catch (error) {
    error.message += `\n\nThe browser said:\n${visit.complaints().join('\n')}`;
    error.message += `\n\nThe application said last:\n${app.log()}`;
    throw error;
  }
  await visit.leave();
}

/** A test with one visitor. */
function visitor(name, { options = {}, timeout = 60_000 }, work) {
  test(name, { timeout }, () => visiting(app, options, work));
}

/** Registers by the page, which logs in as well. */
async function enter(portal) {
  const user = newUser();
  await portal.register(user);
  await portal.greets(user);
  return user;
}

visitor('everything that the page is for, by mouse', { timeout: 180_000 }, async ({ page, portal }) => {
  const user = await enter(portal);
  await portal.logout();
  await portal.login(user);
  await portal.greets(user);

  await portal.upload(FIXTURES);
  await portal.hasParts('upload-item', '[data-state=done]', FIXTURES.length);
  await portal.drop('meadow.png', 'image/png');
  await portal.hasParts('upload-item', '[data-state=done]', FIXTURES.length + 1);
  await portal.hasThumbnails(FIXTURES.length + 1);

  const viewed = await portal.part('image-card').first().getAttribute('data-id');
  const dialog = await portal.view();
  await page.keyboard.press('Escape');
  await dialog.waitFor({ state: 'hidden' });

  await portal.part('message-input').fill('{"grain": "rye", "sacks": 3}');
  await portal.part('message-send').click();
  await portal.hasProcessed(1);
  await portal.part('message-burst').click();
  await portal.hasProcessed(21);
  await portal.part('latency').filter({ hasText: /\d/ }).waitFor();
  await portal.part('depth-messages').filter({ hasText: /^0$/ }).waitFor();

  await portal.part('counter-name').fill(user.username);
  await portal.part('counter-increment').click();
  await portal.counts(1);
  await portal.part('counter-increment').click();
  await portal.counts(2);
  await portal.part('counter-name').fill(`${user.username}-other`);
  await portal.part('counter-name').fill(user.username);
  await portal.part('counter-read').click();
  await portal.counts(2);

  await portal.recommends(viewed);

  await page.reload();
  await portal.greets(user);
  await portal.hasThumbnails(FIXTURES.length + 1);
  await portal.part('image-delete').first().click();
  await portal.part('confirm-delete').click();
  await portal.hasParts('image-card', '', FIXTURES.length);
  await portal.parts('recommendation-card', `[data-id="${viewed}"]`).waitFor({ state: 'detached' });

  await portal.logout();
  await portal.hasParts('image-card', '', 0);
});

visitor('everything that the page is for, by keyboard', { timeout: 90_000 }, async ({ page, portal }) => {
  const keyboard = new Keyboard(page);
  const user = newUser();
  const field = (form, name) => portal.part(form).getByTestId(name);
  await keyboard.write(field('register-form', 'username'), user.username);
  await keyboard.write(field('register-form', 'password'), user.password);
  await keyboard.press('Enter');
  await portal.greets(user);
  await keyboard.operate(portal.part('logout'));
  await portal.part('login-form').waitFor();
  await keyboard.write(field('login-form', 'username'), user.username);
  await keyboard.write(field('login-form', 'password'), user.password);
  await keyboard.operate(portal.part('login-submit'), 'Space');
  await portal.greets(user);

  await keyboard.goTo(portal.part('file-input'));
  const chooser = page.waitForEvent('filechooser');
  await keyboard.press('Enter');
  await (await chooser).setFiles(['dusk.jpg', 'sea.webp'].map(fixture));
  await portal.hasThumbnails(2);

  const view = portal.part('image-view').first();
  await keyboard.operate(view);
  const dialog = await portal.viewed();
  await keyboard.press('Escape');
  await dialog.waitFor({ state: 'hidden' });
  assert.ok(await keyboard.isOn(view), 'a closed dialog gives the focus back');

  const remove = portal.part('image-delete').first();
  await keyboard.operate(remove);
  await portal.part('confirm-delete').waitFor();
  await keyboard.press('Escape');
  await portal.part('confirm-delete').waitFor({ state: 'hidden' });
  assert.ok(await keyboard.isOn(remove), 'a declined question gives the focus back');
  await keyboard.press('Enter');
  await keyboard.operate(portal.part('confirm-delete'));
  await portal.hasParts('image-card', '', 1);

  await keyboard.write(portal.part('message-input'), '["by", "keyboard"]');
  await keyboard.operate(portal.part('message-send'));
  await portal.hasProcessed(1);

  await keyboard.write(portal.part('counter-name'), user.username);
  await keyboard.press('Enter');
  await portal.counts(1);
  await keyboard.operate(portal.part('counter-read'), 'Space');
  await portal.counts(1);

  await keyboard.operate(portal.part('logout'));
  await portal.part('login-form').waitFor();
});

visitor('refusals are told where they happen', {}, async ({ visit, portal }) => {
  visit.expects(422, /^\/auth\/register$/);
  visit.expects(409, /^\/auth\/register$/);
  visit.expects(401, /^\/auth\/login$/);
  visit.expects(415, /^\/images\/upload$/);
  const told = (text) => portal.part('account-error').filter({ hasText: text }).waitFor();

  const user = await register(app.url);
  await portal.register({ ...newUser(), password: 'too short' });
  await told(/10/);
  await portal.register({ ...user, password: newUser().password });
  await told(/taken/i);
  await portal.login({ ...user, password: newUser().password });
  await told(/wrong/i);
  await portal.login(user);
  await portal.greets(user);
  await portal.part('account-error').waitFor({ state: 'hidden' });

  await portal.part('file-input').setInputFiles({
    name: 'not-an-image.png',
    mimeType: 'image/png',
    buffer: Buffer.from('<!doctype html><title>No image</title>'),
  });
  const item = portal.parts('upload-item', '[data-state=failed]');
  await item.filter({ hasText: /PNG/ }).waitFor();
  await portal.hasParts('image-card', '', 0);
});

visitor('the next images come after the last one shown, also when that was deleted', {}, async ({ page, portal }) => {
  const user = await register(app.url);
  const token = await login(app.url, user);
  const picture = await readFile(fixture('sea.webp'));
  await Promise.all(Array.from({ length: GALLERY_PAGE + 1 }, () => upload(app.url, token, picture)));
  await portal.login(user);
  await portal.greets(user);
  await portal.hasParts('image-card', '', GALLERY_PAGE);

  await portal.part('image-delete').last().click();
  await portal.part('confirm-delete').click();
  await portal.hasParts('image-card', '', GALLERY_PAGE - 1);
  await page.getByRole('button', { name: 'Load more' }).click();
  await portal.hasParts('image-card', '', GALLERY_PAGE);
  assert.ok(await portal.part('section-error-images').isHidden());
});

for (const [scheme, options] of [
  ['light', {}],
  ['dark', DARK],
  ['narrow', PHONE],
  ['narrow and dark', { ...PHONE, ...DARK }],
]) {
  visitor(`no barriers, and nothing sticks out: ${scheme}`, { options, timeout: 90_000 }, async ({ visit, page, portal }) => {
    const check = async (state) => {
      await visit.assertFits(state);
      await visit.assertAccessible(state);
    };
    await check('logged out');

    await enter(portal);
    await check('logged in, without images');

    await portal.upload(FIXTURES);
    await portal.hasThumbnails(FIXTURES.length);
    await portal.part('message-burst').click();
    await portal.hasProcessed(20);
    await portal.part('counter-increment').click();
    await check('logged in, with images and messages');

    const dialog = await portal.view();
    await check('an image is open');
    await page.keyboard.press('Escape');
    await dialog.waitFor({ state: 'hidden' });

    await portal.part('image-delete').first().click();
    await portal.part('confirm-delete').waitFor();
    await check('a question is open');
  });
}

test('the first load is light', { timeout: 60_000 }, async () => {
  const visit = await browser.visit('about:blank');
  const { page } = visit;
  const network = await page.context().newCDPSession(page);
  await network.send('Network.enable');
  let transferred = 0;
  network.on('Network.loadingFinished', ({ encodedDataLength }) => (transferred += encodedDataLength));
  await page.goto(app.url);
  await new Portal(page).settled();
  await visit.leave();
  assert.ok(transferred > 0, 'something was transferred');
  assert.ok(transferred < HEAVIEST_PAGE, `${transferred} bytes`);
});

for (const { what, variables, down, section, ready, quiet } of [
  {
    what: 'the queue service does not answer',
    variables: { sqs_origin: 'http://127.0.0.1:1' },
    down: 'process-message',
    section: 'messages',
    ready: ['auth', 'counter', 'recommend'],
    quiet: ['account', 'counter', 'recommend'],
  },
  {
    what: 'the images service cannot ask whose a session is',
    variables: { auth_origin: 'http://127.0.0.1:1' },
    down: 'images',
    section: 'images',
    ready: ['process-message', 'auth', 'counter', 'recommend', 'portal'],
    quiet: ['messages', 'account', 'counter', 'recommend', 'queues'],
  },
]) {
  describe(`the page says what is down, and the rest works: ${what}`, () => {
    let broken;

    before(async () => {
      broken = await start(variables);
    });

    after(() => broken?.stop());

    for (const [scheme, options] of [['light', {}], ['narrow and dark', { ...PHONE, ...DARK }]]) {
      test(scheme, { timeout: 60_000 }, () => visiting(broken, options, async ({ visit, portal }) => {
        visit.expects(503, /^/);
        const user = await enter(portal);
        await portal.parts(`service-status-${down}`, '[data-state=down]').waitFor();
        await portal.part(`section-error-${section}`).filter({ hasText: /\w/ }).waitFor();
        for (const service of ready) {
          await portal.parts(`service-status-${service}`, '[data-state=ready]').waitFor();
        }

        await portal.part('counter-name').fill(user.username);
        await portal.part('counter-increment').click();
        await portal.counts(1);
        await portal.part('message-send').click();
        await portal.hasParts('message-row', `[data-state=${ready.includes('process-message') ? 'processed' : 'failed'}]`, 1);
        for (const each of quiet) {
          assert.ok(await portal.part(`section-error-${each}`).isHidden(), each);
        }
        await visit.assertFits(what);
        await visit.assertAccessible(what);
        await portal.logout();
      }));
    }
  });
}
