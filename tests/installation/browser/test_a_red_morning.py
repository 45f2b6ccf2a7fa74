"""One morning in a real Chromium: from a red shop to its dead work, all of it requeued, and to green."""

import re
from datetime import timedelta
from random import Random

import pytest
from playwright.sync_api import Page, expect
from sqlalchemy import Engine, text

from services.accounts.roles import Role
from services.accounts.sign_in_locks import MAX_FAILURES
from services.alerts.work_rules import record_dead_work
from services.cli.samples import make_sample
from services.core.clock import utc_now
from services.core.db import transaction
from services.ledger.runner_transactional import TransactionalRunner
from services.ledger.topics import TOPICS
from tasks.handlers import TRANSACTIONAL
from tests.console.fleet_of_shops import add_fine_shops, add_signals
from tests.console.people import make_code
from tests.installation.browser.flows import (
    add_ada,
    add_authenticator,
    add_passkey,
    set_password,
    set_up_codes,
    sign_out,
    type_code,
    type_password,
    use_passkey,
)
from tests.ledger_rows import accept, new_event

DEAD = 70
"""More than one page of the list."""
DIE = """
update work_queue set status = 'dead', retry_count = 12, finished_at = now() - interval '3 hours',
       error_code = 'shopify_unavailable', last_error = 'Shopify answered 503' where event_id is not null
"""


@pytest.fixture
def dead_orders(engine: Engine) -> None:
    """Add three fine shops, one of which has dead orders with their incident."""
    now = utc_now()
    with transaction(engine) as tx:
        add_signals(tx, now)
        ids = add_fine_shops(tx, "harbour", "orchard", "bakery", now=now)
    bodies = [make_sample("shopify", "orders/create", "CAD", Random(number), now) for number in range(DEAD)]
    events = [
        new_event(number, shop_id=ids[1], body=body or b"", received_at=now - timedelta(hours=4))
        for number, body in enumerate(bodies)
    ]
    accept(engine, *events)
    with transaction(engine) as tx:
        tx.execute(text(DIE))
        record_dead_work(tx, now)


def run_everything(engine: Engine) -> None:
    """Do all that is ready, as workers do, and evaluate dead work, as beat does."""
    runner = TransactionalRunner(engine, "tester", Random(1))
    while any(runner.run_batch(TOPICS[name], handler).claimed for name, handler in TRANSACTIONAL.items()):
        pass
    with transaction(engine) as tx:
        record_dead_work(tx, utc_now())


@pytest.mark.usefixtures("dead_orders")
def test_an_owner_ends_a_red_morning(page: Page, engine: Engine) -> None:
    set_password(page, add_ada(Role.OWNER))
    type_password(page)
    key = set_up_codes(page)

    page.goto("/")
    expect(page).to_have_title(re.compile(r"^\(1\)"))
    expect(page.get_by_role("heading", level=1)).to_have_text("2 of 3 shops fine")
    orchard = page.get_by_role("row").filter(has_text="orchard")
    orchard.get_by_role("link", name=re.compile("P2|incident")).press("Enter")
    page.get_by_role("link", name=re.compile("^[0-9]+$")).first.click()
    expect(page.get_by_role("heading", level=1)).to_contain_text(f"{DEAD} order_ingest")
    page.get_by_role("button", name="Acknowledge").click()
    expect(page.get_by_role("status").first).to_contain_text("you hold it")

    page.goto("/")
    orchard.locator("td.red a[href*='status=dead']").press("Enter")
    expect(page.get_by_role("contentinfo")).to_contain_text(f"{DEAD} rows match")
    page.get_by_role("button", name="Requeue…").click()
    expect(page.get_by_text(f"{DEAD} rows will be requeued")).to_be_visible()
    page.get_by_label("Why?").fill("Shopify answers again")
    page.get_by_role("button", name=f"Requeue {DEAD} rows").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Bulk action 1")

    run_everything(engine)
    expect(page.get_by_text(f"Done: {DEAD} of {DEAD} rows: {DEAD} changed, 0 skipped")).to_be_visible()

    page.goto("/")
    expect(page.get_by_role("heading", level=1)).to_have_text("3 of 3 shops fine")
    with transaction(engine) as tx:
        assert tx.execute(text("select count(*) from orders")).scalar() == DEAD

    sign_out(page)
    for _ in range(MAX_FAILURES["account"]):
        type_password(page, "a wrong password")
    type_password(page)
    expect(page.get_by_role("alert")).to_contain_text("locked")
    with transaction(engine) as tx:
        tx.execute(text("update sign_in_locks set locked_until = now() - interval '1 second'"))
    type_password(page)
    type_code(page, make_code(key, steps=1))
    add_authenticator(page)
    add_passkey(page, "laptop")
    sign_out(page)
    use_passkey(page)
    expect(page.get_by_role("button", name="Sign out", exact=True)).to_be_visible()
