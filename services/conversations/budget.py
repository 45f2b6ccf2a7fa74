"""The request budget of a connection at Notion, which all processes share in ``rate_limits``.

Notion allows so many requests in a window of 60 s and answers 429 beyond that; the budget belongs to the
connection, so all shops with one key share it. A request waits for its token in the thread that makes it:
work that went back to the queue for a third of a second would leave tokens unused.
"""

import hashlib
import threading
import time
from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING

from sqlalchemy import Connection

from services.core.clock import utc_now
from services.core.db import transaction
from services.core.errors import Deferred
from services.core.settings import get_settings
from services.ledger.rate_limits import block_bucket, ensure_bucket, find_wait, reserve_calls
from services.ledger.work import FLEET
from services.providers.http import USER_AGENT, parse_retry_after

if TYPE_CHECKING:
    import httpx

WINDOW_SECONDS = 60
BURST = 4
"""Tokens that may be saved up: they are what a process needs between two batches."""
RESERVE = 2
"""Requests of a window that are left out: a request arrives at Notion later than it was counted here."""
LONGEST_PAUSE = timedelta(seconds=5)
"""A longer wait gives the work back to the queue."""
LONGEST_WAIT_SECONDS = 30.0

_waiting: dict[str, threading.Lock] = {}


@cache
def get_notion_client() -> "httpx.Client":
    """Return the process's pool of connections to Notion; each request takes a token of its key."""
    import httpx

    return httpx.Client(
        timeout=httpx.Timeout(60.0, connect=5.0),
        headers={"User-Agent": USER_AGENT},
        follow_redirects=False,
        event_hooks={"request": [_take], "response": [_block]},
    )


def make_bucket(key: str) -> str:
    """Return the name of the budget of the connection with ``key``, from which the key cannot be found."""
    return f"notion:{hashlib.sha256(key.encode()).hexdigest()[:16]}"


def check_budget(tx: Connection, key: str) -> None:
    """Raise ``Deferred`` if no request with ``key`` may be made soon, before work prepares one."""
    wait = find_wait(tx, FLEET, make_bucket(key), utc_now())
    if wait > LONGEST_PAUSE:
        raise _make_deferred(wait)


def _make_deferred(wait: timedelta) -> Deferred:
    return Deferred("notion.budget_used", "the budget is used, or Notion refused more requests", wait=wait)


def take_token(bucket: str) -> None:
    """Wait until a request may be made, and count it; raise ``Deferred`` with the time if that is not soon.

    In a process one thread at a time waits for the tokens of a bucket, in the order of arrival.
    """
    with _waiting.setdefault(bucket, threading.Lock()):
        end = time.monotonic() + LONGEST_WAIT_SECONDS
        while (wait := _reserve(bucket)) is not None:
            if wait > LONGEST_PAUSE or time.monotonic() > end:
                raise _make_deferred(wait)
            time.sleep(wait.total_seconds())


def _reserve(bucket: str) -> timedelta | None:
    """Take a token; return the time to wait if there is none."""
    rate = (get_settings().notion_requests_per_minute - BURST - RESERVE) / WINDOW_SECONDS
    with transaction() as tx:
        now = utc_now()
        ensure_bucket(
            tx, FLEET, bucket, maximum=BURST, restore_per_second=max(rate, 1 / WINDOW_SECONDS), now=now
        )
        waits = reserve_calls(tx, FLEET, bucket, 1, now)
    return waits[0] if waits else None


def _take(request: "httpx.Request") -> None:
    take_token(_find_bucket(request))


def _block(response: "httpx.Response") -> None:
    """After 429 and 529 no process makes a request with this key before ``Retry-After`` is over."""
    if response.status_code not in (429, 529):
        return
    wait = parse_retry_after(response.headers, timedelta(hours=1)) or timedelta(seconds=10)
    with transaction() as tx:
        block_bucket(tx, FLEET, _find_bucket(response.request), wait, utc_now(), cost_points=1.0)


def _find_bucket(request: "httpx.Request") -> str:
    return make_bucket(request.headers.get("Authorization", "").removeprefix("Bearer "))
