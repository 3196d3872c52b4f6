/**
 * Owns small charts: a line with its area, drawn as SVG, and the same in words.
 * Refuses to know where numbers come from, and keeps no history.
 */

import { el, svg } from './dom.js';

/** How many values a chart shows. */
export const POINTS = 60;

const WIDTH = 120;
const HEIGHT = 36;

/** A card with a name, a number, its unit, a chart and a note below. */
export function chartCard({ testid, name, unit }) {
  const value = el('span', { 'data-testid': testid }, '–');
  const note = el('p', { class: 'quiet' }, '\u00a0');
  const area = svg('path', { class: 'area' });
  const line = svg('path', { class: 'line', 'vector-effect': 'non-scaling-stroke' });
  const drawing = svg(
    'svg',
    { role: 'img', viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: 'none', 'aria-label': `${name}: no values yet` },
    area, line,
  );
  const card = el(
    'div',
    { class: 'card chart' },
    el('h3', {}, name),
    el('p', { class: 'number' }, value, el('span', { class: 'unit' }, ` ${unit}`)),
    drawing, note,
  );
  return {
    card,
    /** `now` and `below` are text; `inWords` is what the drawing says. */
    show({ values, now, below, inWords }) {
      value.textContent = now;
      note.textContent = below;
      drawing.setAttribute('aria-label', `${name}: ${inWords}`);
      const path = lineOf(values.slice(-POINTS));
      line.setAttribute('d', path.line);
      area.setAttribute('d', path.area);
    },
  };
}

/** The newest value is at the right edge; zero is at the bottom. */
export function lineOf(values) {
  if (values.length === 0) return { line: '', area: '' };
  const highest = Math.max(1, ...values);
  const step = WIDTH / (POINTS - 1);
  const left = WIDTH - (values.length - 1) * step;
  const points = values.map((value, index) => {
    const y = HEIGHT - 2 - (value / highest) * (HEIGHT - 6);
    return `${(left + index * step).toFixed(1)} ${y.toFixed(1)}`;
  });
  const line = `M${points.join('L')}`;
  return { line, area: `${line}L${WIDTH} ${HEIGHT}L${left.toFixed(1)} ${HEIGHT}Z` };
}
