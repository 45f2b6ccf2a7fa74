"""Every page in a real Chromium: accessible in light, dark and on a phone, and not wider than the phone.

``KEEP_PAGES=folder`` stores a picture of each page.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from flask import Flask
from playwright.sync_api import Page
from sqlalchemy import Engine, text

from services.accounts.roles import Role
from services.accounts.sign_in_locks import MAX_FAILURES
from services.console.auth import ACCOUNT_ROUTES, PAGE_ROUTES, PUBLIC_ROUTES
from tests.console.people import make_code, sign_in_as
from tests.installation.browser.axe import find_faults
from tests.installation.browser.flows import (
    ADA,
    add_ada,
    add_authenticator,
    add_passkey,
    set_password,
    sign_out,
    type_code,
    type_password,
)
from tests.installation.browser.rows import add_rows, fill_rule


class Faults(dict[str, list[str]]):
    """Faults by page."""

    def __init__(self, page: Page) -> None:
        super().__init__()
        self.page, self.seen = page, list[str]()

    def check(self, name: str) -> None:
        """Note the faults of the open page."""
        self.page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
        self.seen.append(name)
        if found := find_faults(self.page, lambda view: self._keep(name, view)):
            self[name] = found

    def _keep(self, name: str, view: str) -> None:
        if folder := os.environ.get("KEEP_PAGES"):
            file = f"{re.sub('[^a-z0-9]+', '-', name.lower()).strip('-') or 'home'}-{view}.png"
            self.page.screenshot(path=Path(folder) / file, full_page=True)


@pytest.fixture
def faults(page: Page) -> Iterator[Faults]:
    """No page may have a fault."""
    found = Faults(page)
    yield found
    assert found.seen
    assert found == {}


ADD_REPORT = """
with r as (
  insert into reports (shop_id, name, kind, covers, schedule, recipients, formats, overtime, week_begins,
                       created_at, changed_at)
  select id, 'Payroll', 'payroll', 'week', '0 6 * * 1', '{pay@example.com}', '{csv}', 'CA-BC', 'monday',
         now(), now()
    from shops order by id limit 1 returning id, shop_id)
insert into report_runs (report_id, shop_id, period, due_at, status, origin, started_by, error_code, error)
select id, shop_id, '2026-W47', now(), 'failed', 'beat', 'beat', 'graph.client_secret_expired', 'HTTP 401'
  from r
"""
ADD_LETTER = """
insert into owner_letters (shop_id, week, subject, body, status, reason, drafted_at, send_at)
select id, '2026-W47', 'A quiet week', E'No problems.\\n\\nAnything you need?', 'held', 'no owner address',
       now(), now()
  from shops order by id limit 1
