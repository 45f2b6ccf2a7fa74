"""Access to a shop's Notion and Quo: its keys, and the data source at Notion that has its merchants."""

from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy import Connection

from services.core.crypto import SealBroken
from services.core.errors import Misconfigured
from services.core.settings import get_settings
from services.shops.secrets import find_secrets
from services.shops.shops import Shop, get_shop_by_id

if TYPE_CHECKING:
    from services.providers.notion import Notion
    from services.providers.quo_api import Quo


class NotionAccess(NamedTuple):
    """What a call to the Notion of a shop needs."""

    key: str
    data_source_id: str

    def __repr__(self) -> str:
        return f"NotionAccess(data_source_id={self.data_source_id!r})"

    def open(self) -> "Notion":
        """Return the shop's Notion, or the one of ``NOTION_API_BASE``; its requests take from the budget."""
        from services.conversations.budget import get_notion_client
        from services.providers.notion import Notion

        return Notion(get_settings().notion_api_base, self.key, http=get_notion_client())


def find_notion_access(tx: Connection, shop_id: int) -> NotionAccess | None:
    """Return the access; None for a shop without a notion-key and without a data source.

    Raises ``Misconfigured`` if it has only one of them, or a key that does not open.
    """
    shop, key = get_shop_by_id(tx, shop_id), _find_key(tx, shop_id, "notion")
    if not (key or shop.notion_data_source):
        return None
    if not key:
        command = f"fleet shops secret {shop.slug} notion-key --stdin"
        raise Misconfigured("notion.no_key", f"the shop has a data source and no notion-key: `{command}`")
    if not shop.notion_data_source:
        raise no_data_source(shop)
    return NotionAccess(key, shop.notion_data_source)


def no_data_source(shop: Shop) -> Misconfigured:
    """Return the error for a shop with a notion-key and without a data source."""
    why = f"the shop has no data source at Notion: `fleet shops set {shop.slug} --notion-data-source ID`"
    return Misconfigured("notion.no_data_source", why, is_partial=True)


def find_quo_key(tx: Connection, shop_id: int) -> str:
    """Return the shop's quo-key; empty without one. Raises ``Misconfigured`` if it does not open."""
    return _find_key(tx, shop_id, "quo")


def find_resend_key(tx: Connection, shop_id: int) -> str:
    """Return the shop's resend-key; empty without one. Raises ``Misconfigured`` if it does not open."""
    return _find_key(tx, shop_id, "resend")


def open_quo(key: str, pause: Callable[[timedelta], object] | None = None) -> "Quo":
    """Return the workspace of ``key`` at Quo, or the one of ``QUO_API_BASE``; ``pause`` as in ``Quo``."""
    from services.providers.quo_api import Quo

    return Quo(get_settings().quo_api_base, key, pause=pause)


def _find_key(tx: Connection, shop_id: int, name: str) -> str:
    pair = (shop_id, f"{name}-key")
    key = find_secrets(tx, [pair]).get(pair)
    if isinstance(key, SealBroken):
        why = f"the shop's {name}-key does not open: {key}; record it again"
        raise Misconfigured(f"{name}.key_unreadable", why) from key
    return key or ""
