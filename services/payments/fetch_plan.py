"""What is asked of Stripe after an event: the entries of a reconciled payout. Pure."""

from collections.abc import Sequence

import orjson

from services.ledger.work import NewWork, WorkItem

FETCH_TOPIC = "event_fetch"
PAYOUT = "payout"
"""The payload's field that names the payout whose balance entries are asked for."""

_RECONCILED = "payout.reconciliation_completed"


def plan_payout_entries(items: Sequence[WorkItem]) -> list[NewWork]:
    """Return the work that brings the balance entries of each payout that Stripe has finished with.

    Stripe says which entries a payout holds only to who asks for them by payout, and only once it says
    ``payout.reconciliation_completed``. Source: Stripe, "Payout reconciliation report".
    """
    return [
        NewWork(
            shop_id=item.shop_id,
            topic=FETCH_TOPIC,
            key=item.key,
            payload={PAYOUT: payout},
            event_id=item.event_id,
            request_id=item.request_id,
        )
        for item in items
        if item.event_topic == _RECONCILED and (payout := _find_payout(item.body))
    ]


def _find_payout(body: bytes) -> str:
    try:
        source = orjson.loads(body)["data"]["object"]
        return str(source["id"]) if source["object"] == "payout" else ""
    except (orjson.JSONDecodeError, LookupError, TypeError):
        return ""
