"""Access to a sandbox shop over HTTP: tokens that expire and rotate, frozen shops."""

import json

import httpx
import pytest

from tests.sandbox.shops import NOW, open_shop

SHOP = "ada.myshopify.com"
OAUTH = {
    "client_id": "app",
    "client_secret": "s3cret",
    "refresh_token": "shprt_first",
    "access_token": "shpat_first",
}
ASK = {"query": "{ shop { name } }"}


@pytest.fixture
def clock():
    return [0.0]


@pytest.fixture
def shop(clock):
    return open_shop(lambda: clock[0], oauth=OAUTH)


def refresh(shop, token, **changed):
    params = {"grant_type": "refresh_token", "client_id": "app", "client_secret": "s3cret"}
    return shop.refresh_token(params | {"refresh_token": token} | changed)


def is_accepted(shop, token):
    return shop.answer(token, ASK, NOW)[0] == 200


def test_token_is_valid_for_an_hour_and_a_refresh_returns_a_new_pair(shop, clock):
    assert is_accepted(shop, "shpat_first")
    clock[0] = 3600.0
    assert not is_accepted(shop, "shpat_first")

    status, grant = refresh(shop, "shprt_first")

    assert (status, grant["expires_in"], grant["refresh_token_expires_in"]) == (200, 3600, 2_592_000)
    assert is_accepted(shop, grant["access_token"])
    assert grant["refresh_token"] != "shprt_first"


def test_refresh_token_before_stays_good_until_the_new_one_is_used(shop):
    _, lost = refresh(shop, "shprt_first")
    status, again = refresh(shop, "shprt_first")
    assert (status, again["refresh_token"] != lost["refresh_token"]) == (200, True)
    assert refresh(shop, lost["refresh_token"])[0] == 400

    _, third = refresh(shop, again["refresh_token"])

    assert refresh(shop, "shprt_first") == (400, {
        "error": "invalid_grant", "error_description": "This refresh token is not valid any more"
    })  # fmt: skip
    assert refresh(shop, third["refresh_token"])[0] == 200


@pytest.mark.parametrize(
    ("changed", "error"),
    [
        ({"client_secret": "other"}, "invalid_client"),
        ({"client_id": "other"}, "invalid_client"),
        ({"refresh_token": ""}, "invalid_grant"),
        ({"refresh_token": "shprt_other"}, "invalid_grant"),
        ({"grant_type": "client_credentials"}, "unsupported_grant_type"),
    ],
)
def test_wrong_refresh_is_named_and_uses_no_token(shop, changed, error):
    assert refresh(shop, "shprt_first", **changed)[1]["error"] == error
    assert refresh(shop, "shprt_first")[0] == 200


def test_refresh_token_itself_expires(shop, clock):
    clock[0] = 30 * 86_400.0

    assert refresh(shop, "shprt_first")[1]["error"] == "invalid_grant"


def test_tokens_of_no_known_kind_are_refused_where_tokens_expire(shop):
    assert not is_accepted(shop, "shpat_other")
    assert not is_accepted(shop, "")
    shop.control({"expire_tokens": True})
    assert not is_accepted(shop, "shpat_first")


@pytest.mark.parametrize(
    ("state", "status"), [("frozen", 402), ("locked", 423), ("closed", 404), ("open", 200)]
)
def test_state_of_a_shop_is_a_status(state, status):
    shop = open_shop(state=state)

    assert shop.answer("t", ASK, NOW)[0] == status


def test_state_that_no_shop_has_is_refused():
    with pytest.raises(ValueError, match="state='shut' should be one of open, frozen, locked, closed"):
        open_shop(state="shut")


def test_shop_is_served_over_http(start):
    _, port = start("services.sandbox.serve")
    base = f"http://127.0.0.1:{port}"
    graphql = f"/shopify/{SHOP}/admin/api/2026-07/graphql.json"
    token_path = f"/shopify/{SHOP}/admin/oauth/access_token"

    with httpx.Client(base_url=base, headers={"X-Shopify-Access-Token": "shpat_first"}, timeout=60) as http:

        def control(**params):
            assert http.post("/_control", json={"shop": SHOP} | params).status_code == 200

        control(oauth=OAUTH, fail_next={"status": 429, "count": 1, "headers": {"Retry-After": "7"}})
        throttled = http.post(graphql, json=ASK)
        assert (throttled.status_code, throttled.headers["Retry-After"]) == (429, "7")
        assert http.post(graphql, json=ASK).json()["data"] == {"shop": {"name": "ada"}}
        assert http.post(graphql.replace("2026-07", "2019-04"), json=ASK).status_code == 404

        control(html_next=1)
        page = http.post(graphql, json=ASK)
        assert (page.status_code, page.text[:15]) == (200, "<!DOCTYPE html>")
        assert page.headers["Content-Type"].startswith("text/html")

        control(drop_next=1)
        with pytest.raises(httpx.HTTPError):
            http.post(graphql, json=ASK)

        params = {"grant_type": "refresh_token", "client_id": "app", "client_secret": "s3cret"}
        as_form = http.post(token_path, data=params | {"refresh_token": "shprt_first"}).json()
        as_json = http.post(token_path, json=params | {"refresh_token": as_form["refresh_token"]}).json()
        refused = http.post(token_path, json=params | {"refresh_token": "shprt_first"})
        assert (refused.status_code, refused.json()["error"]) == (400, "invalid_grant")

        control(expire_tokens=True)
        assert http.post(graphql, json=ASK).status_code == 401
        control(state="frozen")
        assert http.post(graphql, json=ASK).status_code == 402

        counts = http.get("/_control").json()["shops"][SHOP]["counts"]
        assert (counts["token_requests"], counts["token_refreshed"], counts["token_refused"]) == (3, 2, 1)
        assert (counts["unauthorized"], counts["frozen"]) == (1, 1)
        assert "s3cret" not in json.dumps(http.get("/_control").json())
        assert as_json["access_token"] != as_form["access_token"]
