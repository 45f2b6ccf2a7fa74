"""Pages of single rows: payloads are masked, changes need a role at the shop, and are audited."""

import pytest
from flask.testing import FlaskClient
from hypothesis import given, strategies
from sqlalchemy import Engine, text

from services.accounts.roles import Role
from services.alerts.incidents import Incident, record_incidents
from services.audit.append import Mutation, append_change
from services.console.masking import HIDDEN, mask
from services.core.clock import utc_now
from services.core.db import transaction
from services.ledger.request_errors import RequestError, record_errors
from tests.console.people import make_console, read_csrf_token, sign_in_as
from tests.console.test_lists import add_rows
from tests.ledger_rows import accept, new_event


def post(client: FlaskClient, path: str, **values: str) -> int:
    token = read_csrf_token(client)
    return client.post(path, data={"csrf_token": token, **values}, follow_redirects=True).status_code


def list_audited() -> list[tuple[str, str]]:
    with transaction() as tx:
        found = tx.execute(text("select action, staff_label from audit_events order by id"))
        return [(row.action, row.staff_label) for row in found if not row.action.startswith("user.")]


def test_a_payload_is_masked_until_an_admin_unmasks_it_which_is_audited(engine: Engine) -> None:
    add_rows(engine)
    viewer = sign_in_as(make_console(engine), Role.VIEWER)
    admin = sign_in_as(make_console(engine), Role.ADMIN)

    masked = viewer.get("/work/1").text
    assert "Ada@Example.com" not in masked
    assert HIDDEN in masked
    assert "9007199254740993" in masked, "beyond 2^53"
    assert post(viewer, "/work/1/unmask") == 403

    shown = admin.post("/work/1/unmask", data={"csrf_token": read_csrf_token(admin)}).text
    assert "Ada@Example.com" in shown
    assert list_audited() == [("payload.unmask", "admin@example.com")]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"email": "a@b.example", "id": 7}, {"email": HIDDEN, "id": 7}),
        ({"lines": [{"title": "Mug", "sku": "M-1"}]}, {"lines": [{"title": HIDDEN, "sku": "M-1"}]}),
        ({"note": ["Ada", {"customer_id": 9}]}, {"note": [HIDDEN, {"customer_id": 9}]}),
        ({"id": "gid://shopify/Order/7"}, {"id": "gid://shopify/Order/7"}),
        ({"charge": "ch_3PqX91"}, {"charge": "ch_3PqX91"}),
        ({"total_price": "12.50", "currency": "CAD"}, {"total_price": "12.50", "currency": "CAD"}),
        ({"billing_address": {"zip": "V5K"}}, {"billing_address": {"zip": HIDDEN}}),
        ({"created_at": "2026-11-29", "first_name": ""}, {"created_at": "2026-11-29", "first_name": ""}),
        ({"livemode": True, "accepts_marketing": True}, {"livemode": True, "accepts_marketing": HIDDEN}),
        ({"ada@example.com": 1, "16045550100": 2}, {f"{HIDDEN} 1": HIDDEN, f"{HIDDEN} 2": HIDDEN}),
        *(
            (value, dict.fromkeys(value, HIDDEN))
            for value in (
                {"note_type": "Ada"}, {"customer_name_code": "Ada"}, {"Note_Code": "Ada"}, {"reason": "Ada"},
                {"cancel_reason": "Ada"}, {"action": "Ada"}, {"event": "Ada"}, {"job": "Ada"},
                {"email_status": "ada"}, {"customer_id": "ada@example.com"}, {"created_at": "Ada"},
                {"status": "ada@example.com"}, {"status": "call Ada"}, {"currency": "Ada"},
                {"id": "604 555 0100"}, {"state": "Ada"},
                {"phone": 16045550100}, {"birthday": 19800101}, {"lat": 49.28, "lng": -123.1},
            )
        ),
        ({"id": ["ada@example.com", 7]}, {"id": [HIDDEN, 7]}),
        ("plain text", HIDDEN),
        (7, HIDDEN),
        (None, None),
    ],
)  # fmt: skip
def test_values_are_hidden_unless_name_and_form_are_known(value: object, expected: object) -> None:
    assert mask(value) == expected


