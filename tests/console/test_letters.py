"""``/letters``: a person reads, changes, approves and holds the letters of their shops; planned changes."""

import re
from html import unescape

import pytest
from flask.testing import FlaskClient
from sqlalchemy import Engine, text

from services.accounts.roles import Role
from services.core.clock import utc_now
from tests.console.fleet_of_shops import add_fine_shops
from tests.console.people import make_console, read_csrf_token, sign_in_as
from tests.shopify.sample_payloads import rows

DRAFT = """
insert into owner_letters (shop_id, week, subject, body, drafted_at, send_at)
values (:shop_id, '2026-W47', :subject, E'No <b>problems</b>.\\n\\nAnything you need?', now(),
        now() + interval '1 day')
"""
STATE = "select status, reason, subject, body from owner_letters order by id"


@pytest.fixture
def operator(engine: Engine) -> FlaskClient:
    """An operator of harbour; a letter to it, and one to another shop."""
    with engine.begin() as tx:
        harbour, mill = add_fine_shops(tx, "harbour", "mill", now=utc_now())
        for shop_id, subject in ((harbour, "Harbour's week"), (mill, "Mill's week")):
            tx.execute(text(DRAFT), {"shop_id": shop_id, "subject": subject})
    return sign_in_as(make_console(engine), Role.OPERATOR, shops={harbour: Role.OPERATOR})


def post(client: FlaskClient, path: str, **form: str) -> str:
    form["csrf_token"] = read_csrf_token(client)
    return unescape(client.post(path, data=form, follow_redirects=True).text)


def test_a_person_sees_the_letters_of_their_own_shops(operator: FlaskClient) -> None:
    page = unescape(operator.get("/letters").text)

    assert "Harbour's week" in page
    assert "Mill's week" not in page
    assert operator.get("/letters/2").status_code == 404
    for act in ("approve", "hold", "edit"):
        answer = operator.post(f"/letters/2/{act}", data={"csrf_token": read_csrf_token(operator)})
        assert answer.status_code == 404


def test_a_letter_is_shown_as_text_changed_held_and_mailed(operator: FlaskClient, engine: Engine) -> None:
    assert "<p>No &lt;b&gt;problems&lt;/b&gt;.</p>" in operator.get("/letters/1").text

    assert "held until a person approves it" in post(operator, "/letters/1/hold", reason="cause unknown")
    changed = post(operator, "/letters/1/edit", subject="Your week", body="First.\r\n\r\nSecond.")
    assert "<p>Second.</p>" in changed
    assert rows(engine, STATE)[0] == ("held", "cause unknown", "Your week", "First.\n\nSecond.")
    assert "subject has 0 characters" in post(operator, "/letters/1/edit", subject="", body="x")

    assert "mailed by the workers now" in post(operator, "/letters/1/approve")
    assert rows(engine, STATE)[0][0] == "approved"
    assert rows(engine, "select topic, status from work_queue") == [("letter_send", "pending")]


def test_a_page_that_is_not_the_newest_changes_nothing(operator: FlaskClient, engine: Engine) -> None:
    """Two people read one draft: what the second sends is about a letter that the first changed."""

    def read() -> str:
        found = re.search(r'name="seen" value="([^"]*)"', operator.get("/letters/1").text)
        assert found
        return unescape(found[1])

    drafted = read()
    assert "held until" in post(operator, "/letters/1/hold", reason="a wrong figure", seen=drafted)
    for act, form in (
        ("approve", {}),
        ("edit", {"subject": "Old", "body": "Old"}),
        ("hold", {"reason": "x"}),
    ):
        answer = post(operator, f"/letters/1/{act}", seen=drafted, **form)
        assert "nothing was changed: since you opened this letter" in answer
        assert "it is held now" in answer
    assert rows(engine, STATE)[0][:3] == ("held", "a wrong figure", "Harbour's week")
    assert rows(engine, "select 1 from work_queue") == []

    held = read()
    assert "The letter is changed" in post(operator, "/letters/1/edit", subject="New", body="New", seen=held)
    assert "nothing was changed" in post(operator, "/letters/1/approve", seen=held)
    assert "mailed by the workers now" in post(operator, "/letters/1/approve", seen=read())


def test_planned_changes_of_all_owners_need_a_role_in_the_whole_fleet(
    operator: FlaskClient, engine: Engine
) -> None:
    page = post(operator, "/letters/planned", text="for mine", planned_on="2090-01-02", shop="harbour")
    assert "for mine" in page
    assert "shop='mill' should be one of your shops" in post(
        operator, "/letters/planned", text="a", planned_on="2090-01-02", shop="mill"
    )
    assert "planned_on='' should be a day" in post(operator, "/letters/planned", text="a", shop="harbour")
    form = {"text": "a", "planned_on": "2090-01-02", "csrf_token": read_csrf_token(operator)}
    assert operator.post("/letters/planned", data=form).status_code == 403
    with engine.begin() as tx:
        tx.execute(text("update planned_changes set shop_id = null"))
    assert operator.post("/letters/planned/1/delete", data=form).status_code == 403

    of_fleet = sign_in_as(make_console(engine), Role.OPERATOR, email="bob@example.com")
    assert "Nothing is planned" in post(of_fleet, "/letters/planned/1/delete")
    assert (
        of_fleet.post("/letters/planned/1/delete", data={"csrf_token": read_csrf_token(of_fleet)}).status_code
        == 404
    )


@pytest.mark.parametrize(
    ("change", "is_red"),
    [
        ("status = 'draft'", False),
        ("status = 'held', decided_by = 'ada'", False),
        ("status = 'held', reason = 'no address'", True),
    ],
)
def test_a_letter_that_a_person_must_act_on_is_red(
    operator: FlaskClient, engine: Engine, change: str, is_red: bool
) -> None:
    with engine.begin() as tx:
        tx.execute(text(f"update owner_letters set {change}"))  # noqa: S608 - of this test

    for path in ("/letters", "/letters/1"):
        assert ("icon-red.svg" in operator.get(path).text) is is_red
