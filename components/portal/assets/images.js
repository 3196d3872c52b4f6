/**
 * Owns the images section: uploads one after the other, the gallery, deletion.
 * Refuses to know who is logged in (it is told) and what a valid image is (the
 * service says).
 */

import { Problem, request, until, upload } from './api.js';
import { announce, byId, bytes, dateTime, el, format, sentence, whileBusy } from './dom.js';
import { outageNotice } from './outage.js';
import { describe, dimensions } from './viewer.js';

const PAGE = 24;

/** `onSessionLost` is called when the service no longer knows the session. */
export function startImages({ viewer, onSessionLost }) {
  const notice = outageNotice(byId('images'), 'images', 'The image service', () => load());
  // `next` is the id of the last image shown, or `null` when it is the last of all.
  const state = { user: null, next: null, visit: 0 };

  const failed = (error) => {
    if (!(error instanceof Problem)) throw error;
    if (error.status === 401) onSessionLost();
    else notice.failed(error);
  };
  const gallery = byId('gallery');
  // An upload may also be in a page that was asked for meanwhile.
  const isShown = (id) => [...gallery.children].some((item) => item.dataset.id === id);
  const add = (image, where) => {
    if (!isShown(image.id)) where(card(image, { viewer, failed, onGone }));
  };
  const showEmpty = () => {
    byId('gallery-empty').hidden = gallery.children.length > 0 || state.next !== null;
  };
  /** A page cannot begin after an image that is gone; after none, it is the first page. */
  const onGone = (id) => {
    if (id === state.next) {
      state.next = gallery.lastElementChild?.dataset.id;
      if (state.next === undefined) load();
    }
    showEmpty();
  };

  const load = async (after) => {
    const visit = state.visit;
    if (state.user === null) {
      notice.worked();
      return;
    }
    try {
      const { document } = await request('GET', `/images?limit=${PAGE}${after ? `&after=${after}` : ''}`);
      if (visit !== state.visit) return;
      if (!after) gallery.replaceChildren();
      const before = gallery.children.length;
      document.images.forEach((image) => add(image, (item) => gallery.append(item)));
      // The button may vanish now: what it brought takes the focus.
      if (after) gallery.children[before]?.querySelector('button').focus();
      state.next = document.next;
      byId('gallery-more').hidden = state.next === null;
      showEmpty();
      notice.worked();
    } catch (error) {
      failed(error);
    }
  };

  byId('gallery-more').addEventListener('click', (event) => {
    whileBusy(event.currentTarget, () => load(state.next));
  });
  acceptFiles(uploadQueue((image) => {
    add(image, (item) => gallery.prepend(item));
    showEmpty();
  }, onSessionLost));

  return {
    notice,
    /** Shows the images of this user; none for `null`. */
    showFor(user) {
      byId('images-own').hidden = user === null;
      byId('images-invitation').hidden = user !== null;
      if (user === state.user) return;
      Object.assign(state, { user, next: null, visit: state.visit + 1 });
      gallery.replaceChildren();
      byId('uploads').replaceChildren();
      byId('uploads-clear').hidden = true;
      byId('gallery-empty').hidden = true;
      byId('gallery-more').hidden = true;
      load();
    },
  };
}

/** Files come by the picker or by dropping them on the zone. */
function acceptFiles(accept) {
  const input = byId('file-input');
  const zone = byId('drop-zone');
  input.addEventListener('change', () => {
    accept([...input.files]);
    input.value = '';
  });
  zone.addEventListener('dragover', () => zone.classList.add('over'));
  zone.addEventListener('dragleave', (event) => {
    if (!zone.contains(event.relatedTarget)) zone.classList.remove('over');
  });
  zone.addEventListener('drop', (event) => {
    zone.classList.remove('over');
    accept([...event.dataTransfer.files]);
  });
  // A file that misses the zone must not replace the page.
  for (const type of ['dragover', 'drop']) {
    document.addEventListener(type, (event) => {
      if (event.dataTransfer?.types.includes('Files')) event.preventDefault();
    });
  }
}

/** Uploads one file at a time, in order. */
function uploadQueue(onUploaded, onSessionLost) {
  const clear = byId('uploads-clear');
  let last = Promise.resolve();
  clear.addEventListener('click', () => {
    document.querySelectorAll('#uploads [data-state=done], #uploads [data-state=failed]').forEach((item) => item.remove());
    clear.hidden = true;
    byId('file-input').focus();
  });
  return (files) => {
    for (const file of files) {
      const row = uploadRow(file);
      last = last.then(async () => {
        await row.start(onUploaded, onSessionLost);
        clear.hidden = byId('uploads').children.length === 0;
      });
    }
  };
}

