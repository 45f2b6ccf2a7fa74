"""Copies of the canvas cache in Valkey. They expire with their entry; the database has the entries.

The name of a copy is a keyed digest of shop and address, so that Valkey has no phone numbers and addresses.
"""

import hashlib
from collections.abc import Collection, Iterable
from datetime import datetime
from functools import cache
from typing import TYPE_CHECKING, cast

import orjson

from services.conversations.cache import CacheEntry
from services.conversations.merchants import Address
from services.core.settings import get_settings
from services.core.valkey import get_copies

if TYPE_CHECKING:
    from redis import Redis

_PREFIX = "canvas:"
_LOADING = "canvas-loading:"
_LOADING_SECONDS = 30


def read_copies(addresses: Collection[Address], now: datetime) -> dict[Address, CacheEntry]:
    """Return the copies that are not expired, by address; none if Valkey does not answer."""
    wanted = list(addresses)
    if not wanted:
        return {}
    found = get_copies().call(
        lambda valkey: cast(list[str | None], valkey.mget([_name(one) for one in wanted]))
    )
    entries = (_parse(*pair) for pair in zip(wanted, found or [], strict=False))
    return {(one.shop_id, one.address): one for one in entries if one is not None and one.expires_at > now}


def write_copies(entries: Iterable[CacheEntry], now: datetime) -> int | None:
    """Copy the entries that are not expired; return their number, None if Valkey does not answer."""
    fresh = [one for one in entries if one.expires_at > now]
    if not fresh:
        return 0

    def write(valkey: "Redis") -> int:
        pipeline = valkey.pipeline(transaction=False)
        for one in fresh:
            left = max(1, int((one.expires_at - now).total_seconds()))
            pipeline.set(_name((one.shop_id, one.address)), _render(one), ex=left)
        pipeline.execute()
        return len(fresh)

    return get_copies().call(write)


def delete_copies(addresses: Collection[Address]) -> bool:
    """Delete the copies; return whether Valkey answered. Otherwise they stay until they expire."""
    names = [_name(one) for one in addresses]
    return not names or get_copies().call(lambda valkey: valkey.delete(*names)) is not None


def begin_loading(address: Address) -> bool:
    """Return whether this process may read Notion for ``address``; without Valkey each process may."""
    name = f"{_LOADING}{_name(address)}"
    answer = get_copies().call(lambda valkey: (valkey.set(name, "1", nx=True, ex=_LOADING_SECONDS),))
    return answer is None or bool(answer[0])


def end_loading(address: Address) -> None:
    get_copies().call(lambda valkey: valkey.delete(f"{_LOADING}{_name(address)}"))


def _name(address: Address) -> str:
    text = f"{address[0]}:{address[1]}".encode()
    return f"{_PREFIX}{hashlib.blake2b(text, key=_digest_key(), digest_size=16).hexdigest()}"


@cache
def _digest_key() -> bytes:
    return hashlib.sha256(b"shopfleet/canvas/v1" + get_settings().secret_key.encode()).digest()


def _render(entry: CacheEntry) -> bytes:
    return orjson.dumps([entry.merchant_id, entry.page_id, entry.checked_at, entry.expires_at])


def _parse(address: Address, text: str | None) -> CacheEntry | None:
    if text is None:
        return None
    try:
        merchant_id, page_id, checked_at, expires_at = orjson.loads(text)
        times = datetime.fromisoformat(checked_at), datetime.fromisoformat(expires_at)
        return CacheEntry(*address, int(merchant_id), str(page_id), *times)
    except (ValueError, TypeError):
        return None
