"""Takes orders from a queue and stores a receipt for each, under its message's id."""

import json

import wit_world
from componentize_py_types import Err
from wit_world.imports import store
from wit_world.imports.sqs_types import Error_Other, Message, MessageAction


def reject(reason: str) -> Err:
    """No attempt would fare better: the message goes to the dead-letter queue at once."""
    return Err(Error_Other(f"reject: {reason}"))


def receipt_for(body: str) -> dict:
    try:
        order = json.loads(body)
    except ValueError as error:
        raise reject(f"not JSON: {error}")
    match order:
        case {"customer": str(customer), "lines": [_, *_] as lines} if customer:
            return {"customer": customer, "total_cents": sum(map(cents_of, lines))}
    raise reject("an order has a `customer` and `lines`")


def cents_of(line: dict) -> int:
    match line:
        case {"quantity": int(quantity), "cents": int(cents)} if min(quantity, cents) > 0:
            return quantity * cents
    raise reject("`quantity` and `cents` of a line are whole numbers above 0")


class WitWorld(wit_world.WitWorld):
    def handle_queue_message(self, message: Message) -> MessageAction:
        orders = store.open("orders")
        if orders.exists("paused"):
            return MessageAction.LEAVE  # It comes again.
        if not orders.exists(message.id):  # Else it came before.
            receipt = json.dumps(receipt_for(message.body))
            orders.set(message.id, receipt.encode())
            print(f"{message.id}: {receipt}")
        return MessageAction.DELETE
