"""Our charges held against Stripe's. Pure: no clock, no database, no network."""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple


class Booked(NamedTuple):
    """A charge in one of the two books. ``status`` is ``paid``, ``pending`` or ``failed``."""

    provider_id: str
    amount_cents: int
    currency: str
    status: str

    def as_json(self) -> dict[str, Any]:
        """Return what is kept beside a break."""
        return {"amount_cents": self.amount_cents, "currency": self.currency, "status": self.status}


class Break(NamedTuple):
    """One difference: ``missing_here``, ``missing_there``, ``amount``, ``currency`` or ``status``."""

    kind: str
    provider_id: str
    ours: Booked | None
    theirs: Booked | None


def find_breaks(ours: Iterable[Booked], theirs: Iterable[Booked]) -> list[Break]:
    """Return every difference between the two, in the order of the charges' ids.

    A charge known to one side only is a break if it is paid there: one that failed or waits moved no
    money. A charge on both sides is compared field by field, whatever its status.
    """
    waiting = {charge.provider_id: charge for charge in ours}
    breaks: list[Break] = []
    for charge in theirs:
        breaks.extend(_compare(waiting.pop(charge.provider_id, None), charge))
    breaks.extend(
        Break("missing_there", charge.provider_id, charge, None)
        for charge in waiting.values()
        if charge.status == "paid"
    )
    return sorted(breaks, key=lambda found: (found.provider_id, found.kind))


def _compare(ours: Booked | None, theirs: Booked) -> Iterator[Break]:
    if ours is None:
        if theirs.status == "paid":
            yield Break("missing_here", theirs.provider_id, None, theirs)
        return
    if ours.amount_cents != theirs.amount_cents:
        yield Break("amount", theirs.provider_id, ours, theirs)
    if ours.currency != theirs.currency:
        yield Break("currency", theirs.provider_id, ours, theirs)
    if ours.status != theirs.status:
        yield Break("status", theirs.provider_id, ours, theirs)
