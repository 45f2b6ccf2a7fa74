"""Commands that show privacy requests: open ones, due dates, results."""

import json

import orjson
from click.testing import CliRunner, Result
from sqlalchemy import Engine

from services.cli.main import main
from tests.ledger_rows import accept, new_event
from tests.privacy.customers import JOHN, JOHNS, find_words, request_privacy


def fleet(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["privacy", *arguments])


def test_open_requests_come_first_with_the_day_they_are_due(shop: Engine) -> None:
    request_privacy(shop, "customers/data_request", 100)
    body = orjson.dumps({"customer": {"id": JOHN, "email": "john@example.com"}})
    accept(shop, new_event(7, topic="customers/redact", body=body, key=""))

    listed = json.loads(fleet("list", "--json").output)

    assert [(line["kind"], line["status"], line["due_at"][:10], line["shop"]) for line in listed] == [
        ("redact", "open", "2026-12-20", "harbour"),
        ("export", "done", "2026-12-20", "harbour"),
    ]
    assert (listed[0]["work_status"], listed[1]["customer_id"]) == ("pending", JOHN)


def test_the_table_names_customers_by_number_only(shop: Engine) -> None:
    request_privacy(shop, "customers/data_request", 100)
    request_privacy(shop, "customers/redact", 101)

    shown = fleet("list", "--shop", "harbour").output

    assert str(JOHN) in shown
    assert "privacy/shop-1/request-1.json" in shown
    assert find_words(shown, JOHNS) == set()


def test_a_request_that_died_is_still_open(shop: Engine) -> None:
    request_privacy(shop, "customers/redact", 100, customer={"id": "x"})

    (line,) = json.loads(fleet("list", "--json").output)

    assert (line["status"], line["work_status"]) == ("open", "dead")


def test_without_requests_it_says_so(engine: Engine) -> None:
    assert fleet("list").output == "No privacy requests.\n"
