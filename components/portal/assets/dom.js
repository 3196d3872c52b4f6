/**
 * Owns how elements are built, how values read as text, and what a busy control
 * does. Data becomes text only, never markup. Refuses to know any service.
 */

const SVG = 'http://www.w3.org/2000/svg';

export const byId = (id) => document.getElementById(id);

/** An element with attributes; children are nodes or text. */
export function el(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

/** The same for a part of a drawing. */
export function svg(tag, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), attributes, children);
}

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

/** Shows text in an element, or hides it when there is none. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
  element.hidden = text === '';
}

/** Tells it to screen readers only. */
export function announce(text) {
  byId('announcer').textContent = text;
}

/**
 * Runs `task` unless the control is still busy. A busy control keeps the focus,
 * which a disabled one would lose.
 */
export async function whileBusy(control, task) {
  if (control.getAttribute('aria-disabled') === 'true') return undefined;
  control.setAttribute('aria-disabled', 'true');
  try {
    return await task();
  } finally {
    control.removeAttribute('aria-disabled');
  }
}

/** A problem's detail as a sentence. */
export function sentence(text) {
  const capital = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?…]$/.test(capital) ? capital : `${capital}.`;
}

export function bytes(count) {
  if (count < 1024) return `${count} B`;
  const kilo = count / 1024;
  return kilo < 1000 ? `${kilo.toFixed(0)} KB` : `${(kilo / 1024).toFixed(1)} MB`;
}

export function duration(ms) {
  return ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`;
}

export function dateTime(time) {
  return new Date(time).toLocaleString([], { dateStyle: 'medium', timeStyle: 'short' });
}

export function clock(time) {
  return new Date(time).toLocaleTimeString();
}

/** `image/png` → `PNG`. */
export function format(type) {
  return type.replace('image/', '').toUpperCase();
}
