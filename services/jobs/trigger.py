"""Somebody asks for a job now: over HTTP, from the console or on the command line. One road for all."""

from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Connection

from services.audit.append import append_all
from services.core.errors import ShopfleetError
from services.jobs.definition import Job
from services.jobs.runs import StartResult, start_run
from services.shops.shops import Shop, find_shops, get_shop


class ScopeInvalid(ShopfleetError):
    """A shop is named for a job that has none."""


class TriggeredRun(NamedTuple):
    """What asking came to at one shop; ``shop`` is None for a job of the fleet."""

    shop: Shop | None
    start: StartResult


def find_scope(tx: Connection, job: Job, slug: str) -> list[Shop | None]:
    """Return where ``job`` is meant to run: the shop ``slug``, or wherever it runs if no shop is named.

    Raises ``ShopUnknown``, or ``ScopeInvalid`` for a shop of a job that runs once for the fleet.
    """
    if slug and not job.per_shop:
        raise ScopeInvalid(f"{job.name} runs once for the whole fleet: leave the shop {slug!r} out")
    if slug:
        return [get_shop(tx, slug)]
    # By id, so that two who ask at once lock the shops' rows in one order.
    return [*sorted(find_shops(tx), key=lambda shop: shop.id)] if job.per_shop else [None]


def trigger_job(
    tx: Connection,
    job: Job,
    slug: str,
    period: str | None,
    *,
    origin: str,
    by: str,
    now: datetime,
    force: bool = False,
    request_id: str = "",
) -> list[TriggeredRun]:
    """``job`` is under way, or was done already, at the shop ``slug`` or everywhere; see ``start_run``.

    At a shop where it is paused it runs too: somebody asked for it. Raises what ``find_scope`` and
    ``start_run`` do, and then nothing has begun anywhere, once the caller rolls back.
    """
    asked = [
        TriggeredRun(
            shop,
            start_run(
                tx, job, shop, period, origin=origin, by=by, now=now, force=force, request_id=request_id
            ),
        )
        for shop in find_scope(tx, job, slug)
    ]
    append_all(tx, [entry for one in asked for entry in one.start.audit], now)
    return asked
