"""Changes of shops, reports, letters and events in the API: as on the pages, by the same roles."""

import io
import zipfile
from hashlib import sha256
from typing import Any

import orjson
import pytest
from sqlalchemy import Engine, text

from services.accounts.roles import Role
from services.closing.month_package import MANIFEST_NAME
from services.core.clock import utc_now
from services.core.db import transaction
from services.core.settings import get_settings
from services.providers.object_store import open_store
from services.shops.shops import get_shop
from services.shops.staff import find_staff
from tests.console.people import make_console, sign_in_as
from tests.console.test_api_actions import TokenClient
from tests.console.test_api_readings import ADD_LETTER
from tests.console.test_bulk import select_all
from tests.console.test_lists import add_rows
from tests.console.test_shop_changes import _ADD_MONTH
from tests.ledger.test_event_edit import BODY, EDITED
from tests.ledger_rows import accept, new_event

REPORT = {
    "name": "Payroll", "kind": "payroll", "schedule": "0 6 * * 1", "covers": "week",
    "recipients": ["books@example.com"],
}  # fmt: skip
CHANGES_OF_A_SHOP: dict[str, dict[str, Any]] = {
    "settings": {"name": "Harbour & Sons"},
    "staff": {"number": "4711", "name": "Dana"},
    "secrets": {"name": "shopify-webhook", "generate": True},
    "thresholds": {"rule": "sms_over_budget", "threshold": 200, "reason": "a sale"},
    "reports": REPORT,
    "months/2026-10/download": {},
}


@pytest.fixture
def api(engine: Engine) -> TokenClient:
    """An admin of one shop."""
    add_rows(engine)
    return TokenClient(engine, Role.ADMIN, {1: Role.ADMIN, 2: Role.VIEWER})


@pytest.mark.parametrize("path", CHANGES_OF_A_SHOP)
def test_a_change_of_a_shop_needs_the_role_admin_there(engine: Engine, api: TokenClient, path: str) -> None:
    body = CHANGES_OF_A_SHOP[path]
    operator = TokenClient(engine, Role.OPERATOR, {1: Role.OPERATOR})
    before = select_all("select count(*) from audit_events where shop_id is not null")

    assert operator.post(f"/shops/harbour/{path}", body).status_code == 403
    assert api.post(f"/shops/linden/{path}", body).status_code in (403, 404)
    assert api.post(f"/shops/none/{path}", body).status_code == 404
    assert select_all("select count(*) from audit_events where shop_id is not null") == before


def test_a_shop_is_changed_and_shown(api: TokenClient) -> None:
    for path, body in CHANGES_OF_A_SHOP.items():
        if "months" not in path:
            answer = api.post(f"/shops/harbour/{path}", body)
            assert answer.status_code == 200, (path, answer.text)
    shown = api.get("/shops/harbour").get_json()

    assert shown["settings"]["name"] == "Harbour & Sons"
    assert shown["staff"] == {"4711": "Dana"}
    assert [one["name"] for one in shown["secrets"]] == ["shopify-webhook"]
    own = [(one["rule"], one["value"]) for one in shown["thresholds"] if one["is_own"]]
    assert own == [("sms_over_budget", 200)]
    assert api.get("/shops/none").status_code == 404


def test_a_field_of_a_shop_that_is_not_sent_stays(api: TokenClient) -> None:
    api.post("/shops/harbour/settings", {"ai_cap": "50.00 CAD", "exchange_rates": "USD/CAD=1.37"})
    api.post("/shops/harbour/settings", {"exchange_rates": "EUR/CAD=1.6"})
    with transaction() as tx:
        shop = get_shop(tx, "harbour")

    assert (shop.ai_cap, shop.exchange_rates) == ("50.00 CAD", "EUR/CAD=1.6")
    wrong = api.post("/shops/harbour/settings", {"timezone": "Mars/Base"})
    assert (wrong.status_code, wrong.get_json()["error"]) == (422, "invalid")


