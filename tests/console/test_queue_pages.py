"""``/queues``: figures of the ledger and the broker, and changes of pauses and backoff."""

from datetime import timedelta
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import Engine, text

from services.accounts.roles import Role
from services.core.clock import utc_now
from services.core.db import transaction
from services.ledger.backlog import list_topic_figures
from services.ledger.backoff import list_backoffs
from services.ledger.pause import Pause, PauseScope, list_pauses, record_pause
from services.ledger.queue_samples import record_samples
from services.shops.shops import add_shop
from tests.console.people import make_console, read_csrf_token, sign_in_as
from tests.health.fleet_rows import add_heartbeats, add_settled, add_work

CHANGE = "/queues/change"


def sign_in(engine: Engine, role: Role = Role.OPERATOR, **roles: Any) -> FlaskClient:
    """Add harbour (1) and linden (2), and sign in."""
    with transaction(engine) as tx:
        for slug in ("harbour", "linden"):
            add_shop(tx, slug=slug, name=slug, timezone="UTC", currency="CAD", now=utc_now())
    return sign_in_as(make_console(engine), role, **roles)


def post(client: FlaskClient, **values: str) -> str:
    """Change the queues; return the page that follows."""
    form = {"csrf_token": read_csrf_token(client), "reason": "a test", **values}
    return client.post(CHANGE, data=form, follow_redirects=True).text


def read_pauses() -> list[Pause]:
    with transaction() as tx:
        return list_pauses(tx)


def list_audited() -> list[tuple[str, str]]:
    with transaction() as tx:
        found = tx.execute(text("select action, staff_label from audit_events order by id"))
        return [(row.action, row.staff_label) for row in found if row.action.startswith(("queue", "topic"))]


def test_a_queue_has_its_topics_its_drift_and_its_worker(engine: Engine) -> None:
    now = utc_now()
    with transaction(engine) as tx:
        add_heartbeats(tx, now, but="queue:email")
        add_work(tx, "inventory_push", count=1234, created_at=now - timedelta(minutes=7))
        add_work(tx, "inventory_push", status="error", next_retry_at=now + timedelta(hours=1))
        add_work(tx, "inventory_push", status="dead", count=3)
        add_settled(tx, "inventory_push", now.replace(second=0, microsecond=0), done=10, dead=5)
    client = sign_in(engine, Role.VIEWER)

    page = client.get("/queues").text
    queue = page.split(">inventory</a>", 1)[1].split("</tbody>", 1)[0]

    assert queue.count("1,234") == 3, "ready rows of the queue and its topic, and the drift"
    assert "/work?queue=inventory&amp;status=error" in queue
    assert "/work?topic=inventory_push&amp;status=dead" in queue
    assert "7 min" in queue
    assert "mail_send" not in page, "a topic without work"
    assert "mail_send" in client.get("/queues/email").text
    assert client.get("/queues/none").status_code == 404
    assert '<td class="bad">–' in page.split(">email</a>", 1)[1].split("</tbody>", 1)[0]


@pytest.mark.parametrize("span", ["1h", "24h", "7d", "none"])
def test_charts_have_a_title_a_description_and_their_data(engine: Engine, span: str) -> None:
    now = utc_now()
    client = sign_in(engine, Role.VIEWER)
    with transaction(engine) as tx:
        for minutes in (2, 1):
            add_work(tx, "mail_send", count=21)
            record_samples(tx, list_topic_figures(tx, now), now - timedelta(minutes=minutes))

    page = client.get(f"/queues/email?span={span}").text
    part = client.get(f"/queues/email?span={span}", headers={"HX-Request": "true"}).text

    assert page.count('<svg class="chart"') == page.count("<desc id=") == page.count("<details>") == 4
    assert "Ready: at most" in page
    assert "style=" not in page
    assert "<svg" not in part, "the part that is read again every 5 s has no chart"


def test_nothing_changes_before_the_effect_was_shown_and_a_reason_given(engine: Engine) -> None:
    client = sign_in(engine)
    with transaction() as tx:
        add_work(tx, "inventory_push", count=2)
        add_work(tx, "inventory_push", shop_id=2)
        add_work(tx, "mail_send")
    wanted = {"act": "pause", "what": "queue:inventory", "shop": "harbour", "lasts": "2h", "mode": "refuse"}

    plan = client.get(CHANGE, query_string=wanted).text
    without_reason = post(client, **wanted, reason=" ")

    assert "Pause queue inventory, shop harbour" in plan
    assert "2 items of work will wait, and webhooks are answered 503" in plan
    given = client.get(CHANGE, query_string={**wanted, "reason": "of a link", "csrf_token": "x"}).text
    assert "of a link" not in given, "a link does not give the reason"
    assert "reason is empty" in without_reason
    assert read_pauses() == []

    assert "Paused queue inventory, shop harbour (refuse)." in post(client, **wanted)
    (made,) = read_pauses()
    assert (made.scope, made.mode, made.reason) == (
        PauseScope(queue="inventory", shop_id=1), "refuse", "a test",
    )  # fmt: skip
    assert made.ends_at is not None
    assert made.ends_at - made.created_at == timedelta(hours=2)
    assert list_audited() == [("queue.pause", "operator@example.com")]


