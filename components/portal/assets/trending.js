/**
 * Owns the list of trending images. Refuses to rank: it shows what the service
 * computed, in its order.
 */

import { Problem, poll, request } from './api.js';
import { byId, clock, el } from './dom.js';
import { outageNotice } from './outage.js';
import { describe } from './viewer.js';

const EVERY_MS = 10_000;
const SLOWEST_MS = 60_000;

export function startTrending({ viewer }) {
  const notice = outageNotice(byId('trending'), 'recommend', 'The list of trending images', () => refresh());
  let shown = '';
  const refresh = poll(async () => {
    try {
      const { text, document } = await request('GET', '/recommendations?limit=12');
      notice.worked();
      // An unchanged list is left alone: it may hold the focus.
      if (text !== shown) show(document, viewer);
      shown = text;
    } catch (error) {
      if (error instanceof Problem) notice.failed(error);
      throw error;
    }
  }, { every: EVERY_MS, slowest: SLOWEST_MS });
  return { notice };
}

function show({ computed_at: computed, recommendations }, viewer) {
  const list = byId('recommendations');
  const focused = document.activeElement?.closest('#recommendations > li')?.dataset.id;
  const cards = recommendations.map((each, index) => card(each, index + 1, viewer));
  list.replaceChildren(...cards);
  cards.find((each) => each.dataset.id === focused)?.querySelector('button').focus();
  byId('trending-empty').hidden = cards.length > 0;
  byId('trending-time').textContent = computed
    ? `Images by recent views, computed at ${clock(computed)}`
    : 'Images by recent views';
}

function card(image, rank, viewer) {
  const views = image.views === 1 ? '1 view' : `${image.views} views`;
  const picture = el('img', { src: image.thumbnail_url, alt: '', loading: 'lazy', decoding: 'async' });
  picture.addEventListener('error', () => { picture.hidden = true; }, { once: true });
  const button = el(
    'button',
    { type: 'button', class: 'picture', 'aria-label': `View trending image ${rank}, ${describe(image)}, ${views}` },
    picture, el('span', { class: 'rank', 'aria-hidden': 'true' }, String(rank)),
  );
  button.addEventListener('click', () => viewer.open(image, views));
  const item = el(
    'li',
    { 'data-testid': 'recommendation-card', 'data-id': image.id },
    button,
    el('p', { class: 'caption' }, el('strong', {}, views), el('span', { class: 'quiet' }, describe(image))),
  );
  return item;
}
