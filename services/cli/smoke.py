"""``fleet smoke``: the test after a deploy, from a signed webhook to a packed box, on a shop of its own."""

import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from typing import Any, NamedTuple
from uuid import uuid4

import click
import httpx
import orjson
from sqlalchemy import Connection

from services.accounts.api_tokens import create_token
from services.accounts.people import add_person, find_access, find_user_id, get_person, remove_person
from services.accounts.roles import Role
from services.audit.append import Author
from services.cli.alerts_test import NOT_SET, send_tests, wait_for_tests
from services.cli.base import ReportingCommand, actor_option, audit_author, dry_run_option, json_option
from services.cli.output import print_json
from services.cli.send import URL, get_ingress_url
from services.core.clock import utc_now
from services.core.counts import format_count
from services.core.db import transaction
from services.core.errors import ShopfleetError
from services.providers.registry import sign
from services.shopfloor.board import find_floor_order, read_stages
from services.shopfloor.labels import render_png
from services.shopfloor.print_labels import read_labels
from services.shopfloor.transitions import ScanRequest, raise_refused, record_scan
from services.shops.secrets import get_secret, record_secret
from services.shops.shops import Shop, ShopUnknown, add_shop, get_shop, set_shop

SLUG, EMAIL, SECRET = "smoke-test", "smoke-test@example.com", "shopify-webhook"
STEPS = ("health", "ingest", "board", "label", "stages", "alerts", "clean up")
_POLL_SECONDS = 0.2
_IS_USED = "select exists (select from orders where shop_id = %(shop_id)s and not is_test)"
_FIND = "select stage, deleted_at from orders where shop_id = %(shop_id)s and order_gid = %(gid)s"


class StepResult(NamedTuple):
    """A step of the test; ``detail`` is what was seen, or the fault."""

    step: str
    ok: bool
    seconds: float
    detail: str


