"""Events of calls and messages onto pages of Notion, at the request budget of a connection.

Notion grants a connection so many requests in 60 s. The usual loop takes one event after the other: it looks
for the page, appends one block and waits until the next request is allowed. Ours is the whole workflow with
Celery workers, beat and ledger: the steps of all events share the budget, and what waits for one page is one
request.
The sandbox counts the requests that it granted and refused: one refused request voids the round.
"""

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace
from typing import Any

import httpx
import orjson
import psycopg

from benchmarks import ours
from benchmarks.processes import BenchmarkFailed, await_true, run_once, running
from benchmarks.results import Figures, Report
from benchmarks.rows import EMPTY
from benchmarks.servers import Servers, create_database, drop_database, empty_brokers
from benchmarks.ways import Bench
from services.providers.notion import Notion
from services.sandbox.notion.connection import SAMPLE_DATA_SOURCE
from services.sandbox.serve import SandboxServer
from services.sandbox.state import SandboxState

LOOP, OURS = "one event at a time", "the workflow, 2 workers"
LIMIT, WINDOW_SECONDS = 180, 60.0
ANSWER_SECONDS = 0.2
EVENTS_A_MERCHANT = 5
LEAST_USED_PERCENT = 95.0
KEY = "ntn_bench"
COLUMNS = {
    "events_per_second": "events/s",
    "budget_percent": "% of the budget",
    "refused": "refused",
    "events": "events",
}
_WRITTEN = "select count(*) from interactions where page_state = 'written'"


def measure(servers: Servers, *, seconds: float) -> Report:
    """Return the report of ``seconds`` of each way; a whole number of windows shows the budget best."""
    report = Report(
        name="conversations",
        title=f"Messages onto pages of Notion, {LIMIT} requests a minute, {ANSWER_SECONDS} s an answer",
        columns=COLUMNS,
        baseline=LOOP,
        settings={"seconds": seconds, "limit": LIMIT, "events_a_merchant": EVENTS_A_MERCHANT},
    )
    for way, run in ((LOOP, _run_loop), (OURS, _run_workflow)):
        try:
            with _open_sandbox() as sandbox:
                report.add(way, run(servers, sandbox, seconds))
        except BenchmarkFailed as failed:
            report.fail(way, failed)
    return report


@contextmanager
def _open_sandbox() -> Iterator[str]:
    """Run the sandbox in a thread and yield its address."""
    server = SandboxServer(0, SandboxState())
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        control = {"notion_key": KEY, "limit": {"requests": LIMIT}, "slow_seconds": ANSWER_SECONDS}
        httpx.post(f"{server.url}/_control", json=control).raise_for_status()
        yield server.url
    finally:
        server.shutdown()
        server.server_close()


def _count_requests(sandbox: str) -> SimpleNamespace:
    found = httpx.get(f"{sandbox}/_control").json()["notion"][KEY]["connection"]
    return SimpleNamespace(**found)


def _make_figures(sandbox: str, events: int, requests: int, seconds: float) -> Figures:
    refused = _count_requests(sandbox).refused
    if refused:
        raise BenchmarkFailed(f"Notion refused {refused} requests: the budget was exceeded")
    return {
        "events_per_second": round(events / seconds, 2),
        "budget_percent": round(100 * requests / (LIMIT * seconds / WINDOW_SECONDS), 1),
        "refused": refused,
        "events": events,
    }


