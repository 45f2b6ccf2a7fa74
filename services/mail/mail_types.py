"""The kinds of mail there are. Open: whoever has a mail to write registers its kind beside its words."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol
from zoneinfo import ZoneInfo

from services.core.errors import ShopfleetError
from services.mail.message import Attachment


class MailInvalid(ShopfleetError):
    """A mail cannot be composed from what was given; the message names the kind and the fault."""


class MailTypeUnknown(ShopfleetError):
    """There is no kind of mail of that name. The message lists those there are."""


class MailShop(Protocol):
    """What a mail needs to know of its shop; ``services.shops.shops.Shop`` is one."""

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


class MakeSample(Protocol):
    """Makes facts as they could be for a shop, or for the fleet; also the list of what a kind needs."""

    def __call__(self, shop: MailShop | None, now: datetime, /) -> Mapping[str, Any]:
        """Return every fact of the kind; the same for the same arguments."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class MailType:
    """One kind of mail. ``package`` has ``templates/<name>.html`` and ``templates/<name>.txt``.

    ``why`` ends every such mail: it tells the reader why it came. ``sample`` shows the kind without a
    database and defines its facts: composing with fewer or others is refused. ``images`` are the names
    of the inline pictures the HTML shows, with a sample of each. An alert cannot be unsubscribed; a
    digest or a letter can.
    """

    name: str
    package: str
    about: str
    reader: str
    why: str
    sample: MakeSample
    can_unsubscribe: bool = False
    images: Callable[[], Mapping[str, Attachment]] = dict


_KINDS: dict[str, MailType] = {}


def register_mail_type(kind: MailType) -> MailType:
    """``kind`` is known by its name. A second kind of the same name is refused: it would go unseen."""
    if _KINDS.setdefault(kind.name, kind) != kind:
        raise MailInvalid(f"mail kind {kind.name!r} is registered by {_KINDS[kind.name].package} already")
    return kind


def get_mail_type(name: str) -> MailType:
    """Return the kind of that name, or raise ``MailTypeUnknown``."""
    if name not in _KINDS:
        raise MailTypeUnknown(f"there is no mail {name!r}: known are {', '.join(sorted(_KINDS))}")
    return _KINDS[name]


def list_mail_types() -> list[MailType]:
    """Return every registered kind, by name."""
    return [_KINDS[name] for name in sorted(_KINDS)]