def test_a_value_of_a_secret_is_in_no_answer_but_that_of_its_generation(
    engine: Engine, api: TokenClient
) -> None:
    value = "shpat_0123456789abcdef0123456789abcdef"
    recorded = api.post("/shops/harbour/secrets", {"name": "shopify-token", "value": value})
    made = api.post("/shops/harbour/secrets", {"name": "shopify-webhook", "generate": True})

    assert recorded.get_json() == {"result": "shopify-token is recorded."}
    assert len(made.get_json()["value"]) >= 32
    after = api.get("/shops/harbour").text + api.get("/connections").text + api.get("/audit").text
    assert value not in after
    assert made.get_json()["value"] not in after
    wrong = api.post("/shops/harbour/secrets", {"name": value, "value": "x"})
    assert wrong.status_code == 422
    assert value not in wrong.text


def test_a_browser_records_a_secret_by_the_api_after_a_fresh_sign_in_alone(engine: Engine) -> None:
    add_rows(engine)
    client = sign_in_as(make_console(engine), Role.ADMIN)
    page = client.get("/account").text
    token = page.split('name="csrf_token"', 1)[1].split('value="', 1)[1].split('"', 1)[0]
    with client.session_transaction() as session:
        session["fs_paa"] = 0

    body, headers = {"name": "shopify-webhook", "generate": True}, {"X-CSRFToken": token}
    answer = client.post("/api/v1/shops/harbour/secrets", json=body, headers=headers)

    assert answer.status_code == 403
    assert select_all("select * from shop_secrets") == []


def test_a_name_of_staff_is_shown_to_an_admin_alone(engine: Engine, api: TokenClient) -> None:
    api.post("/shops/harbour/staff", {"number": "4711", "name": "Dana"})
    viewer = TokenClient(engine, Role.VIEWER, {1: Role.VIEWER})

    assert viewer.get("/shops/harbour").get_json()["staff"] == {}
    assert api.post("/shops/harbour/staff", {"number": "4711"}).status_code == 200
    with transaction() as tx:
        assert find_staff(tx, "harbour") == {}


def test_a_threshold_is_removed_by_a_change_without_one(api: TokenClient) -> None:
    api.post("/shops/harbour/thresholds", CHANGES_OF_A_SHOP["thresholds"])
    body = {"rule": "sms_over_budget", "reason": "over"}

    assert "was 200" in api.post("/shops/harbour/thresholds", body).get_json()["result"]
    assert select_all("select * from rule_settings where shop_id = 1") == []


def test_the_package_of_a_month_is_downloaded_if_its_files_are_as_they_were(api: TokenClient) -> None:
    store = open_store(get_settings().archive_url)
    files = {"figures.csv": b"a,b\n", MANIFEST_NAME: b"{}"}
    for name, data in files.items():
        store.put(f"months/x/{name}", data)
    hashes = {name: sha256(data).hexdigest() for name, data in files.items()}
    listed = orjson.dumps([{"name": "figures.csv", "sha256": hashes["figures.csv"]}]).decode()
    values = {"files": listed, "key": f"months/x/{MANIFEST_NAME}", "sha256": hashes[MANIFEST_NAME]}
    with transaction() as tx:
        tx.execute(text(_ADD_MONTH), {"shop_id": 1, **values})

    path = "/shops/harbour/months/2026-10/download"
    with zipfile.ZipFile(io.BytesIO(api.post(path).data)) as package:
        assert {name: package.read(name) for name in package.namelist()} == files
    assert api.post("/shops/harbour/months/2026-09/download").status_code == 404
    with transaction() as tx:
        tx.execute(text("update closed_periods set manifest_sha256 = 'x'"))
    assert api.post(path).status_code == 409


def test_a_report_is_added_changed_paused_and_its_preview_says_what_it_lacks(api: TokenClient) -> None:
    made = api.post("/shops/harbour/reports", REPORT).get_json()
    changed = api.post("/shops/harbour/reports", {**REPORT, "formats": ["csv"]}).get_json()
    number = made["id"]

    assert (changed["id"], "changed" in changed["result"]) == (number, True)
    for is_paused in (True, True, False):
        assert api.post(f"/reports/{number}/pause", {"is_paused": is_paused}).status_code == 200
        (shown,) = api.get("/reports").get_json()["reports"]
        assert shown["is_paused"] is is_paused
    assert shown["formats"] == ["csv"]
    preview = api.post(f"/reports/{number}/preview")
    assert (preview.status_code, preview.get_json()["error"]) == (409, "quickbooks_time.not_connected")
    assert api.post(f"/reports/{number}/preview", {"period": "x"}).status_code == 422
    assert api.post("/shops/harbour/reports", {**REPORT, "covers": "x"}).status_code == 422
    assert api.post("/shops/harbour/reports", {**REPORT, "recipients": [1]}).status_code == 422


