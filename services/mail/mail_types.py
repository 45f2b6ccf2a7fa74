"""What a mail type is: its templates, its context, and why its reader gets it.

Each room defines its own mail types and passes them to ``services.mail.compose``.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol
from zoneinfo import ZoneInfo

from services.core.errors import ShopfleetError
from services.mail.message import Attachment


class MailInvalid(ShopfleetError):
    """A mail cannot be composed from its context. The message names the mail type and the fault."""


class MailShop(Protocol):
    """What a mail needs of its shop; ``services.shops.shops.Shop`` has it."""

    @property
    def id(self) -> int: ...
    @property
    def slug(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def currency(self) -> str: ...
    @property
    def zone(self) -> ZoneInfo: ...


MakeSample = Callable[[MailShop | None, datetime], Mapping[str, Any]]
"""Returns a sample context for a shop, or for the fleet: the same for the same arguments."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MailType:
    """A type of mail. ``package`` has ``templates/<name>.html`` and ``templates/<name>.txt``.

    ``why`` is the last line of each mail: it tells the reader why the mail came. The names in ``sample``'s
    context are those that a mail needs: more or fewer are refused. ``images`` are the inline images that
    the HTML shows, by name, with a sample of each. ``can_unsubscribe`` is for digests and letters, not for
    alerts.
    """

    name: str
    package: str
    about: str
    reader: str
    why: str
    sample: MakeSample
    can_unsubscribe: bool = False
    images: Callable[[], Mapping[str, Attachment]] = dict
