"""Mails, people and sends: who sees which part, and what an operator does with a mail."""

from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import Engine, text

from services.accounts.roles import Role
from services.cli.mail.preview import MAIL_TYPES, SAMPLE_SHOP
from services.console import list_candidates
from services.console.lists import LISTS
from services.console.mail_page import SECRET_KINDS
from services.core.clock import utc_now
from services.core.db import transaction
from services.mail.compose import compose_mail
from tests.console.people import make_console, read_csrf_token, sign_in_as
from tests.console.test_lists import add_shops, ask

ADDRESS = "grace.hopper@example.com"
SCRIPT = "<script>alert(1)</script>"
_MAIL = """
insert into mail_outbox (id, shop_id, dedupe_key, kind, period, recipient, subject, text, html, headers,
                         status, is_commercial, error_code, last_error, bounced_at)
overriding system value
values (:id, :shop, cast(:id as text), :kind, 'p', :address, :subject, :text, '<p>html of grace</p>',
        '{"X-Name": "Grace"}', :status, :commercial, 'mail.refused', :error,
        case when :bounced then now() end)
"""
_PERSON = """
insert into outreach_people (id, shop_id, external_id, email, name, timezone, created_at, changed_at)
overriding system value values (:id, 1, :own, :address, 'Grace', 'UTC', now(), now())
"""
_SEND = """
insert into outreach_sends (person_id, shop_id, series, step, run_id, local_day, status, created_at)
values (:id, 1, 'founder', 'day1', :id, '2026-11-20', 'mailed', now())
"""
_CONSENT = """
insert into outreach_consents (person_id, shop_id, basis, source, given_at, created_at, expires_at,
                               withdrawn_at)
values (:id, 1, :basis, 'form', now() - interval '2 days', now(), now() + cast(:expires as interval),
        now() + cast(:withdrawn as interval))
"""


def add_mail(number: int = 1, **changes: Any) -> None:
    values: dict[str, Any] = {
        "id": number, "shop": 1, "kind": "outreach_mail", "address": ADDRESS, "status": "unknown",
        "subject": f"Hello Grace {SCRIPT}", "text": f"Dear Grace {SCRIPT}", "commercial": True,
        "error": f"550 <{ADDRESS}> is unknown", "bounced": False,
    }  # fmt: skip
    with transaction() as tx:
        tx.execute(text(_MAIL), values | changes)


def post(client: FlaskClient, path: str, **fields: str) -> Any:
    token = read_csrf_token(client)
    return client.post(path, data={"csrf_token": token, **fields}, follow_redirects=True)


def count_audited(action: str) -> int:
    with transaction() as tx:
        found = tx.execute(text("select count(*) from audit_events where action = :a"), {"a": action})
        return int(found.scalar_one())


def test_name_address_and_text_are_masked_on_every_page_until_an_admin_unmasks_them(engine: Engine) -> None:
    add_shops(engine)
    add_mail()
    operator = sign_in_as(make_console(engine), Role.OPERATOR)
    admin = sign_in_as(make_console(engine), Role.VIEWER, shops={1: Role.ADMIN})

    for path in ("/mails", "/mails/1", "/api/v1/mails", "/api/v1/mails/1", "/shops/harbour"):
        page = operator.get(path)
        assert page.status_code == 200
        assert "grace" not in page.text.lower(), path
        assert "script>alert" not in page.text, path
    assert ask(operator, "/api/v1/mails/1")["recipient"] == "g***@example.com"
    assert "Show unmasked" not in operator.get("/mails/1").text
    assert post(operator, "/mails/1/unmask").status_code == 403

    shown = post(admin, "/mails/1/unmask").text
    assert ADDRESS in shown
    assert "Dear Grace &lt;script&gt;" in shown
    assert SCRIPT not in shown
    assert "html of grace" not in shown, "the HTML may load pictures"
    assert count_audited("payload.unmask") == 1


def test_a_mail_that_signs_a_person_in_is_shown_to_nobody(engine: Engine) -> None:
    add_mail(shop=None, kind="account", text="http://localhost/sign-in/forgot/secret", commercial=False)
    owner = sign_in_as(make_console(engine), Role.OWNER)

    assert "Show unmasked" not in owner.get("/mails/1").text
    answer = post(owner, "/mails/1/unmask")

    assert "secret" not in answer.text
    assert count_audited("payload.unmask") == 0


