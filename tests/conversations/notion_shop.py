"""A shop with Quo and Notion: its events, the runs of their workflows, and the pages of the sandbox."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from random import Random
from threading import Thread
from typing import Any

import httpx
import orjson
from sqlalchemy import Engine, text

from services.conversations import pages
from services.core.clock import utc_now
from services.core.db import transaction
from services.ledger.accept import NewEvent, record_events
from services.ledger.runner_external import ExternalRunner
from services.ledger.runner_transactional import TransactionalRunner
from services.ledger.settle import BatchResult
from services.ledger.steps import WORKFLOWS
from services.ledger.topics import TOPICS
from services.sandbox.notion.connection import SAMPLE_DATA_SOURCE
from services.sandbox.serve import SandboxServer
from services.sandbox.state import SandboxState
from services.shops.secrets import record_secret
from services.shops.shops import Shop, add_shop
from tasks.handlers import EXTERNAL, TRANSACTIONAL
from tests.fakes.settings import settings_of
from tests.sandbox.notion import Clock

NOTION_KEY, QUO_KEY = "ntn_acme", "quo-acme"
STEPS = tuple(dict.fromkeys(step for workflow in WORKFLOWS.values() for step in workflow.steps))


@dataclass
class NotionShop:
    """The shop and its sandbox. ``results``: what the runners settled, in order."""

    engine: Engine
    server: SandboxServer
    shop: Shop
    clock: Clock
    results: list[BatchResult] = field(default_factory=list)
    _deliveries: int = 0

    def receive(self, *events: Mapping[str, Any], provider: str = "openphone") -> None:
        """Record deliveries of the events, each one new."""
        new = []
        for event in events:
            self._deliveries += 1
            new.append(
                NewEvent(
                    shop_id=self.shop.id,
                    provider=provider,
                    topic=str(event["type"]),
                    delivery_key=f"delivery-{self._deliveries}",
                    body=orjson.dumps(event),
                    received_at=utc_now(),
                )
            )
        with transaction(self.engine) as tx:
            record_events(tx, new)

    def run(self, *topics: str) -> None:
        """Run the ready work of the topics, by default of all steps, until a round gets none of it done."""
        while sum([self._run_topic(topic) for topic in topics or STEPS]):
            pass

    def run_to_the_end(self) -> None:
        """Run all steps and let time pass until no work waits."""
        for _ in range(200):
            self.run()
            if not self.rows("select 1 from work_queue where status in ('pending', 'error') limit 1"):
                return
            self.pass_time(timedelta(minutes=2))
        raise AssertionError("work waits after 200 rounds")

    def pass_time(self, by: timedelta) -> None:
        """Make everything that waits ready, as if ``by`` had passed."""
        self.clock.now += by.total_seconds()
        with transaction(self.engine) as tx:
            values = {"by": by}
            tx.execute(
                text("update work_queue set next_retry_at = null where status in ('pending', 'error')")
            )
            tx.execute(text("update rate_limits set updated_at = updated_at - :by"), values)
            tx.execute(text("update merchants set page_attempted_at = page_attempted_at - :by"), values)

    def control(self, **request: Any) -> None:
        body = {"notion_key": NOTION_KEY, **request}
        httpx.post(f"{self.server.url}/_control", json=body).raise_for_status()

    def control_quo(self, **request: Any) -> None:
        body = {"quo_key": QUO_KEY, **request}
        httpx.post(f"{self.server.url}/_control", json=body).raise_for_status()

    def counts(self) -> dict[str, Any]:
        found: dict[str, Any] = httpx.get(f"{self.server.url}/_control").json()["notion"][NOTION_KEY]
        return found

    def requests(self) -> int:
        return int(self.counts()["connection"]["requests"])

    def pages(self) -> list[dict[str, Any]]:
        """Return the pages of the workspace that are not in the trash."""
        found = httpx.get(f"{self.server.url}/_control/notion", params={"key": NOTION_KEY}).json()["pages"]
        return [page for page in found if not page["in_trash"]]

    def titles(self) -> list[list[str]]:
        """Return the titles of the toggles of each page, without their markers."""
        return [[title.rpartition(" shopfleet-")[0] for title in page["texts"]] for page in self.pages()]

    def rows(self, statement: str) -> Sequence[Any]:
        with transaction(self.engine) as tx:
            return [tuple(row) for row in tx.execute(text(statement))]

    def _run_topic(self, name: str) -> int:
        if name in TRANSACTIONAL:
            runner = TransactionalRunner(self.engine, "tester", Random(1))
            result = runner.run_batch(TOPICS[name], TRANSACTIONAL[name])
        else:
            external = ExternalRunner(self.engine, "tester", Random(1))
            topic = replace(TOPICS[name], batch_size=100, shop_cap=100, calls_at_once=8)
            result = external.run_batch(topic, EXTERNAL[name])
        self.results.append(result)
        return result.done


@contextmanager
def shop_with_notion(engine: Engine, **settings: str) -> Iterator[NotionShop]:
    """Yield a shop that is connected to the sandboxes of Quo and Notion."""
    pages._schemas.clear()
    clock = Clock()
    server = SandboxServer(0, SandboxState(clock=clock))
    Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    addresses = {"NOTION_API_BASE": f"{server.url}/notion", "QUO_API_BASE": f"{server.url}/quo"}
    values = {"NOTION_REQUESTS_PER_MINUTE": "600000"} | addresses | settings
    try:
        with settings_of(**values):
            with transaction(engine) as tx:
                shop = add_shop(
                    tx,
                    slug="acme",
                    name="Acme",
                    timezone="America/Vancouver",
                    currency="CAD",
                    now=utc_now(),
                    notion_data_source=SAMPLE_DATA_SOURCE,
                )
                record_secret(tx, shop.id, "notion-key", NOTION_KEY, utc_now())
                record_secret(tx, shop.id, "quo-key", QUO_KEY, utc_now())
            one = NotionShop(engine, server, shop, clock)
            one.control(limit={"requests": 0})
            one.control_quo(limit=0)
            yield one
    finally:
        server.shutdown()
        server.server_close()
