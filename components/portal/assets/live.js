/**
 * Owns the live section: how deep the queues are, how fast this page's messages
 * finish and how long they take. Refuses to know how messages are sent: it is
 * told when one has finished.
 */

import { Problem, poll, request } from './api.js';
import { POINTS, chartCard } from './charts.js';
import { byId } from './dom.js';
import { outageNotice } from './outage.js';

// Each open page costs the queue service two calls each time.
const DEPTHS_EVERY_MS = 2_000;
const RATE_EVERY_MS = 1_000;
const RATE_WINDOW_S = 5;

export function startLive() {
  const notice = outageNotice(byId('live'), 'queues', 'The state of the queues', () => refresh());
  const depths = new Map();
  const depthOf = (queue) => {
    if (!depths.has(queue)) depths.set(queue, depthChart(queue));
    return depths.get(queue);
  };
  depthOf('messages');
  depthOf('images');
  const own = ownMessages();

  const refresh = poll(async () => {
    try {
      const { document } = await request('GET', '/portal/stats', { timeout: 5_000 });
      document.queues.forEach((queue) => depthOf(queue.name).show(queue));
      notice.worked();
    } catch (error) {
      if (error instanceof Problem) notice.failed(error);
      depths.forEach((depth) => depth.unknown());
      throw error;
    }
  }, { every: DEPTHS_EVERY_MS });
  poll(async () => own.tick(), { every: RATE_EVERY_MS });
  return { notice, finished: own.finished };
}

function added(chart) {
  byId('charts').append(chart.card);
  return chart;
}

function depthChart(queue) {
  const chart = added(chartCard({ testid: `depth-${queue}`, name: `Queue: ${queue}`, unit: 'messages' }));
  const values = [];
  return {
    show({ visible, in_flight: inFlight }) {
      const depth = visible + inFlight;
      remember(values, depth);
      chart.show({
        values,
        now: String(depth),
        below: `${visible} waiting, ${inFlight} in work`,
        inWords: `now ${depth}, highest of the last two minutes ${Math.max(...values)}`,
      });
    },
    unknown: () => chart.show({ values, now: '–', below: 'not known now', inWords: 'not known now' }),
  };
}

function ownMessages() {
  const rate = added(chartCard({ testid: 'rate', name: 'Rate', unit: '/ s' }));
  const latency = added(chartCard({ testid: 'latency', name: 'Latency', unit: 'ms' }));
  // When they finished. A hidden page does not tick, so the times count, not the ticks.
  const finishes = [];
  const rates = [];
  const latencies = [];
  return {
    tick() {
      const start = performance.now() - RATE_WINDOW_S * 1000;
      while (finishes[0] < start) finishes.shift();
      showRate(rate, rates, finishes.length / RATE_WINDOW_S);
    },
    finished(ms) {
      finishes.push(performance.now());
      remember(latencies, ms);
      showLatency(latency, latencies);
    },
  };
}

function showRate(chart, rates, now) {
  remember(rates, now);
  chart.show({
    values: rates,
    now: now.toFixed(1),
    below: `finished, over ${RATE_WINDOW_S} s`,
    inWords: `now ${now.toFixed(1)} per second, highest of the last minute ${Math.max(...rates).toFixed(1)}`,
  });
}

function showLatency(chart, latencies) {
  const sorted = [...latencies].sort((a, b) => a - b);
  const median = Math.round(sorted[Math.floor((sorted.length - 1) / 2)]);
  const highest = Math.round(sorted.at(-1));
  chart.show({
    values: latencies,
    now: String(median),
    below: `median, at most ${highest}`,
    inWords: `median of the last ${latencies.length} messages ${median} ms, highest ${highest} ms`,
  });
}

function remember(values, value) {
  values.push(value);
  if (values.length > POINTS) values.shift();
}
