"""The suggested causes of breaks: what each means, and the next step for a person. Pure."""

from types import MappingProxyType
from typing import NamedTuple


class CauseText(NamedTuple):
    """``says`` is the reason of the break; ``todo`` begins with a verb."""

    says: str
    todo: str


_REPAIR_OBJECT = "run `fleet payments repair`: it fetches the object itself"

CAUSES = MappingProxyType(
    {
        "lost_webhook": CauseText(
            "Stripe made an event of it that never arrived here",
            "run `fleet payments repair`: it fetches the event",
        ),
        "dead_work": CauseText(
            "its event is here, but the work on it is dead",
            "run `fleet work show ID`, correct what its error names, then `fleet payments repair`",
        ),
        "discarded_work": CauseText(
            "its event is here, but somebody discarded the work on it",
            "read the reason in the audit; `celery -A tasks requeue` starts the work again",
        ),
        "in_queue": CauseText(
            "its event is here and waits for a worker", "wait, then run the reconciliation again"
        ),
        "paused": CauseText(
            "its event is here and waits because of a pause",
            "when it is time, end the pause: `celery -A tasks backlog` shows it, `celery -A tasks resume`",
        ),
        "not_ours": CauseText(
            "our event of it came from test mode or from another account",
            "check which account the webhook secret belongs to",
        ),
        "too_old_for_events": CauseText("Stripe keeps events for 30 days only", _REPAIR_OBJECT),
        "never_at_stripe": CauseText(
            "Stripe has no such object under this key",
            "compare the accounts of the shop's stripe-key and of its webhook secret",
        ),
        "paid_twice": CauseText(
            "the customer seems to have paid twice", "look at both charges and refund one, or leave it"
        ),
        "fee_differs": CauseText(
            "Stripe took another fee than was recorded or agreed",
            "compare it with the shop's contract with Stripe",
        ),
        "order_differs": CauseText(
            "Shopify has another sum as paid for the order", "compare the order's payments with the charge"
        ),
        "unreadable_object": CauseText(
            "Stripe's object lacks a field that we need; the evidence names it",
            "look at the object at Stripe and compare it by hand; the rest of the day is compared",
        ),
        "unknown": CauseText("no check found a reason", _REPAIR_OBJECT),
    }
)
"""By slug, which is kept with each break."""


def describe_cause(slug: str) -> CauseText:
    """Return the texts of ``slug``; a break without a cause was found before causes were suggested."""
    return CAUSES.get(slug, CauseText("no cause was looked for yet", "run the reconciliation again"))