function uploadRow(file) {
  const word = el('span', { class: 'quiet', role: 'status' }, 'Waiting');
  const bar = el('progress', { 'data-testid': 'upload-progress', max: '1', value: '0', 'aria-label': `Upload of ${file.name}` });
  const cancel = el('button', { type: 'button', class: 'link', 'aria-label': `Cancel the upload of ${file.name}` }, 'Cancel');
  const item = el(
    'li',
    { 'data-testid': 'upload-item', 'data-state': 'queued' },
    el('span', { class: 'name' }, file.name), word, bar, cancel,
  );
  byId('uploads').append(item);

  const finish = (state, text) => {
    item.dataset.state = state;
    word.textContent = text;
    if (cancel === document.activeElement) byId('file-input').focus();
    cancel.remove();
    bar.remove();
  };
  cancel.addEventListener('click', () => finish('failed', 'Cancelled.'), { once: true });

  return {
    async start(onUploaded, onSessionLost) {
      if (!item.isConnected || item.dataset.state !== 'queued') return;
      item.dataset.state = 'uploading';
      word.textContent = bytes(file.size);
      try {
        const transfer = upload('/images/upload', file, (part) => { bar.value = part; });
        cancel.addEventListener('click', transfer.cancel, { once: true });
        const image = await transfer.done;
        // The list was emptied: someone else is logged in by now.
        if (!item.isConnected) return;
        onUploaded(image);
        finish('done', 'Uploaded.');
      } catch (error) {
        // Whatever it was, the files that wait for this one go on.
        const known = error instanceof Problem;
        finish('failed', known ? sentence(error.message) : 'This page failed. Reload it to see whether the image was stored.');
        if (!known) reportError(error);
        else if (error.status === 401) onSessionLost();
      }
    },
  };
}

/** A card of the gallery; `onGone` gets the image's id when it was deleted. */
function card(image, { viewer, failed, onGone }) {
  const name = describe(image);
  const uploaded = dateTime(image.created_at);
  const frame = el('span', { class: 'frame' });
  const label = el('span', { class: 'unseen' }, `View image ${name}, uploaded ${uploaded}`);
  const view = el('button', { type: 'button', class: 'picture', 'data-testid': 'image-view' }, label, frame);
  const remove = el('button', { type: 'button', class: 'link bad', 'data-testid': 'image-delete', 'aria-label': `Delete image ${name}, uploaded ${uploaded}` }, 'Delete');
  const item = el(
    'li',
    { 'data-testid': 'image-card', 'data-id': image.id },
    view,
    el(
      'div',
      { class: 'caption' },
      el('span', {}, dimensions(image)), remove,
      el('span', { class: 'quiet' }, `${format(image.type)}, ${bytes(image.size)}`),
      el('span', { class: 'quiet' }, uploaded),
    ),
  );
  view.addEventListener('click', () => viewer.open(image, `${bytes(image.size)}, uploaded ${uploaded}`));
  remove.addEventListener('click', () => whileBusy(remove, async () => {
    if (!(await confirmed(`${name}, uploaded ${uploaded}. It cannot be brought back.`))) return;
    try {
      await deleteImage(image.id);
      leave(item);
      onGone(image.id);
    } catch (error) {
      failed(error);
    }
  }));
  showThumbnail(item, frame, image);
  return item;
}

/** One that is gone already is as good as deleted. */
async function deleteImage(id) {
  try {
    await request('DELETE', `/images/${id}`);
  } catch (error) {
    if (error.status !== 404) throw error;
  }
}

/** Takes the card away and gives its focus to a neighbour. */
function leave(item) {
  const neighbour = item.nextElementSibling ?? item.previousElementSibling;
  (neighbour?.querySelector('[data-testid=image-view]') ?? byId('images-title')).focus();
  item.remove();
  announce('The image was deleted.');
}

function showThumbnail(item, frame, image) {
  const turn = (state, content) => {
    item.dataset.thumbnail = state;
    frame.replaceChildren(content);
  };
  const ready = () => {
    const picture = el('img', { alt: '', loading: 'lazy', decoding: 'async', src: image.thumbnail_url });
    picture.addEventListener('error', () => frame.replaceChildren('The thumbnail cannot be loaded'), { once: true });
    turn('ready', picture);
  };
  const missing = () => turn('failed', 'No thumbnail');
  const look = async () => {
    turn('pending', 'Making the thumbnail…');
    const state = await until(() => (item.isConnected ? thumbnailState(image.thumbnail_url) : 'gone'), { first: 300 });
    if (state === 'ready') ready();
    else if (state === 'failed') missing();
    else late();
  };
  const late = () => {
    turn('pending', 'The thumbnail takes longer than usual');
    const label = `Look again for the thumbnail of image ${describe(image)}, uploaded ${dateTime(image.created_at)}`;
    const again = el('button', { type: 'button', class: 'link', 'aria-label': label }, 'Look again');
    again.addEventListener('click', () => {
      item.querySelector('[data-testid=image-view]').focus();
      again.remove();
      look();
    });
    item.querySelector('.caption').append(again);
  };
  if (image.thumbnail === 'ready') ready();
  else if (image.thumbnail === 'failed') missing();
  else look();
}

/** A 404 with `Retry-After` means: not yet. */
async function thumbnailState(url) {
  try {
    await request('HEAD', url);
    return 'ready';
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    return error.status === 404 && error.retryAfter === 0 ? 'failed' : undefined;
  }
}

/** Asks in a dialog; Esc means no. */
function confirmed(text) {
  const dialog = byId('confirm');
  byId('confirm-text').textContent = text;
  dialog.returnValue = '';
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener('close', () => resolve(dialog.returnValue === 'delete'), { once: true });
  });
}