def test_a_letter_is_changed_in_the_version_that_was_read(api: TokenClient) -> None:
    with transaction() as tx:
        for shop_id in (1, 2):
            tx.execute(text(ADD_LETTER), {"shop_id": shop_id})
    letters = {one["shop"]: one for one in api.get("/letters").get_json()["letters"]}
    seen, number = letters["harbour"]["version"], letters["harbour"]["id"]
    body = {"subject": "A week", "body": "No problems.", "seen": seen}

    assert api.post(f"/letters/{number}/edit", body).status_code == 200
    assert api.post(f"/letters/{number}/edit", body).status_code == 409, "it was changed since"
    assert api.post(f"/letters/{letters['linden']['id']}/edit", body).status_code == 403
    assert api.post("/letters/999/edit", body).status_code == 404


def test_a_change_is_planned_shown_and_deleted_at_a_shop_of_the_person(api: TokenClient) -> None:
    plan = {"text": "New prices", "planned_on": f"{utc_now():%Y}-12-31", "shop": "harbour"}

    assert api.post("/letters/planned", plan).status_code == 200
    (shown,) = api.get("/letters/planned").get_json()["planned"]
    assert (shown["shop"], shown["text"]) == ("harbour", "New prices")
    assert api.post("/letters/planned", {**plan, "shop": ""}).status_code == 403
    assert api.post("/letters/planned", {**plan, "shop": "linden"}).status_code == 403
    assert api.post("/letters/planned", {**plan, "planned_on": "soon"}).status_code == 422
    assert api.post(f"/letters/planned/{shown['id']}/delete").status_code == 200
    assert api.get("/letters/planned").get_json()["planned"] == []


def test_an_event_is_edited_after_its_body_was_opened(engine: Engine, api: TokenClient) -> None:
    (event,) = accept(engine, new_event(9, body=BODY, topic="customers/update"))
    path = f"/events/{event.event_id}/edit"
    opened = api.post(path).get_json()
    assert opened["body"] == BODY.decode()
    body = {"opened": opened["opened"], "body": EDITED}

    planned = api.post(path, {**body, "dry_run": True}).get_json()
    assert len(planned["changes"]) == 1
    assert api.post(path, body).status_code == 422, "without a reason"
    assert api.post(path, {**body, "reason": "a test"}).get_json()["event_id"] == 2
    assert select_all("select count(*)::int from inbound_events where origin = 'edit'") == [(1,)]
    stale = {**body, "opened": "0" * 64, "reason": "a test"}
    assert api.post(path, stale).status_code == 422
    operator = TokenClient(engine, Role.OPERATOR, {1: Role.OPERATOR})
    assert operator.post(path).status_code == 403


def test_a_failed_request_is_shown_to_who_may_see_its_shop(api: TokenClient) -> None:
    with transaction() as tx:
        tx.execute(
            text(
                "insert into request_errors (request_id, at, shop_id, route, status, error_class, reason, "
                "staff_label, request) select 'r-' || id, now(), id, '/hooks', 503, 'Timeout', '', '', '{}' "
                "from shops where id in (1, 3)"
            )
        )

    shown = api.get("/errors/r-1").get_json()
    assert (shown["shop"], shown["error_class"], shown["mutations"]) == ("harbour", "Timeout", [])
    assert api.get("/errors/r-3").status_code == 404
    assert api.get("/errors/none").status_code == 404


def test_pauses_and_backoffs_are_shown_with_the_id_that_ends_them(engine: Engine) -> None:
    add_rows(engine)
    api = TokenClient(engine, Role.OPERATOR)
    api.post("/queues/change", {"act": "pause", "what": "topic:mail_send", "reason": "a test"})
    api.post("/queues/change", {"act": "backoff", "topic": "mail_send", "factor": 4, "reason": "slow"})

    shown = api.get("/queues").get_json()

    assert [(one["topic"], one["reason"]) for one in shown["pauses"]] == [("mail_send", "a test")]
    assert [(one["topic"], one["factor"]) for one in shown["backoffs"]] == [("mail_send", 4)]
    resumed = {"act": "resume", "pause": shown["pauses"][0]["id"], "reason": "done"}
    assert api.post("/queues/change", resumed).status_code == 200
