/**
 * Owns the dialog that shows one image in full, and how an image is described
 * in words. To show it is what the service counts as a view. Refuses to know
 * which list the image came from.
 */

import { byId, format } from './dom.js';

/** `800 × 600`. */
export function dimensions({ width, height }) {
  return `${width} × ${height}`;
}

/** `800 × 600 PNG`. */
export function describe(image) {
  return `${dimensions(image)} ${format(image.type)}`;
}

export function startViewer() {
  const dialog = byId('viewer');
  const image = byId('viewer-image');
  image.addEventListener('error', () => {
    image.hidden = true;
    byId('viewer-error').hidden = !image.hasAttribute('src');
  });
  byId('viewer-close').addEventListener('click', () => dialog.close());
  dialog.addEventListener('close', () => image.removeAttribute('src'));
  return {
    /** `facts` is a line of text below the image. */
    open(document, facts) {
      byId('viewer-error').hidden = true;
      byId('viewer-title').textContent = `Image, ${describe(document)}`;
      byId('viewer-facts').textContent = facts;
      byId('viewer-link').href = document.url;
      image.hidden = false;
      image.alt = `Image, ${describe(document)}`;
      image.src = document.url;
      dialog.showModal();
    },
  };
}
