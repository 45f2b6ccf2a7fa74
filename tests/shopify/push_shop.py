"""A fake Shopify shop for push tests, with the rules for ``changeFromQuantity`` and idempotency keys."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from psycopg.types.json import Jsonb
from sqlalchemy import Engine

from services.audit.append import append_all
from services.core.db import transaction
from services.core.errors import OutcomeUnknown, WorkError
from services.ledger.accept import record_work
from services.ledger.work import Done, NewWork, Outcome, PreparedBatch, PreparedCall, WorkItem
from services.providers.shopify_admin import LevelQuantity, SetLevelsResult, ShopifyLevel, ShopLevelKey
from services.providers.shopify_answers import (
    IdempotencyKeyUsed,
    StockMoved,
    ThrottleStatus,
)
from services.shopify.shop_access import ShopAccess
from services.shopify.stock.push import InventoryPushHandler
from tests.shopify.sample_payloads import (
    ITEM,
    LOCATION,
    NOW,
    rows,
)

FIGURES = "select available, shopify_available from inventory_levels"
WAITING = "select key, payload, next_retry_at from work_queue where topic = 'inventory_push' order by id"

TOKEN = "shpat_0123456789abcdef"
BUCKET = ThrottleStatus(2000, 1990, 100)


@dataclass
class FakeStockApi:
    """Levels of a shop, by Shopify's rules. ``lose`` drops the answer after the change, ``fail`` is raised
    before it, ``refuse`` maps items to their refusals."""

    available: int | None = 10
    """The level that most tests are about; None: not stocked."""
    throttle: ThrottleStatus | None = BUCKET
    cost_points: float | None = 10.0
    fail: WorkError | None = None
    lose: bool = False
    refuse: dict[int, WorkError] = field(default_factory=dict)
    requests: list[dict[str, Any]] = field(default_factory=list)
    during: Callable[[], object] = lambda: None
    opened: list[ShopAccess] = field(default_factory=list)
    others: dict[ShopLevelKey, int] = field(default_factory=dict)
    seen_at: datetime | None = None
    spent: set[str] = field(default_factory=set)

    def held(self, place: ShopLevelKey) -> int | None:
        return self.available if place == ShopLevelKey(ITEM, LOCATION) else self.others.get(place)

    def set_available(
        self, quantities: Sequence[LevelQuantity], *, reference: str, idempotency_key: str
    ) -> SetLevelsResult:
        request = {"quantities": list(quantities), "key": idempotency_key}
        earlier = [one for one in self.requests if one["key"] == idempotency_key]
        assert all(one == request for one in earlier), "one key must carry one intent"
        self.requests.append(request)
        self.during()
        if self.fail:
            raise self.fail
        if idempotency_key in self.spent:
            raise IdempotencyKeyUsed("refused before")
        if not earlier:
            refused = {i: self.refuse[q.place.inventory_item_id] for i, q in enumerate(quantities)
                       if q.place.inventory_item_id in self.refuse}  # fmt: skip
            for index, quantity in enumerate(quantities):
                if quantity.change_from not in (None, self.held(quantity.place)):
                    refused.setdefault(index, StockMoved("moved"))
            if refused:
                self.spent.add(idempotency_key)
                return SetLevelsResult(None, refused)
            for quantity in quantities:
                if quantity.place == ShopLevelKey(ITEM, LOCATION):
                    self.available = quantity.quantity
                else:
                    self.others[quantity.place] = quantity.quantity
        if self.lose:
            self.lose = False
            raise OutcomeUnknown("shopify.no_answer", "sent, then silence")
        return SetLevelsResult(NOW)

    def fetch_levels(self, places: Sequence[ShopLevelKey]) -> dict[ShopLevelKey, ShopifyLevel]:
        found = {place: self.held(place) for place in places}
        return {place: ShopifyLevel(n, self.seen_at) for place, n in found.items() if n is not None}

    @property
    def terms(self) -> list[tuple[int, int | None]]:
        """(new quantity, expected quantity) of each call for the level."""
        return [(q.quantity, q.change_from) for one in self.requests for q in one["quantities"]]


def push_of(api: FakeStockApi) -> InventoryPushHandler:
    def open_api(access: ShopAccess) -> FakeStockApi:
        api.opened.append(access)
        return api

    return InventoryPushHandler(open_api, clock=lambda: NOW)


def take(engine: Engine) -> WorkItem:
    """Lease the oldest waiting push."""
    with transaction(engine) as tx:
        row = tx.exec_driver_sql(
            "update work_queue set locked_at = now(), locked_by = 'w' where id = (select min(id) "
            "from work_queue where topic = 'inventory_push' and status = 'pending' and locked_at is null) "
            "returning id, shop_id, key, payload"
        ).one()
    return WorkItem(
        id=row[0], shop_id=row[1], topic="inventory_push", key=row[2], payload=row[3], retry_count=0
    )


def prepare(engine: Engine, push: InventoryPushHandler, item: WorkItem) -> PreparedBatch | Outcome:
    """Run the first half of a try, which stores the request."""
    with transaction(engine) as tx:
        ready = push.prepare(tx, [item], NOW)[0]
        assert not isinstance(ready, PreparedCall)
        if isinstance(ready, PreparedBatch) and ready.payloads[0]:
            tx.exec_driver_sql(
                "update work_queue set payload = %(payload)s where id = %(id)s",
                {"payload": Jsonb(ready.payloads[0]), "id": item.id},
            )
    return ready


def again(engine: Engine, item: WorkItem) -> WorkItem:
    """Return the item as a later try claims it."""
    (row,) = rows(engine, "select payload, retry_count from work_queue where id = :id", id=item.id)
    return item._replace(payload=row[0], retry_count=row[1])


def run(engine: Engine, api: FakeStockApi, item: WorkItem) -> tuple[Outcome, Sequence[NewWork]]:
    """Run one try: prepare, act, record the result and the follow-up work."""
    ready = prepare(engine, push_of(api), item)
    if not isinstance(ready, PreparedBatch):
        return ready, ()
    answers = ready.act()
    assert answers.record is not None
    (outcome,) = answers.outcomes
    with transaction(engine) as tx:
        if isinstance(outcome, Done):
            tx.exec_driver_sql("update work_queue set status = 'done' where id = %(id)s", {"id": item.id})
        recorded = answers.record(tx, [answers.response_data], [item.id])
        record_work(tx, recorded.new_work, NOW)
        append_all(tx, recorded.audit, NOW)
    return outcome, recorded.new_work


def result_code(outcome: Outcome) -> str:
    return outcome.result if isinstance(outcome, Done) else outcome.code