def _run_loop(_servers: Servers, sandbox: str, seconds: float) -> Figures:
    """Write one block for each event, as a script does that keeps below the limit by waiting."""
    notion = Notion(f"{sandbox}/notion", KEY)
    began, number = time.monotonic(), 0
    pause = WINDOW_SECONDS / (LIMIT - 2)  # the window of Notion begins a moment before ours

    def wait() -> None:
        time.sleep(max(0.0, began + _count_requests(sandbox).requests * pause - time.monotonic()))

    while time.monotonic() - began < seconds:
        phone = _phone(number // EVENTS_A_MERCHANT)
        wait()
        condition = {"property": "Phone", "phone_number": {"equals": phone}}
        page = next(iter(notion.list_pages(SAMPLE_DATA_SOURCE, condition)), None)
        if page is None:
            wait()
            title = {"title": [{"type": "text", "text": {"content": phone}}]}
            page = notion.create_page(SAMPLE_DATA_SOURCE, {"Name": title, "Phone": {"phone_number": phone}})
        wait()
        text = {"rich_text": [{"type": "text", "text": {"content": f"message {number}"}}]}
        notion.append_children(page["id"], [{"type": "paragraph", "paragraph": text}])
        number += 1
    spent = time.monotonic() - began
    return _make_figures(sandbox, number, _count_requests(sandbox).requests, spent)


def _run_workflow(servers: Servers, sandbox: str, seconds: float) -> Figures:
    """Store more events than the budget allows, and count what is on pages after ``seconds``."""
    name = f"conversations_{time.monotonic_ns()}"
    url = create_database(servers, name, template=EMPTY)
    bench = Bench(servers=servers, database_url=url, logs=servers.home)
    empty_brokers(servers)
    env = {
        **ours.env(bench),
        "NOTION_API_BASE": f"{sandbox}/notion",
        "QUO_API_BASE": f"{sandbox}/quo",
        "ALLOW_PRIVATE_URLS": "1",
    }
    log = servers.home / "conversations.log"
    events = int(LIMIT * seconds / WINDOW_SECONDS) * EVENTS_A_MERCHANT
    try:
        run_once([sys.executable, "-m", "benchmarks.conversations", str(events)], log=log, env=env)
        flags = ["-c", "2", "-l", "WARNING", "--without-gossip", "--without-mingle"]
        with ExitStack() as stack:
            for words in (["worker", "-Q", "webhooks,sync,ops", *flags], ["beat", "-l", "WARNING"]):
                argv = [ours.BIN / "celery", "-A", "tasks", *words]
                stack.enter_context(running(argv, log=log, env=env))
            conn = stack.enter_context(psycopg.connect(bench.database_url, autocommit=True))
            await_true(
                lambda: _count_requests(sandbox).requests > 0, what="a request to Notion", seconds=60, log=log
            )
            began = time.monotonic()
            written, asked = _count(conn), _count_requests(sandbox).requests
            time.sleep(seconds)
            spent = time.monotonic() - began
            written, asked = _count(conn) - written, _count_requests(sandbox).requests - asked
        figures = _make_figures(sandbox, written, asked, spent)
        if figures["budget_percent"] < LEAST_USED_PERCENT:
            print(f"{figures['budget_percent']}% of the budget is used, less than {LEAST_USED_PERCENT}%")
        return figures
    finally:
        drop_database(servers, name)


def _count(conn: psycopg.Connection[Any]) -> int:
    row = conn.execute(_WRITTEN).fetchone()
    assert row is not None
    return int(row[0])


def _phone(number: int) -> str:
    return f"+1555{number:07d}"


def _fill(count: int) -> None:
    """Connect the shop ``bench`` to Notion, and record ``count`` messages and their work."""
    from services.core.clock import utc_now
    from services.core.db import transaction
    from services.ledger.accept import NewEvent, record_events
    from services.shops.secrets import record_secret
    from services.shops.shops import get_shop, set_shop

    now = utc_now()
    with transaction() as tx:
        set_shop(tx, "bench", {"notion_data_source": SAMPLE_DATA_SOURCE}, now=now)
        shop = get_shop(tx, "bench")
        record_secret(tx, shop.id, "notion-key", KEY, now)
    for first in range(0, count, 500):
        events = [
            NewEvent(
                shop_id=shop.id,
                provider="openphone",
                topic="message.received",
                delivery_key=f"bench-{number}",
                body=_make_body(number, now.isoformat(timespec="milliseconds").replace("+00:00", "Z")),
                received_at=now,
            )
            for number in range(first, min(first + 500, count))
        ]
        with transaction() as tx:
            record_events(tx, events)


def _make_body(number: int, at: str) -> bytes:
    phone = _phone(number // EVENTS_A_MERCHANT)
    resource = {"id": f"AC{number}", "direction": "incoming", "status": "received", "createdAt": at,
                "text": f"message {number}", "from": phone, "to": ["+15550000001"]}  # fmt: skip
    context = {"participants": {"workspace": ["+15550000001"], "external": [phone]}}
    event = {
        "id": f"EV{number}",
        "apiVersion": "2026-03-30",
        "createdAt": at,
        "type": "message.received",
        "data": {"resource": resource, "context": context, "links": {}},
    }
    return orjson.dumps(event)


if __name__ == "__main__":
    _fill(int(sys.argv[1]))
