"""The sandbox's Stripe, read with Stripe's own library: every list page by page, and refusals."""

import random
import threading
from datetime import UTC, datetime, timedelta

import httpx
import pytest
import stripe

from services.sandbox.payloads import stripe as payloads
from services.sandbox.serve import SandboxServer
from services.sandbox.state import SandboxState
from services.sandbox.stripe.lists import FILTERS

KEY = "sk_test_ada"
AT = datetime(2026, 11, 20, 12, tzinfo=UTC)
EPOCH = int(AT.timestamp())


@pytest.fixture
def sandbox():
    with SandboxServer(0, SandboxState(clock=lambda: 0.0)) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def client(sandbox):
    http = stripe.RequestsClient()
    yield stripe.StripeClient(
        KEY, base_addresses={"api": f"{sandbox.url}/stripe"}, max_network_retries=0, http_client=http
    )
    http.close()


def put(sandbox, **settings):
    sandbox.state.control({"stripe_key": KEY} | settings)


def made(number, **more):
    usual = {"id": f"ob_{number:04d}", "amount": 100, "currency": "usd", "created": EPOCH - number}
    return usual | {"source": "ch_1", "type": "charge", "data": {"object": {}}} | more


@pytest.mark.parametrize("kind", sorted(FILTERS))
def test_every_list_is_walked_once_and_newest_first(sandbox, client, kind):
    put(sandbox, **{kind: [made(number) for number in range(25)]})
    service = getattr(client.v1, kind)

    walked = [one["id"] for one in service.list({"limit": 10}).auto_paging_iter()]

    assert [own for own in walked if own.startswith("ob_")] == [f"ob_{number:04d}" for number in range(25)]
    page = service.list({"limit": 10})
    assert (page.object, page.has_more, page.url) == ("list", True, f"/v1/{kind}")


@pytest.mark.parametrize(("limit", "has_more"), [(9, True), (10, False), (11, False)])
def test_last_page_says_that_it_is_the_last(sandbox, client, limit, has_more):
    put(sandbox, refunds=[made(number) for number in range(10)])

    assert client.v1.refunds.list({"limit": limit}).has_more is has_more


def test_backward_pagination_returns_the_newer_ones(sandbox, client):
    put(sandbox, refunds=[made(number) for number in range(10)])
    newer = client.v1.refunds.list({"limit": 3, "ending_before": "ob_0005"})

    assert [one.id for one in newer.data] == ["ob_0002", "ob_0003", "ob_0004"]
    assert newer.has_more
    back = [one.id for one in newer.auto_paging_iter()]
    assert back == ["ob_0004", "ob_0003", "ob_0002", "ob_0001", "ob_0000"]


@pytest.mark.parametrize(
    ("created", "found"),
    [
        ({"gte": EPOCH - 2}, [0, 1, 2]),
        ({"gt": EPOCH - 2}, [0, 1]),
        ({"lt": EPOCH - 2}, [3, 4]),
        ({"lte": EPOCH - 2, "gt": EPOCH - 4}, [2, 3]),
        (EPOCH - 3, [3]),
    ],
)
def test_window_of_time(sandbox, client, created, found):
    put(sandbox, payouts=[made(number) for number in range(5)])

    assert [int(one.id[-1]) for one in client.v1.payouts.list({"created": created})] == found


@pytest.mark.parametrize(
    ("kind", "settings", "param", "message"),
    [
        ("charges", {"limit": 101}, "limit", "less than or equal to 100"),
        ("charges", {"limit": 0}, "limit", "greater than or equal to 1"),
        ("charges", {"limit": "many"}, "limit", "Invalid integer"),
        ("charges", {"created": {"gte": "noon"}}, "created[gte]", "Invalid integer"),
        ("charges", {"starting_after": "ch_0"}, "starting_after", "No such charge: 'ch_0'"),
        ("charges", {"color": "red"}, "color", "unknown parameter"),
        ("balance_transactions", {"payout": "po_0"}, "payout", "No such payout"),
    ],
)
def test_wrong_request_is_400_and_names_the_parameter(sandbox, client, kind, settings, param, message):
    put(sandbox, charges=[made(1)])
    with pytest.raises(stripe.InvalidRequestError) as caught:
        getattr(client.v1, kind).list(settings)

    error = caught.value
    assert (error.http_status, error.param) == (400, param)
    assert message in str(error)
    assert error.request_id.startswith("req_")


