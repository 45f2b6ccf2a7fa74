"""Requests that no provider sends, to a real ingress: each has an answer in JSON with a request id."""

import http.client
import json
from collections.abc import Sequence

import pytest

from services.core.clock import utc_now
from services.providers.registry import sign
from tests.journeys.running_fleet import House

pytestmark = pytest.mark.xdist_group("journeys")


def ask(
    house: House, path: str, headers: Sequence[tuple[str, str]] = (), body: bytes = b"{}"
) -> list[object]:
    """Post ``body`` to ``path`` as it stands; return the status, the error, and whether there is an id."""
    connection = http.client.HTTPConnection("127.0.0.1", int(house.env["INGRESS_PORT"]), timeout=30)
    connection.putrequest("POST", path, skip_accept_encoding=True)
    for name, value in (*headers, ("Content-Length", str(len(body)))):
        connection.putheader(name, value)
    connection.endheaders(body)
    answer = connection.getresponse()
    error = json.loads(answer.read())["error"]
    connection.close()
    return [answer.status, error, bool(answer.getheader("X-Request-Id"))]


@pytest.mark.parametrize(
    ("path", "status", "error"),
    [
        ("//webhooks/shopify/acme", 404, "not_found"),
        ("/webhooks/shopify/" + "a" * 65_000, 414, "uri_too_long"),
    ],
    ids=["two slashes", "over-long"],
)
def test_a_path_that_is_no_webhooks_is_answered_in_json(
    house: House, path: str, status: int, error: str
) -> None:
    assert ask(house, path) == [status, error, True]


def test_a_topic_sent_twice_with_two_values_is_refused_by_name_and_not_stored(house: House) -> None:
    shop, body = house.shops[0], b'{"id":1}'
    signed = sign(
        "shopify", body, shop.secrets["shopify-webhook"], topic="orders/create", webhook_id="two-topics",
        domain=shop.domain, now=utc_now(),
    )  # fmt: skip
    headers = [("X-Shopify-Topic", "orders/delete"), *signed.items()]

    answer = ask(house, f"/webhooks/shopify/{shop.slug}", headers, body)

    assert answer == [400, "duplicate_header", True]
    stored = "select count(*) from inbound_events where delivery_key = 'two-topics'"
    assert house.ask(stored) == [(0,)]
