"""A webhook of the demo, and the plan of a day. Pure data."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

BAD_SIGNATURE = "bad signature"
STALE = "stale timestamp"
UNREADABLE = "unreadable body"
INCOMPLETE = "incomplete body"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Delivery:
    """A webhook as its provider sends it, once or several times.

    ``at`` is the time of the event; ``fault`` is its planned fault. ``before`` is a control request for the
    sandbox, sent just before the first post: the state at the provider.
    """

    shop: str
    provider: str
    topic: str
    body: bytes
    webhook_id: str
    at: datetime
    fault: str = ""
    before: dict[str, Any] | None = None

    @property
    def is_refused(self) -> bool:
        """Whether ingress must answer 401 and record nothing."""
        return self.fault in (BAD_SIGNATURE, STALE)

    @property
    def path(self) -> str:
        route = "openphone" if self.provider == "quo" else self.provider
        source = f"/{self.topic}" if self.provider == "standard" else ""
        return f"/webhooks/{route}/{self.shop}{source}"


@dataclass(frozen=True, slots=True)
class DayPlan:
    """The posts, in order and with repetitions, the webhooks that never arrive, and the planted breaks."""

    posts: Sequence[Delivery]
    lost: Sequence[Delivery] = ()
    """Webhooks that never arrive; the providers' lists contain their objects."""
    lost_until_night: Sequence[Delivery] = ()
    """Lost after the backfill, so that the nightly reconciliation finds them."""
    removed: Sequence[tuple[str, str]] = ()
    """(shop, id) of charges with events that Stripe does not contain."""
    breaks: frozenset[tuple[str, str, str]] = frozenset()
    """(shop, kind, charge id) of each planted difference between Stripe and the ledger."""

    @property
    def accepted(self) -> list[Delivery]:
        """Each webhook that must be stored, once."""
        return list(dict.fromkeys(post for post in self.posts if not post.is_refused))

    @property
    def deliveries(self) -> list[Delivery]:
        """All deliveries of the final state: the accepted ones and the backfilled lost ones."""
        return [*self.accepted, *self.lost, *self.lost_until_night]

    @property
    def refused(self) -> Counter[str]:
        """How many posts must be refused, by reason."""
        return Counter(post.fault for post in self.posts if post.is_refused)

    @property
    def repeated(self) -> int:
        return len(self.posts) - self.refused.total() - len(self.accepted)
