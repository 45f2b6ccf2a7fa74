"""One webhook of the demo, and the plan that says which are posted when. Pure data."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

BAD_SIGNATURE = "bad signature"
STALE = "stale timestamp"
UNREADABLE = "unreadable body"
INCOMPLETE = "incomplete body"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Delivery:
    """A webhook as its provider sends it, once or several times.

    ``at`` is when it happened by the shop's day; ``fault`` says what is wrong with it on purpose.
    ``before`` is told to the sandbox just before the first post: what the provider itself holds then.
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
        """Whether ingress must answer 401 and keep nothing."""
        return self.fault in (BAD_SIGNATURE, STALE)

    @property
    def is_told(self) -> bool:
        """Whether its content is to become an effect."""
        return not self.fault

    @property
    def path(self) -> str:
        """Where it is posted."""
        route = "openphone" if self.provider == "quo" else self.provider
        return f"/webhooks/{route}/{self.shop}"


class PlannedBreak(NamedTuple):
    """A difference between Stripe and the books that was planted on purpose."""

    shop: str
    kind: str
    charge_id: str


@dataclass(frozen=True, slots=True)
class DayPlan:
    """What is posted, in order and with its repetitions, what never arrives, and what was planted."""

    posts: Sequence[Delivery]
    lost: Sequence[Delivery] = ()
    """Webhooks that are lost on the way: the providers' own lists have what they told."""
    unheard: Sequence[Delivery] = ()
    """Lost after the gaps were healed, so that the night finds them."""
    altered: dict[str, dict[str, Any]] = field(default_factory=dict)
    """By shop: what Stripe is made to hold otherwise than it told."""
    breaks: frozenset[PlannedBreak] = frozenset()

    @property
    def told(self) -> list[Delivery]:
        """Everything that the state must come to: what was kept, and what was lost and is brought in."""
        return [*self.accepted, *self.lost, *self.unheard]

    @property
    def mended(self) -> frozenset[PlannedBreak]:
        """The breaks that a lost webhook explains."""
        return frozenset(one for one in self.breaks if one.kind != "missing_there")

    @property
    def accepted(self) -> list[Delivery]:
        """Each webhook that must be kept, once."""
        return list(dict.fromkeys(post for post in self.posts if not post.is_refused))

    @property
    def refused(self) -> Counter[str]:
        """How many posts must be refused, by reason."""
        return Counter(post.fault for post in self.posts if post.is_refused)

    @property
    def repeated(self) -> int:
        """How many posts repeat an earlier one that was kept."""
        return sum(not post.is_refused for post in self.posts) - len(self.accepted)
