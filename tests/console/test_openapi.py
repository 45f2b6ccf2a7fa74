"""The API and its document agree: schemathesis sends what the document allows and checks each answer."""

import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from hypothesis import given, settings
from sqlalchemy import Engine

from services.accounts.api_tokens import create_token
from services.accounts.people import find_access, get_person
from services.accounts.roles import Role
from services.console.lists import LISTS
from services.console.openapi import make_openapi, make_paths, render_page
from services.core.clock import utc_now
from services.core.db import transaction
from tests.console.fleet_of_shops import add_signals
from tests.console.people import make_console, sign_in_as
from tests.console.test_lists import add_rows

ROOT = Path(__file__).parents[2]


@pytest.fixture
def console(engine: Engine) -> tuple[Flask, dict[str, str]]:
    """The application, and the header of an operator's token."""
    add_rows(engine)
    with transaction() as tx:
        add_signals(tx, utc_now())
    client = sign_in_as(make_console(engine), Role.OPERATOR)
    with transaction() as tx:
        owner = find_access(tx, get_person(tx, "operator@example.com").id)
        assert owner is not None
        token = create_token(tx, owner, "ci", Role.OPERATOR, timedelta(days=1), by="t", now=utc_now())
    return client.application, {"Authorization": f"Bearer {token}"}


def test_the_page_of_the_api_is_current() -> None:
    page = (ROOT / "docs" / "api.md").read_text()

    assert page == render_page(), "python -m services.console.openapi > docs/api.md"


def test_every_list_is_in_the_document_with_its_filters() -> None:
    document = make_openapi()

    for page in LISTS.values():
        parameters = document["paths"][f"/api/v1/{page.path}"]["get"]["parameters"]
        assert [one["name"] for one in parameters] == [*(one.name for one in page.filters), "limit", "after"]


def test_the_document_has_the_operations_of_the_api_and_no_others(console: tuple[Flask, object]) -> None:
    served = {
        (re.sub(r"<(?:int:)?(\w+)>", r"{\1}", rule.rule), method.lower())
        for rule in console[0].url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
        if rule.endpoint.startswith("api.") and rule.endpoint != "api.openapi"
    }

    assert set(OPERATIONS) == served


OPERATIONS = [(path, method) for path, methods in make_paths().items() for method in methods]


@pytest.fixture(scope="module")
def schema() -> Any:
    """The document. Without the constants of the product: to collect them takes 0.3 s for each operation."""
    from schemathesis.openapi.loaders import from_dict  # 1.6 s

    schema = from_dict(make_openapi())
    schema.config.analysis.constants.enabled = False
    return schema


@pytest.mark.parametrize(("path", "method"), OPERATIONS)
def test_answers_are_as_the_document_says(
    console: tuple[Flask, dict[str, str]], schema: Any, path: str, method: str
) -> None:
    from schemathesis.specs.openapi.checks import positive_data_acceptance

    app, headers = console
    schema.app = app

    @given(case=schema[path][method.upper()].as_strategy())
    @settings(max_examples=6, deadline=None, database=None, derandomize=True)
    def send(case: Any) -> None:
        # A value that does not exist, such as a shop, is refused: the document cannot list the values.
        case.call_and_validate(headers=headers, excluded_checks=[positive_data_acceptance])

    send()