class SmokeTest:
    """One run: its shop, its person with the role floor, and its order."""

    def __init__(self, base_url: str, longest: timedelta, author: Callable[[], Author]) -> None:
        self.base_url, self.longest, self.author = base_url.rstrip("/"), longest, author
        self.number = 9 * 10**12 + secrets.randbelow(10**12)
        self.gid = f"gid://shopify/Order/{self.number}"
        self.shop: Shop
        self.secret = self.token = ""
        self.http = httpx.Client(timeout=10)

    def run(self) -> Iterator[StepResult]:
        """Yield the result of each step; after a failure only ``clean up`` follows."""
        actions = (
            self.check_health, self.ingest, self.wait_for_board, self.print_label, self.move, self.alert,
        )  # fmt: skip
        is_good = True
        for step, act in zip(STEPS, (*actions, self.clean_up), strict=True):
            if not is_good and step != STEPS[-1]:
                continue
            begun = time.monotonic()
            try:
                detail, ok = act(), True
            except (ShopfleetError, httpx.HTTPError) as fault:
                detail, ok = str(fault) or type(fault).__name__, False
            is_good = is_good and ok
            yield StepResult(step, ok, round(time.monotonic() - begun, 2), detail)

    def check_health(self) -> str:
        """Check that ingress takes webhooks; return what /health answers, maybe 503 during a deploy."""
        answer = self.http.get(f"{self.base_url}/readyz")
        if answer.status_code != 200:
            raise ShopfleetError(f"{self.base_url}/readyz answers {answer.status_code}")
        health = self.http.get(f"{self.base_url}/health")
        return f"{self.base_url} is ready; /health answers {health.status_code}"

    def ingest(self) -> str:
        """Post the signed order, and wait until it is recorded."""
        with transaction() as tx:
            self.shop = _prepare_shop(tx, self.author())
            self.token = _prepare_person(tx, self.shop, self.author())
            found = get_secret(tx, self.shop.id, SECRET)
        if found is None:
            raise ShopfleetError(f"{SLUG} has no {SECRET}")
        self.secret = found
        at = utc_now().isoformat(timespec="seconds")
        self._post("orders/create", {
            "id": self.number, "admin_graphql_api_id": self.gid, "name": f"#SMOKE{self.number % 10**6}",
            "test": True, "currency": self.shop.currency, "total_price": "1.00", "financial_status": "paid",
            "created_at": at, "updated_at": at, "note": "smoke test",
            "line_items": [{"id": self.number, "title": "Smoke test", "quantity": 1, "price": "1.00"}],
        })  # fmt: skip
        self._wait("the order to be recorded", lambda tx: self._find(tx) is not None)
        return f"order {self.number} of {SLUG} is recorded"

    def wait_for_board(self) -> str:
        """Wait until the follow-up work has put the order on the board."""

        def is_on_board(tx: Connection) -> bool:
            return find_floor_order(tx, self.shop.id, self.gid) is not None

        self._wait("stage_sync to put the order on the board", is_on_board)
        return "the order is on the board"

    def print_label(self) -> str:
        """Draw the label of the order."""
        with transaction() as tx:
            (label,) = read_labels(tx, self.shop, [str(self.number)], **self.author())
        return f"label {label.code}: {format_count(len(render_png(label)), 'byte')}"

    def move(self) -> str:
        """Start and finish every stage; check that the order is complete."""
        with transaction() as tx:
            stages = read_stages(tx, self.shop.id)
        for stage in stages[:-1]:
            for action in ("start", "finish"):
                scan = ScanRequest(self.shop, self.gid, uuid4(), action, stage)
                with transaction() as tx:
                    raise_refused(record_scan(tx, self.token, scan, **self.author()))
        with transaction() as tx:
            row = self._find(tx)
        if row is None or row.stage != stages[-1]:
            raise ShopfleetError(f"the order should be at {stages[-1]}, but is at {row and row.stage}")
        return " -> ".join(stages)

    def alert(self) -> str:
        """Send a test message to Slack and Sentry through the workers, if they are set up there."""
        work = send_tests(("slack", "sentry"), self.author()["by"], is_silent=True)
        results = wait_for_tests(work, self.longest, is_silent=True)
        for one in results:
            if one["status"] not in ("done", NOT_SET):
                raise ShopfleetError(f"{one['channel']}: {one['message']}")
        states = {one["channel"]: "not set up" if one["status"] == NOT_SET else "sent" for one in results}
        return ", ".join(f"{channel}: {state}" for channel, state in states.items())

    def clean_up(self) -> str:
        """Delete the order by a signed webhook, and remove the person with its token."""
        with transaction() as tx:
            if find_user_id(tx, EMAIL) is not None:
                remove_person(tx, get_person(tx, EMAIL), **self.author())
        if not self.secret:
            return "nothing was sent"
        self._post("orders/delete", {"id": self.number})
        self._wait("the order to be deleted", lambda tx: (row := self._find(tx)) is None or row.deleted_at)
        return "the order is deleted, the person is removed"

    def _post(self, topic: str, body: Mapping[str, Any]) -> None:
        """Post ``body`` until ingress, which may not know a new shop at once, accepts it."""
        raw = orjson.dumps(body)
        domain = self.shop.shopify_domain or f"{SLUG}.myshopify.com"
        about = {"topic": topic, "webhook_id": str(uuid4()), "domain": domain}
        headers = sign("shopify", raw, self.secret, **about, now=utc_now())
        until = utc_now() + self.longest
        while True:
            answer = self.http.post(f"{self.base_url}/webhooks/shopify/{SLUG}", content=raw, headers=headers)
            if answer.status_code == 200:
                return
            if answer.status_code not in (401, 404, 503) or utc_now() >= until:
                text = f"{answer.status_code} to {topic}: {answer.text.strip()[:200]}"
                raise ShopfleetError(f"ingress answers {text}")
            time.sleep(_POLL_SECONDS)

    def _wait(self, what: str, is_true: Callable[[Connection], object]) -> None:
        until = utc_now() + self.longest
        while True:
            with transaction() as tx:
                if is_true(tx):
                    return
            if utc_now() >= until:
                waited = f"waited {self.longest.total_seconds():g} s for {what}"
                raise ShopfleetError(f"{waited}: see `fleet doctor`")
            time.sleep(_POLL_SECONDS)

    def _find(self, tx: Connection) -> Any:
        return tx.exec_driver_sql(_FIND, {"shop_id": self.shop.id, "gid": self.gid}).one_or_none()