_NAMES = strategies.sampled_from(["id", "status", "created_at", "currency", "amount", "ada@example.com"])
_SECRETS = strategies.sampled_from(["secret@b", "secret x@shop", "secretly @ mail"])
_JSON = strategies.recursive(
    _SECRETS | strategies.booleans() | strategies.integers(),
    lambda inner: strategies.lists(inner) | strategies.dictionaries(_NAMES | _SECRETS, inner),
    max_leaves=20,
)


@given(_JSON)
def test_no_text_with_an_address_is_shown_under_any_name(value: object) -> None:
    assert "@" not in str(mask(value))


@given(
    strategies.text(min_size=1), strategies.integers(10**9, 10**12) | strategies.text("secret", min_size=9)
)
def test_no_value_under_an_unknown_name_is_shown(name: str, value: object) -> None:
    masked = str(mask({f"x{name}": [value, {f"x{name}": value}]}))

    assert str(value) not in masked.replace(f"x{name}", "")


def test_an_operator_requeues_and_discards_with_a_reason(engine: Engine) -> None:
    add_rows(engine)
    client = sign_in_as(make_console(engine), Role.OPERATOR)

    assert post(client, "/work/1/requeue") == 200
    assert post(client, "/work/2/discard") == 200
    assert post(client, "/work/2/discard", reason="a test order") == 200

    with transaction() as tx:
        found = dict(tx.execute(text("select id, status from work_queue where id < 3")).all())  # type: ignore[arg-type]
    assert found == {1: "pending", 2: "discarded"}
    assert list_audited() == [
        ("work.requeue", "operator@example.com"),
        ("work.discard", "operator@example.com"),
    ]


def test_an_operator_of_another_shop_changes_nothing(engine: Engine) -> None:
    add_rows(engine)
    client = sign_in_as(make_console(engine), Role.VIEWER, shops={2: Role.OPERATOR, None: Role.VIEWER})

    assert post(client, "/work/1/requeue") == 403
    assert post(client, "/work/10/requeue") == 200
    assert "Requeue" not in client.get("/work/1").text


def test_an_event_is_replayed_and_shows_its_work(engine: Engine) -> None:
    add_rows(engine)
    with transaction() as tx:
        tx.execute(
            text(
                "insert into inbound_events (shop_id, provider, topic, delivery_key, body) "
                "values (1, 'shopify', 'orders/create', 'd-1', convert_to('{\"email\": \"Ada\"', 'UTF8'))"
            )
        )
    client = sign_in_as(make_console(engine), Role.OPERATOR)

    page = client.get("/events/1").text
    assert "Ada" not in page, "a body that is not JSON is masked as a whole"
    assert post(client, "/events/1/replay") == 200
    assert client.get("/events/2").text.count("a replay of <a href") == 1


def test_an_incident_is_taken_noted_and_resolved(engine: Engine) -> None:
    add_rows(engine)
    with transaction() as tx:
        record_incidents(
            tx, [Incident(1, "work_dead:order_ingest", "2026-11-29", "P2", "3 are dead")], utc_now()
        )
    client = sign_in_as(make_console(engine), Role.OPERATOR)

    assert "3 are dead" in client.get("/incidents").text
    assert "What to do" in client.get("/incidents/1").text
    assert post(client, "/incidents/1/ack") == 200
    assert post(client, "/incidents/1/note", reason="Shopify answers 502") == 200
    assert "Shopify answers 502" in client.get("/incidents/1").text
    assert post(client, "/incidents/1/resolve") == 200
    assert "reason is empty" in client.get("/incidents/1").text or client.get("/incidents").text
    for action in ("note", "resolve"):
        for refused in ("x" * 2001, "a\0b"):
            assert post(client, f"/incidents/1/{action}", reason=refused) == 200
            assert refused not in client.get("/incidents/1").text
    assert post(client, "/work/1/discard", reason="x" * 2001) == 200
    assert "discarded" not in client.get("/work/1").text
    assert post(client, "/incidents/1/snooze", reason="Shopify works on it") == 200
    assert client.get("/api/v1/incidents/1").get_json()["state"] == "snoozed"
    assert post(client, "/incidents/1/resolve", reason="replayed") == 200
    draft = client.get("/incidents/1/postmortem")
    assert (draft.mimetype, "Shopify works on it" in draft.text) == ("text/plain", True)
    with transaction() as tx:
        assert tx.execute(text("select status from incidents")).scalar_one() == "resolved"


