"""Stripe's lists and objects, through Stripe's own library over real HTTP."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any

import pytest

from services.core.errors import Misconfigured, Refused, RetryLater
from services.providers.stripe_api import KINDS, NOT_FOUND, fetch_object, fetch_objects
from tests.fakes.stripe import StripeApi

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
END = int(NOW.timestamp())


@pytest.fixture
def api() -> Iterator[StripeApi]:
    with StripeApi() as started:
        yield started


def made(number: int, created: int, **fields: Any) -> dict[str, Any]:
    return {"id": f"ob_{number:04d}", "created": created, "amount": 1000 + number} | fields


def listed(api: StripeApi, kind: str = "refunds", **filters: Any) -> list[str]:
    window = {"created_gte": NOW - timedelta(days=1), "created_lt": NOW}
    return [one["id"] for one in fetch_objects(api.key, api.url, kind, **(window | filters))]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_listed_once_and_newest_first_over_three_pages(api: StripeApi, kind: str) -> None:
    api.lists[kind] = [made(number, END - 1 - number) for number in range(205)]

    assert listed(api, kind) == [f"ob_{number:04d}" for number in range(205)]
    assert [path for path, _ in api.requests] == [f"/v1/{kind}"] * 3


def test_objects_are_the_json_that_stripe_sent(api: StripeApi) -> None:
    sent = made(1, END - 1, metadata={"order_id": "9007199254740993"}, big=9007199254740993, none=None)
    api.lists["charges"] = [sent]

    (found,) = fetch_objects(api.key, api.url, "charges")

    assert found == sent
    assert isinstance(found["metadata"], dict)


def test_window_includes_its_start_and_not_its_end(api: StripeApi) -> None:
    day = 86_400
    api.lists["refunds"] = [made(1, END - day), made(2, END - day - 1), made(3, END), made(4, END - 1)]

    assert listed(api) == ["ob_0004", "ob_0001"]


def test_pages_are_requested_as_they_are_consumed(api: StripeApi) -> None:
    api.lists["refunds"] = [made(number, END - 1 - number) for number in range(300)]

    walk = fetch_objects(api.key, api.url, "refunds")
    assert len(list(islice(walk, 100))) == 100
    assert len(api.requests) == 1


def test_interrupted_listing_resumes_after_the_last_object(api: StripeApi) -> None:
    api.lists["refunds"] = [made(number, END - 1 - number) for number in range(250)]
    api.before = lambda _: api.failures.append((500, {}, {})) if len(api.requests) == 2 else None
    seen: list[str] = []

    with pytest.raises(RetryLater):
        seen.extend(one["id"] for one in fetch_objects(api.key, api.url, "refunds"))
    api.lists["refunds"].append(made(9999, END))  # newer than the last page: it does not shift the pages
    seen += listed(api, starting_after=seen[-1])

    assert seen == [f"ob_{number:04d}" for number in range(250)]


def test_filters_are_stripes_own_and_the_version_is_pinned(api: StripeApi) -> None:
    import stripe

    api.lists["balance_transactions"] = [made(1, END - 1, in_payout="po_1"), made(2, END - 2)]

    assert listed(api, "balance_transactions", payout="po_1", expand=["data.source"]) == ["ob_0001"]
    assert api.requests[0][1]["expand[0]"] == "data.source"
    assert api.headers[0]["stripe-version"] == stripe.api_version


def test_object_of_a_path_is_returned_with_the_account_in_the_request(api: StripeApi) -> None:
    api.objects["/v2/core/events/evt_1"] = {"id": "evt_1"}

    assert fetch_object(api.key, api.url, "/v2/core/events/evt_1", context="acct_9") == {"id": "evt_1"}
    assert api.headers[0]["stripe-context"] == "acct_9"


def test_missing_object_has_its_own_code(api: StripeApi) -> None:
    with pytest.raises(Refused) as caught:
        fetch_object(api.key, api.url, "/v1/charges/ch_0")
    assert caught.value.code == NOT_FOUND


@pytest.mark.parametrize(
    "url", ["https://elsewhere.example/v1/charges", "//elsewhere.example/v1/", "v1/x", ""]
)
def test_key_is_sent_to_stripe_only(api: StripeApi, url: str) -> None:
    with pytest.raises(Refused):
        fetch_object(api.key, api.url, url)
    assert api.requests == []


def test_unknown_kind_is_a_value_error(api: StripeApi) -> None:
    with pytest.raises(ValueError, match="'customers' should be one of charges, refunds"):
        list(fetch_objects(api.key, api.url, "customers"))


def test_wrong_key_is_misconfigured_and_not_shown(api: StripeApi) -> None:
    with pytest.raises(Misconfigured) as caught:
        list(fetch_objects("rk_live_secret", api.url, "charges"))
    assert "rk_live_secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("headers", "wait"),
    [
        ({}, None),
        ({"Retry-After": "2"}, timedelta(seconds=2)),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "999999"}, timedelta(hours=1)),
        ({"Stripe-Should-Retry": "true", "Retry-After": "3"}, timedelta(seconds=3)),
        ({"Stripe-Should-Retry": "false"}, timedelta(minutes=5)),
        ({"Stripe-Should-Retry": "false", "Retry-After": "2"}, timedelta(minutes=5)),
        ({"Stripe-Should-Retry": "false", "Retry-After": "900"}, timedelta(minutes=15)),
    ],
)
@pytest.mark.parametrize("status", [429, 500])
def test_wait_follows_stripes_headers(
    api: StripeApi, status: int, headers: dict[str, str], wait: timedelta | None
) -> None:
    api.failures.append((status, headers, {"error": {"type": "api_error", "message": "no"}}))

    with pytest.raises(RetryLater) as caught:
        listed(api, "charges")
    assert caught.value.wait == wait
    assert len(api.requests) == 1


@pytest.mark.parametrize("body", [{}, {"data": None}, {"data": {"object": "list"}}])
def test_answer_that_is_not_a_list_is_retried_later(api: StripeApi, body: dict[str, Any]) -> None:
    api.failures.append((200, {}, body))

    with pytest.raises(RetryLater, match="holds no data"):
        listed(api, "charges")
