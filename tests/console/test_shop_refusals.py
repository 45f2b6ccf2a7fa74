"""What a change of a shop refuses: costs that would count no more, and a value in the wrong field."""

import pytest
from flask.testing import FlaskClient

from services.core.clock import utc_now
from services.core.db import transaction
from services.costs.store import Cost, record_cost
from tests.console.people import read_csrf_token
from tests.console.test_shop_changes import client, post, read_audit, read_shop
from tests.console.test_shop_secrets import OLD

__all__ = ["client"]


def test_costs_of_the_month_that_would_count_no_more_need_a_confirmation(
    client: FlaskClient, ids: list[int]
) -> None:
    post(client, "settings", ai_cap="50.00 CAD", exchange_rates="USD/CAD=1.37", was_exchange_rates="")
    with transaction() as tx:
        record_cost(tx, Cost(ids[0], "ai", "test", "1", "3.00", "USD"), now=utc_now())
    values = {"exchange_rates": "", "was_exchange_rates": read_shop().exchange_rates}

    page = post(client, "settings", **values).text

    assert "3.00 USD of the ai costs" in page
    assert read_shop().exchange_rates == "USD/CAD=1.37"
    post(client, "settings", **values, force="on")
    assert read_shop().exchange_rates == ""


@pytest.mark.parametrize("name", [OLD, f"shopify-{OLD}", "no-such-kind"])
def test_an_unknown_name_of_a_secret_is_not_repeated(client: FlaskClient, name: str) -> None:
    values = {"csrf_token": read_csrf_token(client), "name": name, "value": ""}
    answer = client.post("/shops/harbour/secrets", data=values)

    with client.session_transaction() as session:
        assert name not in str(session)
    page = client.get("/shops/harbour").text
    assert name not in answer.text + page
    assert "name should be that of a secret" in page
    assert read_audit() == []
