// Hands that never touch the mouse. Does not know the page.

import assert from 'node:assert/strict';

const MOST_STOPS = 150;

export class Keyboard {
  #page;

  constructor(page) {
    this.#page = page;
  }

  /** Presses Tab until the focus is on this, where it must be seen. */
  async goTo(locator) {
    const target = await locator.elementHandle();
    const isThere = () => target.evaluate((element) => element === document.activeElement);
    for (let stops = 0; !(await isThere()); stops += 1) {
      assert.ok(stops < MOST_STOPS, `the Tab key does not lead to ${locator}`);
      await this.#page.keyboard.press('Tab');
    }
    assert.ok(await target.evaluate((element) => element.matches(':focus-visible')), `${locator}`);
  }

  /** Goes to a field and types over what is in it. */
  async write(locator, text) {
    await this.goTo(locator);
    await this.press('ControlOrMeta+a');
    await this.#page.keyboard.type(text);
  }

  /** Goes to a control and presses the key that operates it. */
  async operate(locator, key = 'Enter') {
    await this.goTo(locator);
    await this.press(key);
  }

  async press(key) {
    await this.#page.keyboard.press(key);
  }

  /** Whether the focus is on this. */
  async isOn(locator) {
    return locator.evaluate((element) => element === document.activeElement);
  }
}