"""
ADD_PLANNED = """
insert into planned_changes (planned_on, text, added_by, added_at)
values (current_date + 9, 'reports move', 'ada', now())
"""
NEED_A_STATE = {"time_connection.show"}
"""Answered with 422 unless this browser began it."""


def list_paths(app: Flask, endpoints: frozenset[str] | set[str]) -> list[str]:
    rules = [rule for rule in app.url_map.iter_rules() if rule.endpoint in endpoints]
    return sorted({fill_rule(rule) for rule in rules if "GET" in (rule.methods or ())})


def open_session(page: Page, app: Flask, console: str, engine: Engine) -> None:
    """Add rows, and sign the browser in as an owner."""
    client = sign_in_as(app.test_client(), Role.OWNER, email=ADA)
    add_rows(engine, ADA)
    with engine.begin() as tx:
        for statement in (ADD_REPORT, ADD_LETTER, ADD_PLANNED):
            tx.execute(text(statement))
    name = app.config["SESSION_COOKIE_NAME"]
    cookie = client.get_cookie(name)
    assert cookie is not None
    page.context.add_cookies([{"name": name, "value": cookie.value, "url": console}])


def test_every_page_has_no_fault(
    page: Page, app: Flask, console: str, engine: Engine, faults: Faults
) -> None:
    open_session(page, app, console, engine)
    changes = ("pause&shop=harbour", "resume&pause=1", "backoff&topic=mail_send&factor=4")
    paths = [f"/queues/change?act={change}" for change in changes]
    paths += ["/bulk-actions/new?list=work&action=discard&status=dead,pending"]
    paths += ["/queues/inventory?topic=inventory_push"]
    job = "/jobs/daily-reconciliation"
    paths += [f"{job}?shop=harbour", f"{job}/change?shop=harbour&act=run", f"{job}/change?act=schedule"]
    paths += [f"{job}/change?act=run"]
    for path in [*list_paths(app, {*PAGE_ROUTES, *ACCOUNT_ROUTES} - NEED_A_STATE), *paths]:
        answer = page.request.get(path)
        assert answer.status == 200, path
        if "text/html" in answer.headers["content-type"]:
            page.goto(path)
            faults.check(path)


def test_every_page_of_an_edit_has_no_fault(
    page: Page, app: Flask, console: str, engine: Engine, faults: Faults
) -> None:
    open_session(page, app, console, engine)
    page.goto("/events/1")
    page.get_by_role("button", name="Edit and replay").click()
    faults.check("the body of an event")
    body = page.get_by_label("Body")
    body.fill(body.input_value().replace("ada@", "bob@"))
    page.get_by_role("button", name="Show what changes").click()
    faults.check("what an edit changes")
    page.get_by_label("Why is it edited?").fill("a typo")
    page.get_by_role("button", name="Record the edit").click()
    faults.check("an edited event")
    page.get_by_text("is recorded as event").wait_for()


def test_the_text_of_a_mail_has_no_fault_and_is_opened_by_keys(
    page: Page, app: Flask, console: str, engine: Engine, faults: Faults
) -> None:
    open_session(page, app, console, engine)
    page.goto("/")
    page.keyboard.press("g")
    page.keyboard.press("m")
    page.get_by_role("link", name="1", exact=True).press("Enter")
    page.get_by_role("button", name="Show unmasked").press("Enter")
    page.get_by_text("The plain text.").wait_for()
    faults.check("the text of a mail")


def test_a_saved_filter_is_shared_and_deleted(
    page: Page, app: Flask, console: str, engine: Engine, faults: Faults
) -> None:
    open_session(page, app, console, engine)
    page.goto("/work?status=error")
    page.get_by_label("Save these filters as").fill("failing")
    page.get_by_role("button", name="Save", exact=True).click()
    faults.check("a saved filter")
    page.get_by_role("button", name="Share failing").click()
    faults.check("a shared filter")
    page.get_by_role("button", name="Delete failing").click()
    page.get_by_label("Save these filters as").wait_for()


def test_every_page_of_sign_in_has_no_fault(page: Page, app: Flask, faults: Faults) -> None:
    for path in list_paths(app, {one for one in PUBLIC_ROUTES if one.startswith("security.")}):
        if "static" not in path:
            page.goto(path)
            faults.check(path)


def test_every_page_after_a_form_has_no_fault(page: Page, faults: Faults) -> None:
    path = add_ada(Role.OWNER)
    page.goto(path)
    faults.check("set a password")
    page.get_by_label("Password", exact=True).fill("short")
    page.get_by_label("The password again").fill("shorter")
    page.get_by_role("button", name="Set the password").click()
    faults.check("a short password")
    set_password(page, path)
    faults.check("password is set")
    type_password(page, "a wrong password")
    faults.check("wrong password")
    type_password(page)
    faults.check("set up codes")
    page.get_by_role("button", name="Continue").click()
    faults.check("the key of the codes")
    type_code(page, make_code(page.locator("code.key").inner_text()))
    faults.check("offer of recovery codes")
    page.get_by_role("button", name="Make 10 new codes").click()
    faults.check("recovery codes")
    add_authenticator(page)
    add_passkey(page, "laptop")
    faults.check("a passkey is added")
    page.goto("/account/passkeys")
    faults.check("passkeys")
    page.goto("/account")
    page.get_by_label("Name").fill("ci")
    page.get_by_role("button", name="Create a token").click()
    faults.check("a new token")
    sign_out(page)
    type_password(page)
    faults.check("enter a code")
    page.get_by_role("link", name="Use a recovery code").click()
    faults.check("enter a recovery code")
    for _ in range(MAX_FAILURES["account"] + 1):
        type_password(page, "a wrong password")
    faults.check("a locked account")