def test_object_is_read_by_id_and_a_missing_one_is_missing(sandbox, client):
    charge = payloads.make_charge(
        random.Random(1), amount_cents=1000, currency="CAD", created_at=AT, order_id=2**60
    )
    put(sandbox, charges=[charge])

    assert client.v1.charges.retrieve(charge["id"]).metadata["order_id"] == str(2**60)
    with pytest.raises(stripe.InvalidRequestError) as caught:
        client.v1.charges.retrieve("ch_0")
    assert (caught.value.http_status, caught.value.code) == (404, "resource_missing")


@pytest.mark.parametrize("key", ["sk_live_unknown_1234", "x"])
def test_key_that_is_not_known_is_a_401_and_not_repeated(sandbox, key):
    answer = httpx.get(f"{sandbox.url}/stripe/v1/charges", headers={"Authorization": f"Bearer {key}"})

    assert answer.status_code == 401
    assert "unknown" not in answer.text
    assert answer.headers["Request-Id"]


@pytest.mark.parametrize("should_retry", ["true", "false", None])
def test_rate_limit_says_whether_to_try_again(sandbox, client, should_retry):
    headers = {} if should_retry is None else {"Stripe-Should-Retry": should_retry}
    put(sandbox, fail_next={"status": 429, "count": 1, "headers": headers})

    with pytest.raises(stripe.RateLimitError) as caught:
        client.v1.charges.list()

    assert caught.value.json_body["error"]["code"] == "rate_limit"
    assert caught.value.headers.get("stripe-should-retry") == should_retry
    assert client.v1.charges.list().data == []


def test_event_is_listed_and_its_object_has_the_newest_state(sandbox, client):
    rng = random.Random(2)
    charge = payloads.make_charge(rng, amount_cents=5000, currency="CAD", created_at=AT)
    refunded = payloads.make_refunded_charge(charge, 1200)
    refund = payloads.make_refund(rng, charge, amount_cents=1200, created_at=AT + timedelta(hours=1))
    events = [
        payloads.make_event(rng, "charge.refunded", refunded, created_at=AT + timedelta(hours=1)),
        payloads.make_event(rng, "refund.created", refund, created_at=AT + timedelta(hours=1)),
        payloads.make_event(rng, "charge.succeeded", charge, created_at=AT),
        payloads.make_event(rng, "charge.succeeded", charge, created_at=AT),
    ]

    put(sandbox, events=events)

    assert client.v1.charges.retrieve(charge["id"]).amount_refunded == 1200
    assert [one.id for one in client.v1.refunds.list({"charge": charge["id"]})] == [refund["id"]]
    listed = client.v1.events.list({"types": ["charge.refunded", "refund.created"]})
    assert {one.type for one in listed} == {"charge.refunded", "refund.created"}
    assert len(client.v1.events.list({"type": "charge.*"}).data) == 3
    assert client.v1.events.retrieve(events[0]["id"]).data.object["amount_refunded"] == 1200


def test_thin_event_and_what_it_points_to_are_read_by_their_paths(sandbox, client):
    rng = random.Random(3)
    charge = payloads.make_charge(rng, amount_cents=700, currency="USD", created_at=AT)
    ping = {"id": "ed_1", "object": "v2.core.event_destination"}
    about_charge = payloads.make_thin_event(rng, "v1.charge.succeeded", charge, created_at=AT)
    about_v2 = payloads.make_thin_event(rng, "v2.core.event_destination.ping", ping, created_at=AT)
    put(
        sandbox,
        charges=[charge],
        events=[about_charge, about_v2],
        objects={about_v2["related_object"]["url"]: ping},
    )

    def read(path):
        return client.raw_request("get", path).data

    assert read(f"/v2/core/events/{about_charge['id']}")["type"] == "v1.charge.succeeded"
    assert read(about_charge["related_object"]["url"])["id"] == charge["id"]
    assert about_v2["related_object"]["url"] == "/v2/core/event_destinations/ed_1"
    assert read(about_v2["related_object"]["url"]) == ping
    with pytest.raises(stripe.StripeError) as caught:
        read("/v2/core/events/evt_0")
    assert caught.value.http_status == 404


def test_removed_object_is_gone_with_its_balance_entries(sandbox, client):
    put(sandbox, charges=[made(1, id="ch_1"), made(2, id="ch_2")])
    put(sandbox, remove=["ch_1"])

    assert [one.id for one in client.v1.charges.list()] == ["ch_2"]
    assert {one.source for one in client.v1.balance_transactions.list()} == {"ch_2"}