@pytest.mark.parametrize("kind", MAIL_TYPES.values(), ids=MAIL_TYPES)
def test_every_kind_of_mail_with_a_link_that_signs_in_is_a_secret_one(kind: Any) -> None:
    sample = compose_mail(
        kind, kind.sample(SAMPLE_SHOP, utc_now()), shop=SAMPLE_SHOP, recipient="a@example.com", period="p",
        images=kind.images(), unsubscribe="https://example.com/u" if kind.can_unsubscribe else "",
    )  # fmt: skip

    assert ("/sign-in/" in sample.text) == (kind.name in SECRET_KINDS)


def test_a_mail_of_another_shop_or_of_none_is_not_found(engine: Engine) -> None:
    add_shops(engine)
    add_mail(1, shop=2)
    add_mail(2, shop=None, kind="account")
    admin = sign_in_as(make_console(engine), Role.ADMIN, shops={1: Role.ADMIN})

    for number in (1, 2, 3):
        assert admin.get(f"/mails/{number}").status_code == 404
        assert admin.get(f"/api/v1/mails/{number}").status_code == 404
        for act in ("unmask", "resend", "mark-sent"):
            assert post(admin, f"/mails/{number}/{act}", reason="x").status_code == 404
    assert ask(admin, "/api/v1/mails")["count"] == 0


def test_an_operator_decides_about_a_mail_of_unknown_outcome_once(engine: Engine) -> None:
    add_shops(engine)
    add_mail()
    operator = sign_in_as(make_console(engine), Role.OPERATOR)

    assert "reason is empty" in post(operator, "/mails/1/mark-sent").text
    assert "counts as sent" in post(operator, "/mails/1/mark-sent", reason="she has it").text
    assert "only a mail of unknown outcome" in post(operator, "/mails/1/mark-sent", reason="again").text
    assert (count_audited("mail.forget"), ask(operator, "/api/v1/mails/1")["state"]) == (1, "sent")
    assert "is sent again" in post(operator, "/mails/1/resend", reason="lost in spam").text
    assert ask(operator, "/api/v1/mails/1")["state"] == "queued"


def test_an_address_is_searched_whole_by_an_admin_of_the_shop_and_the_search_is_audited(
    engine: Engine,
) -> None:
    add_shops(engine)
    add_mail()
    with transaction() as tx:
        tx.execute(text(_PERSON), {"id": 1, "own": "7", "address": ADDRESS})
    operator = sign_in_as(make_console(engine), Role.OPERATOR)
    admin = sign_in_as(make_console(engine), Role.ADMIN)

    for name in ("mails", "people"):
        path = f"/api/v1/{name}?shop=harbour&address="
        assert operator.get(path + ADDRESS).status_code == 422
        assert admin.get(f"/api/v1/{name}?address={ADDRESS}").status_code == 422, "without a shop"
        assert ask(admin, path + ADDRESS.upper())["count"] == 1
        assert ask(admin, path + "grace")["count"] == 0
        saved = {"list": name, "query": f"shop=harbour&address={ADDRESS}", "name": "x"}
        assert "is not saved" in post(admin, "/filters", **saved).text
    with transaction() as tx:
        rows = tx.execute(text("select mutations from audit_events where action = 'payload.search'"))
        texts = rows.scalars().all()
    assert len(texts) == 6, "also of the list after the refusal to save"
    assert not any("grace" in one.lower() for one in texts)


def test_an_own_id_that_is_an_address_is_masked_and_is_not_found(engine: Engine) -> None:
    add_shops(engine)
    with transaction() as tx:
        for number, own in ((1, "4711"), (2, ADDRESS)):
            tx.execute(text(_PERSON), {"id": number, "own": own, "address": ADDRESS})
    viewer = sign_in_as(make_console(engine), Role.VIEWER)

    found = ask(viewer, "/api/v1/people")["people"]
    assert [one["external_id"] for one in found] == ["g***@example.com", "4711"]  # type: ignore[attr-defined]
    assert "Grace" not in viewer.get("/people").text
    assert ask(viewer, "/api/v1/people?external_id=4711")["count"] == 1
    assert ask(viewer, f"/api/v1/people?external_id={ADDRESS}")["count"] == 0


