"""Waits until the workers have processed a shop's first backfill, and names what stops them."""

import time
from collections.abc import Callable

from services.cli.pauses import describe_pause
from services.cli.server_errors import IS_IT_UP
from services.core.broker_probe import ping
from services.core.clock import utc_now
from services.core.db import transaction
from services.core.errors import describe_server
from services.core.pg_arrays import text_array
from services.core.settings import get_settings
from services.ledger.components import describe_components_down, read_components
from services.ledger.pause import list_pauses
from services.ledger.topics import TOPICS
from services.shopify.backfill.run import Progress
from services.shopify.first_contact import COUNT_WORK
from services.shops.shops import Shop

STALLED_AFTER_SECONDS = 60.0
"""Without a settled work item for this long, no worker processes what was read."""

CAUSES_AFTER_SECONDS = 5.0
"""Without a settled work item for this long, the causes are looked for."""

_QUEUE = "webhooks"
_TOPICS = [topic.name for topic in TOPICS.values() if topic.queue == _QUEUE]


def wait_for_workers(
    shop: Shop,
    on_progress: Progress,
    on_cause: Callable[[str], None],
    pause: Callable[[float], None] = time.sleep,
) -> tuple[int, int]:
    """Wait until the workers have processed the backfill; return how many items wait, and how many are dead.

    Returns early if none was settled for ``STALLED_AFTER_SECONDS``. ``on_cause`` gets each cause once.
    """
    values = {"shop_id": shop.id, "topic": text_array(_TOPICS)}
    most, least, moved_at, asked_at = 0, None, time.monotonic(), 0.0
    named: set[str] = set()
    while True:
        with transaction() as tx:
            row = tx.exec_driver_sql(COUNT_WORK, values).one()
        waiting, dead = int(row.waiting), int(row.dead)
        most = max(most, waiting)
        if most:
            on_progress("processed by the workers", most - waiting, most)
        now = time.monotonic()
        if least is None or waiting < least:
            least, moved_at = waiting, now
        if not waiting or now > moved_at + STALLED_AFTER_SECONDS:
            return waiting, dead
        if now > max(moved_at, asked_at) + CAUSES_AFTER_SECONDS:
            asked_at = now
            causes = list_causes(shop)
            for part in causes.keys() - named:
                on_cause(f"waiting: {causes[part]}")
            named |= causes.keys()
        pause(0.5)


def list_causes(shop: Shop) -> dict[str, str]:
    """Return the pauses that hold the shop's work, and the components down that this work needs."""
    now = utc_now()
    with transaction() as tx:
        components = read_components(tx, now)
        pauses = [one for one in list_pauses(tx) if one.mode != "drain"]
    is_broker_up = ping() is not None
    held = {
        f"pause {one.id}": f"{one.scope} is paused, {describe_pause(one)}: `celery -A tasks resume` ends it"
        for one in pauses
        if one.scope.queue in ("", _QUEUE)
        and one.scope.topic in ("", *_TOPICS)
        and one.scope.shop_id in (None, shop.id)
    }
    down = describe_components_down(components, now, is_broker_up=is_broker_up)
    if "broker" in down:
        down["broker"] = (
            f"the broker at {describe_server(get_settings().broker_url)} does not answer. {IS_IT_UP}"
        )
    return held | {part: down[part] for part in ("broker", "beat", f"worker:{_QUEUE}") if part in down}
