"""What each suggested cause of a break means, and what a person does about it. Pure."""

from types import MappingProxyType
from typing import NamedTuple


class CauseText(NamedTuple):
    """``says`` is why it came to it, as far as can be seen; ``todo`` begins with a verb."""

    says: str
    todo: str


CAUSES = MappingProxyType(
    {
        "lost_webhook": CauseText(
            "Stripe made an event of it that never arrived here",
            "run `fleet payments repair`: it fetches the event",
        ),
        "dead_work": CauseText(
            "its event is here, but the work on it gave up",
            "run `fleet work show ID`, mend what it names, then `fleet payments repair` requeues it",
        ),
        "discarded_work": CauseText(
            "its event is here, but somebody discarded the work on it",
            "look up why in the audit; `fleet work requeue` takes it up again",
        ),
        "in_queue": CauseText(
            "its event is here and waits for a worker", "wait, then run the reconciliation again"
        ),
        "paused": CauseText(
            "its event is here and waits because of a pause",
            "end the pause (`fleet work pauses`) when it is time",
        ),
        "not_ours": CauseText(
            "our event of it came from test mode or from another account",
            "check which account the webhook secret belongs to",
        ),
        "too_old_for_events": CauseText(
            "Stripe keeps events for 30 days only",
            "run `fleet payments repair`: it fetches the object itself",
        ),
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
            "Shopify says another sum was paid for the order", "compare the order's payments with the charge"
        ),
        "unreadable_object": CauseText(
            "Stripe's object lacks a field that we need; the evidence names it",
            "look at the object at Stripe and compare it by hand; the rest of the day is compared",
        ),
        "unknown": CauseText(
            "nothing that was looked at explains it",
            "run `fleet payments repair`: it fetches the object itself",
        ),
    }
)
"""Stable slugs: they are kept with each break."""


def describe_cause(slug: str) -> CauseText:
    """Return what ``slug`` means; a break found before causes were looked for has none."""
    return CAUSES.get(slug, CauseText("not looked into yet", "run the reconciliation again"))
