"""A shop with a floor, its people and its orders."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import Connection, Engine

from services.accounts.people import add_person
from services.accounts.roles import Role
from services.accounts.sessions import start_session
from services.audit.append import append_all
from services.core.clock import utc_now
from services.core.db import transaction
from services.ledger.work import NewWork
from services.shopfloor.handler import sync_stages
from services.shopfloor.transitions import ScanRequest, ScanResult, record_scan
from services.shopify.orders.handler import ingest_orders
from services.shops.shops import get_shop
from tests.shopify.sample_payloads import ORDER, SHOP, add_shop, ingest, item, order, rows

GID = f"gid://shopify/Order/{ORDER}"
STAGES = ["Filling", "Covering", "Decorating", "Packing", "Complete"]


def make_floor(engine: Engine) -> None:
    """Add a shop whose orders go to the board."""
    add_shop(engine)
    with transaction(engine) as tx:
        tx.exec_driver_sql("update shop_config set shop_floor = 'on'")


def sign_in(engine: Engine, name: str, role: Role = Role.FLOOR, *, has_second_factor: bool = True) -> str:
    """Add a person with ``role`` at the shop; return the token of a session."""
    with transaction(engine) as tx:
        user_id = add_person(tx, f"{name.lower()}@example.com", name, {SHOP: role}, by="test", now=utc_now())
        return start_session(tx, user_id, "", "", utc_now(), has_second_factor=has_second_factor)


def scan(
    engine: Engine,
    token: str,
    action: str = "scan",
    stage: str = "",
    *,
    gid: str = GID,
    scan_id: UUID | None = None,
    assignee_id: int | None = None,
) -> ScanResult:
    with transaction(engine) as tx:
        request = ScanRequest(get_shop(tx, "harbour"), gid, scan_id or uuid4(), action, stage, assignee_id)
        return record_scan(tx, token, request, by="test", now=utc_now())


def sync(engine: Engine, planned: Sequence[NewWork], bodies: dict[int, bytes]) -> list[str]:
    """Run the planned work of topic stage_sync; ``bodies`` are those of the events."""
    items = [
        item("stage_sync", bodies.get(work.event_id or 0, b"{}"), event_topic="orders/updated")._replace(
            key=work.key, payload=work.payload
        )
        for work in planned
        if work.topic == "stage_sync"
    ]
    with transaction(engine) as tx:
        result = sync_stages(tx, items, utc_now())
        append_all(tx, result.audit, utc_now())
    return [getattr(one, "result", "") for one in result.outcomes]


def place_order(engine: Engine, updated: float = 0, **fields: Any) -> list[str]:
    """Ingest an order, and put it on the board as its follow-up work does."""
    ordered = order(updated, **fields)
    done = ingest(engine, ingest_orders, ordered)
    return sync(engine, done.new_work, {ordered.event_id or 0: ordered.body})


def read_order(tx: Connection, gid: str = GID) -> Any:
    return tx.exec_driver_sql("select * from floor_orders where order_gid = %(gid)s", {"gid": gid}).one()


def read_stages(engine: Engine) -> list[Any]:
    return rows(
        engine, "select stage, started_by, finished_by from order_stages order by started_at, finished_at"
    )