def test_an_error_shows_what_was_attempted_under_its_id_at_the_persons_shops(engine: Engine) -> None:
    add_rows(engine)
    request = {"topic": "orders/create", "provider": "shopify", "delivery_key": "d-1"}
    error = RequestError(
        "r-1", utc_now(), "harbour", "/webhooks/shopify", 503, "OperationalError", "", "ada", request
    )
    with transaction() as tx:
        record_errors(tx, [error], {"harbour": 1})
        for shop_id, table in ((1, "orders"), (2, "customers")):
            made = {shop_id: [Mutation(table, "7", f"changed {table} 7")]}
            append_change(tx, "x.set", made, by="ada", now=utc_now(), request_id="r-1")
    everybody = sign_in_as(make_console(engine), Role.VIEWER)
    of_harbour = sign_in_as(make_console(engine), Role.VIEWER, shops={1: Role.VIEWER}, email="a@example.com")
    of_linden = sign_in_as(make_console(engine), Role.OWNER, shops={2: Role.OWNER}, email="b@example.com")

    assert 'href="/errors/r-1"' in everybody.get("/errors").text
    page = of_harbour.get("/errors/r-1").text
    for shown in ("OperationalError", "harbour", "d-1", "ada", "changed orders 7", "not sent it again"):
        assert shown in page
    assert "changed customers 7" not in page
    assert "changed customers 7" in everybody.get("/errors/r-1").text
    assert of_linden.get("/errors/r-1").status_code == 404
    pages = [of_linden.get(f"/errors/{one}").text.partition("<main")[2] for one in ("r-1", "r-2")]
    assert pages[0] == pages[1] != ""
    accept(engine, new_event(1, delivery_key="d-1"))
    assert 'href="/events/1"' in everybody.get("/errors/r-1").text


@pytest.mark.parametrize("path", ["/nosuch", "/work/999", "/events/999", "/incidents/999", "/shops/nosuch"])
def test_what_does_not_exist_is_a_page_that_leads_back(engine: Engine, path: str) -> None:
    answer = sign_in_as(make_console(engine), Role.VIEWER).get(path)

    assert answer.status_code == 404
    assert "<title>Not found · Shopfleet</title>" in answer.text
    assert 'href="/">Open the morning scan' in answer.text


def test_what_does_not_exist_is_json_under_the_api(engine: Engine) -> None:
    answer = sign_in_as(make_console(engine), Role.VIEWER).get("/api/v1/nosuch")

    assert (answer.status_code, answer.json) == (
        404,
        {"error": "not_found", "detail": "There is no such page."},
    )


def test_a_postmortem_has_no_change_that_the_person_may_not_see(engine: Engine) -> None:
    add_rows(engine)
    now = utc_now()
    with transaction() as tx:
        for shop_id, what in ((1, "of harbour"), (None, "of the fleet")):
            append_change(tx, "shop.set", {shop_id: [Mutation("shops", "1", what)]}, by="ada", now=now)
        record_incidents(tx, [Incident(1, "work_dead:order_ingest", "2026-11-29", "P2", "x")], now)
    everybody = sign_in_as(make_console(engine), Role.VIEWER)
    one = sign_in_as(make_console(engine), Role.VIEWER, email="o@example.com", shops={1: Role.VIEWER})
    other = sign_in_as(make_console(engine), Role.VIEWER, email="x@example.com", shops={2: Role.VIEWER})

    path = "/incidents/1/postmortem"
    assert "of the fleet" in everybody.get(path).text
    assert "of harbour" in one.get(path).text
    assert "of the fleet" not in one.get(path).text
    assert other.get(path).status_code == 404