def test_the_consent_that_holds_is_shown_and_counted(engine: Engine) -> None:
    add_shops(engine)
    consents = [
        ("express", "express", None, None), ("implied", "implied", "1 day", None),
        ("expired", "implied", "-1 hour", None), ("withdrawn", "express", None, "-1 hour"),
    ]  # fmt: skip
    with transaction() as tx:
        for number, (name, basis, expires, withdrawn) in enumerate(consents, 1):
            tx.execute(text(_PERSON), {"id": number, "own": name, "address": ADDRESS})
            values = {"id": number, "basis": basis, "expires": expires, "withdrawn": withdrawn}
            tx.execute(text(_CONSENT), values)
        tx.execute(text(_PERSON), {"id": 5, "own": "none", "address": ADDRESS})
    viewer = sign_in_as(make_console(engine), Role.VIEWER)

    every = ask(viewer, "/api/v1/people")
    assert {one["external_id"]: one["consent"] for one in every["people"]} == {  # type: ignore[attr-defined]
        name: name for name in ("express", "implied", "expired", "withdrawn", "none")
    }
    assert every["counts"] == dict.fromkeys(("express", "expired", "implied", "none", "withdrawn"), 1)
    assert ask(viewer, "/api/v1/people?consent=implied,none")["count"] == 2


def test_sends_are_found_by_person_and_run_and_lead_to_the_mail(engine: Engine) -> None:
    add_shops(engine)
    add_mail()
    with transaction() as tx:
        tx.execute(text(_PERSON), {"id": 9, "own": "7", "address": ADDRESS})
        tx.execute(
            text(
                "insert into outreach_sends (person_id, shop_id, series, step, run_id, local_day, status, "
                "mail_id, created_at) values (9, 1, 'founder', 'day1', 4, '2026-11-20', 'mailed', 1, now())"
            )
        )
    viewer = sign_in_as(make_console(engine), Role.VIEWER)

    for query, count in (("person=9", 1), ("run=4", 1), ("person=8", 0), ("run=5", 0), ("series=founder", 1)):
        assert ask(viewer, f"/api/v1/sends?{query}")["count"] == count, query
    page = viewer.get("/sends?person=9").text
    assert 'href="/mails/1"' in page
    assert 'href="/sends?person=9"' in viewer.get("/people").text
    wrong = ("x", "-1", "9" * 30, "%00", "1.5")
    assert {viewer.get(f"/api/v1/sends?person={one}").status_code for one in wrong} == {422}


@pytest.mark.parametrize("state", ["unknown", "sent", "bounced"])
def test_the_state_of_a_mail_is_its_last_result(engine: Engine, state: str) -> None:
    add_shops(engine)
    add_mail(status="sent" if state == "bounced" else state, bounced=state == "bounced")
    viewer = sign_in_as(make_console(engine), Role.VIEWER)

    assert ask(viewer, "/api/v1/mails")["counts"] == {state: 1}
    assert ask(viewer, "/api/v1/mails/1")["state"] == state


@pytest.mark.parametrize("name", ["mails", "people", "sends"])
def test_the_rows_of_a_shop_are_read_by_its_index(engine: Engine, name: str) -> None:
    with transaction() as tx:
        for way in ("seqscan", "bitmapscan", "sort"):
            tx.execute(text(f"set local enable_{way} = off"))
        for values in ({"shop": 2}, {"shop": 2, "after": (5,)}):
            statement = LISTS[name].candidates(tx, values).compile(tx, compile_kwargs={"literal_binds": True})
            plan = "\n".join(tx.execute(text(f"explain {statement}")).scalars())
            assert "_shop_id on" in plan
            assert "Sort" not in plan.partition("SubPlan")[0]


@pytest.mark.parametrize(
    "path",
    [
        "sends?person=1",
        "sends?run=1",
        "people?shop=harbour&external_id=own-1",
        f"people?shop=harbour&address=1{ADDRESS}",
    ],
)
def test_one_person_or_run_is_found_among_more_rows_than_are_searched(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.setattr(list_candidates, "MOST", 3)
    add_shops(engine)
    with transaction() as tx:
        for number in range(1, 9):
            values = {"id": number, "own": f"own-{number}", "address": f"{number}{ADDRESS}"}
            tx.execute(text(_PERSON), values)
            tx.execute(text(_SEND), values)
    admin = sign_in_as(make_console(engine), Role.ADMIN)

    assert ask(admin, f"/api/v1/{path}")["count"] == 1


def test_the_work_of_a_mail_leads_to_it(engine: Engine) -> None:
    add_shops(engine)
    add_mail()
    with transaction() as tx:
        columns = "insert into work_queue (shop_id, queue, topic, key, status)"
        added = f"{columns} values (1, 'email', 'mail_send', :key, 'dead')"
        for key in ("1", "x"):
            tx.execute(text(added), {"key": key})
    viewer = sign_in_as(make_console(engine), Role.VIEWER)

    assert 'href="/mails/1"' in viewer.get("/work/1").text
    assert "/mails/x" not in viewer.get("/work/2").text