def _prepare_shop(tx: Connection, author: Author) -> Shop:
    """Return the shop of the test, which is added if it is missing; a shop with real orders is refused."""
    now, by, request_id = author["now"], author["by"], author.get("request_id", "")
    try:
        shop = get_shop(tx, SLUG)
    except ShopUnknown:
        shop = add_shop(
            tx, slug=SLUG, name="Smoke test", timezone="UTC", currency="CAD", shop_floor="on", now=now, by=by,
            request_id=request_id,
        )  # fmt: skip
    if tx.exec_driver_sql(_IS_USED, {"shop_id": shop.id}).scalar():
        raise ShopfleetError(f"the shop {SLUG} has orders that are no test orders: it is no test shop")
    if get_secret(tx, shop.id, SECRET) is None:
        record_secret(tx, shop.id, SECRET, secrets.token_hex(32), now, by=by, request_id=request_id)
    return set_shop(tx, SLUG, {"shop_floor": "on"}, now=now, by=by, request_id=request_id)


def _prepare_person(tx: Connection, shop: Shop, author: Author) -> str:
    """Add the person of the test; return a token that is valid for an hour."""
    if find_user_id(tx, EMAIL) is not None:
        remove_person(tx, get_person(tx, EMAIL), **author)
    access = find_access(tx, add_person(tx, EMAIL, "Smoke test", {shop.id: Role.FLOOR}, **author))
    if access is None:
        raise ShopfleetError(f"{EMAIL} has no role")
    return create_token(tx, access, "smoke test", Role.FLOOR, timedelta(hours=1), **author)


@click.command("smoke", cls=ReportingCommand)
@click.option("--base-url", type=URL, default="", help="Where ingress listens (default: this fleet's).")
@click.option(
    "--timeout",
    "wait_seconds",
    type=click.FloatRange(0, 600, min_open=True),
    default=60,
    show_default=True,
    help="Most seconds to wait in each step.",
)
@dry_run_option
@actor_option
@json_option
@click.pass_context
def command(
    ctx: click.Context, base_url: str, wait_seconds: float, dry_run: bool, actor: str, as_json: bool
) -> None:
    """Test a fleet after a deploy: signed test order, label, every stage, alerts, clean up. Exit code 0 or 1.

    Safe in production: the shop smoke-test, which it adds, gets a test order, which counts in no report.
    Slack and Sentry get a test message, if the workers have them.

    \b
    Example: fleet smoke --base-url https://hooks.example.com
    """
    labels = audit_author(actor)

    def author() -> Author:
        return {"now": utc_now(), "by": labels["by"], "request_id": labels["request_id"]}

    test = SmokeTest(base_url or get_ingress_url(), timedelta(seconds=wait_seconds), author)
    if dry_run:
        results = [StepResult(step, True, 0.0, "would run") for step in STEPS]
    else:
        results = []
        for one in test.run():
            results.append(one)
            if not as_json:
                click.echo(f"{'ok    ' if one.ok else 'FAILED'} {one.step}: {one.detail} ({one.seconds:g} s)")
    is_good = all(one.ok for one in results)
    if as_json:
        print_json({"ok": is_good, "steps": [one._asdict() for one in results]})
    elif dry_run:
        click.echo(f"Would run: {', '.join(STEPS)}.")
    ctx.exit(0 if is_good else 1)
