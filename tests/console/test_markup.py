"""Text of a row is text on every page: markup in it is shown, and is no part of the page."""

from urllib.parse import quote

from flask.testing import FlaskClient
from sqlalchemy import Engine, text

from services.accounts.people import find_access, get_person
from services.accounts.roles import Role
from services.accounts.saved_filters import save_filter
from services.accounts.sessions import end_sessions
from services.core.clock import utc_now
from services.core.db import transaction
from tests.console.people import make_console, read_csrf_token, sign_in_as
from tests.console.test_bulk import select_all
from tests.console.test_lists import add_rows
from tests.console.test_other_shops import add_both_shops, list_paths

MARKUP = "<b id=x>'\"&"
FREE_TEXT = """
    name key error_code last_error locked_by result delivery_key request_id summary acknowledged_by error
    started_by reason created_by subject text staff_label external_id step recipient transport detail
    message_id provider_id error_class route request origin owner_email postal_address mail_contact
    """.split()  # noqa: SIM905 - shorter than a list
"""Columns with text of people, customers and providers."""
_FIND_COLUMNS = """
select table_name, column_name from information_schema.columns
 where table_schema = 'public' and data_type = 'text' and column_name = any(:names) order by 1, 2
"""


def add_markup() -> int:
    """Append ``MARKUP`` to each free text of each table; return to how many columns."""
    count = 0
    with transaction() as tx:
        found = tx.execute(text(_FIND_COLUMNS), {"names": FREE_TEXT}).all()
        for table, column in found:
            with tx.begin_nested() as savepoint:
                try:
                    done = tx.execute(
                        text(f"update {table} set {column} = coalesce({column}, '') || :markup"),  # noqa: S608
                        {"markup": MARKUP},
                    )
                    count += bool(done.rowcount)
                except Exception:  # noqa: BLE001 - a constraint, or a table to which rows are only added
                    savepoint.rollback()
    return count


def read_pages(client: FlaskClient) -> dict[str, str]:
    pages = {path: client.get(path) for path in list_paths(client) if not path.startswith("/api/")}
    return {path: answer.text for path, answer in pages.items() if answer.mimetype == "text/html"}


def test_markup_in_a_text_is_no_part_of_any_page(engine: Engine) -> None:
    add_both_shops(engine)
    client = sign_in_as(make_console(engine), Role.OWNER)
    with transaction() as tx:
        owner = find_access(tx, get_person(tx, "owner@example.com").id)
        assert owner is not None
        save_filter(tx, owner, "work", "x", "status=dead", by="t", now=utc_now())
    assert add_markup() > 25

    pages = read_pages(client)

    assert [path for path, page in pages.items() if "<b id=x>" in page] == []
    assert sum("&lt;b id=x&gt;" in page for page in pages.values()) > 15


def test_a_form_of_a_session_that_ended_meanwhile_starts_nothing(engine: Engine) -> None:
    add_rows(engine)
    client = sign_in_as(make_console(engine), Role.OPERATOR)
    path = "/bulk-actions/new?list=work&action=requeue&status=dead"
    page = client.get(path).text
    key = page.split('name="request_key" value="', 1)[1].split('"', 1)[0]
    form = {
        "csrf_token": read_csrf_token(client, path), "list": "work", "action": "requeue", "status": "dead",
        "request_key": key, "at_most": "10", "reason": "x",
    }  # fmt: skip
    with transaction() as tx:
        end_sessions(tx, get_person(tx, "operator@example.com").id)

    came_from = {"Referer": f"http://localhost{path}"}
    answer = client.post("/bulk-actions", data=form, headers=came_from)

    assert answer.status_code == 302
    assert answer.location == f"/sign-in?next={quote(path, safe='/?')}"
    stranger = client.post("/bulk-actions", data=form, headers={"Referer": "https://evil.example/x"})
    assert stranger.location == "/sign-in?next=/"
    assert select_all("select * from bulk_actions") == []
