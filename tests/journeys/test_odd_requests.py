"""Requests that no provider sends, to a real ingress: each has an answer in JSON with a request id."""

import http.client
import json
from collections.abc import Sequence

import pytest

from services.core.clock import utc_now
from services.providers.registry import sign
from tests.journeys.journey_fleet import JourneyFleet

pytestmark = pytest.mark.xdist_group("journeys")


def post_raw(
    fleet: JourneyFleet, path: str, headers: Sequence[tuple[str, str]] = (), body: bytes = b"{}"
) -> list[object]:
    """Post ``body`` to ``path`` as it stands; return the status, the error, and whether there is an id."""
    connection = http.client.HTTPConnection("127.0.0.1", int(fleet.env["INGRESS_PORT"]), timeout=30)
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
    fleet: JourneyFleet, path: str, status: int, error: str
) -> None:
    assert post_raw(fleet, path) == [status, error, True]


def test_topic_header_with_two_values_is_refused_by_name_and_not_stored(fleet: JourneyFleet) -> None:
    shop, body = fleet.shops[0], b'{"id":1}'
    signed = sign(
        "shopify", body, shop.secrets["shopify-webhook"], topic="orders/create", webhook_id="two-topics",
        domain=shop.domain, now=utc_now(),
    )  # fmt: skip
    headers = [("X-Shopify-Topic", "orders/delete"), *signed.items()]

    answer = post_raw(fleet, f"/webhooks/shopify/{shop.slug}", headers, body)

    assert answer == [400, "duplicate_header", True]
    stored = "select count(*) from inbound_events where delivery_key = 'two-topics'"
    assert fleet.select(stored) == [(0,)]
