"""Reads what the labels of orders show, and records that they are printed."""

from collections.abc import Sequence
from typing import Unpack

from sqlalchemy import Connection

from services.audit.append import Author
from services.shopfloor.board import find_floor_order, find_order_gid
from services.shopfloor.labels import Label, make_label
from services.shopfloor.usage import record_use
from services.shops.shops import Shop


def read_labels(tx: Connection, shop: Shop, orders: Sequence[str], **author: Unpack[Author]) -> list[Label]:
    """Return a label for each of ``orders``; one that was never on the board has only its number and name.

    Raises ``InputInvalid`` for an order that the shop does not have.
    """
    labels = []
    for code in orders:
        gid = find_order_gid(tx, shop.id, code)
        found = find_floor_order(tx, shop.id, gid)
        number = gid.rpartition("/")[2]
        labels.append(make_label(found, shop.zone) if found else Label(number, code))
        record_use(tx, "print", shop.id, f"{number}:{author['now'].isoformat()}", {}, **author)
    return labels
