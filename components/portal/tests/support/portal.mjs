// The page as its users see it: what they can do, and how they notice that it is
// done. Knows the page by its test ids; checks nothing itself.

import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';

const SERVICES = ['process-message', 'auth', 'images', 'counter', 'recommend', 'portal'];
export const FIXTURES = ['meadow.png', 'dusk.jpg', 'mill.gif', 'sea.webp'];
// The schedule ticks once a minute, and the page asks every few seconds.
const SCHEDULE_LIMIT_MS = 90_000;

/** The path of a file under `fixtures`. */
export function fixture(name) {
  return fileURLToPath(new URL(`../fixtures/${name}`, import.meta.url));
}

export class Portal {
  #page;

  constructor(page) {
    this.#page = page;
  }

  /** Whatever has this test id. */
  part(id) {
    return this.#page.getByTestId(id);
  }

  /** The parts with this test id that are in a state, as in `[data-state=done]`. */
  parts(id, state = '') {
    return this.#page.locator(`[data-testid=${id}]${state}`);
  }

  /** Resolves when the page has heard from every service. */
  async settled() {
    for (const service of SERVICES) {
      await this.parts(`service-status-${service}`, ':not([data-state=checking])').waitFor();
    }
  }

  async register({ username, password }) {
    await this.#fill('register-form', username, password);
    await this.part('register-submit').click();
  }

  async login({ username, password }) {
    await this.#fill('login-form', username, password);
    await this.part('login-submit').click();
  }

  async logout() {
    await this.part('logout').click();
    await this.part('login-form').waitFor();
  }

  /** Resolves when the page greets the user. */
  async greets({ username }) {
    await this.part('profile-name').filter({ hasText: exactly(username) }).waitFor();
  }

  /** Uploads fixtures through the file chooser; their cards come in any order. */
  async upload(names) {
    await this.part('file-input').setInputFiles(names.map(fixture));
  }

  /** Drops a fixture on the page's zone for it. */
  async drop(name, type) {
    const content = await readFile(fixture(name), 'base64');
    const transfer = await this.#page.evaluateHandle(
      ({ content, name, type }) => {
        const bytes = Uint8Array.from(atob(content), (character) => character.charCodeAt(0));
        const transfer = new DataTransfer();
        transfer.items.add(new File([bytes], name, { type }));
        return transfer;
      },
      { content, name, type },
    );
    await this.part('drop-zone').dispatchEvent('drop', { dataTransfer: transfer });
  }

  /** Resolves when the gallery shows so many thumbnails. */
  async hasThumbnails(count) {
    await this.hasParts('image-card', '[data-thumbnail=ready]', count);
    for (const card of await this.parts('image-card').all()) {
      await card.scrollIntoViewIfNeeded();
      const picture = await card.locator('img').elementHandle();
      await this.#page.waitForFunction((image) => image.complete && image.naturalWidth > 0, picture);
    }
  }

  /** Opens an image of the gallery in full. */
  async view(index = 0) {
    await this.part('image-view').nth(index).click();
    return this.viewed();
  }

  /** The open dialog, once its image is there. */
  async viewed() {
    const dialog = this.#page.getByRole('dialog');
    const picture = await dialog.locator('img').elementHandle();
    await this.#page.waitForFunction((image) => image.complete && image.naturalWidth > 0, picture);
    return dialog;
  }

  /** Resolves when so many messages were sent and processed. */
  async hasProcessed(count) {
    await this.hasParts('message-row', '[data-state=processed]', count);
  }

  /** Resolves when the counter shows this. */
  async counts(value) {
    await this.part('counter-value').filter({ hasText: exactly(String(value)) }).waitFor();
  }

  /** Resolves when the schedule has brought this image among the recommended. */
  async recommends(id) {
    const card = this.parts('recommendation-card', `[data-id="${id}"]`);
    await card.waitFor({ timeout: SCHEDULE_LIMIT_MS });
  }

  /** Resolves when there are exactly so many parts in a state. */
  async hasParts(id, state, count) {
    const selector = `[data-testid=${id}]${state}`;
    await this.#page.waitForFunction(
      ([selector, count]) => document.querySelectorAll(selector).length === count,
      [selector, count],
    );
  }

  async #fill(form, username, password) {
    await this.part(form).getByTestId('username').fill(username);
    await this.part(form).getByTestId('password').fill(password);
  }
}

function exactly(text) {
  return new RegExp(`^\\s*${text.replace(/[^\w]/g, '\\$&')}\\s*$`);
}
