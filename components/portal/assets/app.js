/**
 * Owns how the sections of the page are put together and who tells whom what.
 * Refuses to do anything itself.
 */

import { startAccount } from './account.js';
import { startCounter } from './counter.js';
import { startImages } from './images.js';
import { startLive } from './live.js';
import { startMessages } from './messages.js';
import { startStatus } from './status.js';
import { startTrending } from './trending.js';
import { startViewer } from './viewer.js';

const viewer = startViewer();
const live = startLive();
const messages = startMessages({ onFinished: live.finished });
const counter = startCounter();
const trending = startTrending({ viewer });
const images = startImages({ viewer, onSessionLost: () => account.refresh() });
const account = startAccount({ onChange: images.showFor });

startStatus([
  { id: 'process-message', name: 'Messages', notice: messages.notice },
  { id: 'auth', name: 'Accounts', notice: account.notice },
  { id: 'images', name: 'Images', notice: images.notice },
  { id: 'counter', name: 'Counters', notice: counter.notice },
  { id: 'recommend', name: 'Trending', notice: trending.notice },
  { id: 'portal', name: 'Portal', notice: live.notice },
]);
