"""The page that edits an event: who opens it, what it shows before it records, and what is audited."""

from html import unescape

import pytest
from flask.testing import FlaskClient
from sqlalchemy import Engine, text

from services.accounts.roles import Role
from services.core.db import transaction
from tests.console.people import make_console, read_csrf_token, sign_in_as
from tests.console.test_details import list_audited
from tests.console.test_lists import add_shops
from tests.ledger.test_event_edit import BODY, EDITED
from tests.ledger_rows import accept, new_event

PATH = "/events/1/edit"
LINES = b'\n{\r\n "id": 9007199254740993,\n "name": "</textarea>&amp;"}'


def send(client: FlaskClient, **values: str) -> tuple[int, str]:
    answer = client.post(PATH, data={"csrf_token": read_csrf_token(client), **values}, follow_redirects=True)
    return answer.status_code, answer.text


def read_form(page: str) -> dict[str, str]:
    """Return the values of the form, as a browser sends them."""
    values = {
        name: page.split(f'name="{name}" value="', 1)[1].split('"', 1)[0]
        for name in ("opened", "checked", "token")
    }
    body = unescape(page.split("<textarea", 1)[1].split(">", 1)[1].split("</textarea>", 1)[0])
    body = body.removeprefix("\n").replace("\r\n", "\n").replace("\n", "\r\n")
    return values | {"body": body}


@pytest.mark.parametrize(
    ("topic", "role", "status"),
    [
        ("customers/update", Role.OPERATOR, 403), ("customers/update", Role.ADMIN, 200),
        ("orders/create", Role.ADMIN, 403), ("orders/create", Role.OWNER, 200),
        ("customers/redact", Role.OWNER, 403), ("app/uninstalled", Role.OWNER, 403),
        ("orders/delete", Role.OWNER, 403), ("checkouts/create", Role.OWNER, 403),
    ],
)  # fmt: skip
def test_an_admin_edits_an_owner_edits_money_and_nobody_deletions(
    engine: Engine, topic: str, role: Role, status: int
) -> None:
    add_shops(engine)
    accept(engine, new_event(1, body=BODY, topic=topic))
    client = sign_in_as(make_console(engine), role)

    answer = send(client)

    assert answer[0] == status
    assert ("exmaple" in answer[1]) == (status == 200)
    assert ("Edit and replay" in client.get("/events/1").text) == (status == 200)
    assert list_audited() == ([("payload.unmask", f"{role.title}@example.com")] if status == 200 else [])


def test_an_owner_of_another_shop_edits_nothing(engine: Engine) -> None:
    add_shops(engine)
    accept(engine, new_event(1, body=BODY))
    stranger = sign_in_as(make_console(engine), Role.OWNER, shops={2: Role.OWNER})
    viewer = sign_in_as(
        make_console(engine), Role.OWNER, shops={1: Role.VIEWER, 2: Role.OWNER}, email="b@example.com"
    )

    assert send(stranger)[0] == 404
    assert send(viewer)[0] == 403
    assert list_audited() == []


def test_an_edit_is_shown_before_it_is_recorded_and_marked_everywhere(engine: Engine) -> None:
    add_shops(engine)
    accept(engine, new_event(1, body=BODY))
    client = sign_in_as(make_console(engine), Role.OWNER)
    form = read_form(send(client)[1])

    early = send(client, **form | {"body": EDITED, "record": "", "reason": "a typo"})[1]
    assert "What changes" in early, "an edit that was not shown is not recorded"
    assert "<code>$.email</code>" in early
    form = read_form(early)
    assert "reason is empty" in send(client, **form, record="")[1]
    assert "What changes" in send(client, **form | {"body": EDITED + " "}, record="", reason="a typo")[1]
    done = send(client, **form, record="", reason="a typo")[1]
    again = send(client, **form, record="", reason="a typo")[1]

    assert "recorded as event 2" in done
    assert "recorded already, as event 2" in unescape(again)
    with transaction() as tx:
        bodies = tx.execute(text("select body from inbound_events order by id")).scalars()
        assert [*map(bytes, bodies)] == [BODY, EDITED.encode()]
    assert ">edited<" in client.get("/events/2").text
    assert "an edit of" in client.get("/events/2").text
    assert ">edited<" in client.get("/work/2").text
    assert ">edited<" not in client.get("/work/1").text
    for path in ("/api/v1/events?origin=edit", "/api/v1/work?origin=edit"):
        assert client.get(path).get_json()["count"] == 1
    assert [action for action, _ in list_audited()] == ["payload.unmask", "event.edit"]


def test_a_body_is_sent_back_as_it_is_stored(engine: Engine) -> None:
    add_shops(engine)
    accept(engine, new_event(1, body=LINES, topic="customers/update"))
    client = sign_in_as(make_console(engine), Role.ADMIN)
    form = read_form(send(client)[1])

    assert "changes no value" in send(client, **form)[1]
    form = read_form(send(client, **form | {"body": form["body"].replace("amp", "x")})[1])
    send(client, **form, record="", reason="a test")

    with transaction() as tx:
        body = bytes(tx.execute(text("select body from inbound_events where id = 2")).scalar_one())
    assert body == LINES.replace(b"amp", b"x").replace(b"\r\n", b"\n")


def test_a_body_beyond_what_a_form_sends_is_not_opened(engine: Engine) -> None:
    add_shops(engine)
    accept(engine, new_event(1, body=b'{"a": "' + b"x" * 400_000 + b'"}', topic="customers/update"))
    client = sign_in_as(make_console(engine), Role.ADMIN)

    assert "at most 400,000" in send(client)[1]
    assert list_audited() == []
