// Takes orders from a queue and stores a receipt for each, under its message's id.
import { open } from 'wasi:keyvalue/store@0.2.0-draft2';

// No attempt would fare better: the message goes to the dead-letter queue at once.
const reject = (reason) => ({ tag: 'other', val: `reject: ${reason}` });

function receiptFor(body) {
  let order;
  try {
    order = JSON.parse(body);
  } catch (error) {
    throw reject(`not JSON: ${error.message}`);
  }
  const { customer, lines } = order ?? {};
  if (typeof customer !== 'string' || !customer || !Array.isArray(lines) || !lines.length)
    throw reject('an order has a `customer` and `lines`');
  const total = lines.map(centsOf).reduce((sum, cents) => sum + cents);
  return { customer, total_cents: total };
}

function centsOf(line) {
  const { quantity, cents } = line ?? {};
  if (![quantity, cents].every((value) => Number.isSafeInteger(value) && value > 0))
    throw reject('`quantity` and `cents` of a line are whole numbers above 0');
  return quantity * cents;
}

export function handleQueueMessage({ id, body }) {
  const orders = open('orders');
  if (orders.exists('paused')) return 'leave'; // It comes again.
  if (!orders.exists(id)) { // Else it came before.
    const receipt = JSON.stringify(receiptFor(body));
    orders.set(id, new TextEncoder().encode(receipt));
    console.log(`${id}: ${receipt}`);
  }
  return 'delete';
}