def test_a_pause_is_resumed_at_once_or_at_a_rate(engine: Engine) -> None:
    client = sign_in(engine)
    with transaction() as tx:
        add_work(tx, "mail_send", count=3)
        record_pause(tx, PauseScope(topic="mail_send"), "hold", by="ada", now=utc_now(), reason="slow")
    number = str(read_pauses()[0].id)

    assert "slow" in client.get("/queues").text
    assert "3 items of work will start at once." in client.get(f"{CHANGE}?act=resume&pause={number}").text
    assert "Resumed topic mail_send at 5 items/s." in post(client, act="resume", pause=number, rate="300/m")
    assert [(one.mode, one.rate_per_second) for one in read_pauses()] == [("drain", 5)]
    assert "Resumed topic mail_send at once." in post(client, act="resume", pause=number)
    assert "this pause has ended" in post(client, act="resume", pause=number)
    assert read_pauses() == []


def test_the_backoff_of_a_topic_is_made_longer_and_normal_again(engine: Engine) -> None:
    client = sign_in(engine)
    wanted = {"act": "backoff", "topic": "inventory_push"}

    assert "It is 1 now." in client.get(CHANGE, query_string={**wanted, "factor": "4"}).text
    post(client, **wanted, factor="4")
    with transaction() as tx:
        assert [(one.topic, one.factor) for one in list_backoffs(tx)] == [("inventory_push", 4)]
    assert "Retries wait longer" in client.get("/queues").text
    post(client, **wanted, factor="1")
    with transaction() as tx:
        assert list_backoffs(tx) == []
    assert list_audited() == [("topic.backoff", "operator@example.com")] * 2


@pytest.mark.parametrize(
    "values",
    [
        {"act": "stop"},
        {"act": "pause", "what": "queue:none"},
        {"act": "pause", "what": "none:inventory"},
        {"act": "pause", "what": "topic:"},
        {"act": "pause", "shop": "none"},
        {"act": "pause", "shop": "\0"},
        {"act": "pause", "lasts": "0"},
        {"act": "pause", "lasts": "soon"},
        {"act": "pause", "mode": "drain"},
        {"act": "pause", "what": "cost:ai", "mode": "refuse"},
        {"act": "resume"},
        {"act": "resume", "pause": "1" * 30},
        {"act": "resume", "pause": "99"},
        {"act": "backoff", "factor": "2"},
        {"act": "backoff", "topic": "none", "factor": "2"},
        *({"act": "backoff", "topic": "mail_send", "factor": one} for one in ("", "0", "nan", "inf", "x")),
    ],
)
def test_a_wrong_value_is_named_and_changes_nothing(engine: Engine, values: dict[str, str]) -> None:
    client = sign_in(engine)

    plan = client.get(CHANGE, query_string=values)

    assert plan.status_code == 422
    assert 'class="notice bad"' in plan.text
    assert 'class="notice bad"' in post(client, **values)
    assert read_pauses() == []
    assert list_audited() == []


def test_an_operator_of_one_shop_pauses_it_alone(engine: Engine) -> None:
    client = sign_in(engine, Role.VIEWER, shops={1: Role.OPERATOR, 2: Role.VIEWER})
    with transaction() as tx:
        record_pause(tx, PauseScope(topic="mail_send"), "hold", by="ada", now=utc_now())
        record_pause(tx, PauseScope(shop_id=2), "hold", by="ada", now=utc_now())
    fleet, linden = (str(one.id) for one in read_pauses())
    audited = list_audited()

    assert "Resume" not in client.get("/queues").text.split('id="pauses"')[1].split("<tbody>")[1]
    for values in (
        {"act": "pause"},
        {"act": "pause", "shop": "linden"},
        {"act": "resume", "pause": fleet},
        {"act": "resume", "pause": linden},
        {"act": "backoff", "topic": "mail_send", "factor": "2"},
    ):
        assert client.get(CHANGE, query_string=values).status_code in (403, 422)
        post(client, **values)
    assert list_audited() == audited

    assert "Paused shop harbour (hold)." in post(client, act="pause", shop="harbour")
    assert [one.scope.shop_id for one in read_pauses()] == [None, 2, 1]


def test_a_topic_leads_to_its_own_charts(engine: Engine) -> None:
    client = sign_in_as(make_console(engine), Role.VIEWER)
    path = "/queues/inventory?topic=inventory_push"

    page = client.get(f"{path}&span=24h").text
    assert "Charts of inventory_push" in page
    assert page.count("topic=inventory_push&amp;span=") >= 2, "the other spans keep the topic"
    assert f'href="{path}#charts"' in client.get("/queues/inventory").text
    for wrong in ("mail_send", "nothing", "%00"):
        assert client.get(f"/queues/inventory?topic={wrong}").status_code == 404
