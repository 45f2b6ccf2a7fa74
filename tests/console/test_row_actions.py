"""Actions on a row: which page opens after one, and how long an incident is snoozed."""

from datetime import UTC, datetime, timedelta
from html import unescape
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import Engine, text

from services.accounts.roles import Role
from services.alerts.incidents import Incident, record_incidents
from services.console.row_actions import find_snooze_end
from services.core.clock import utc_now
from services.core.db import transaction
from tests.console.people import make_console, read_csrf_token, sign_in_as
from tests.console.test_details import post
from tests.console.test_lists import add_rows


@pytest.mark.parametrize(
    ("action", "opens"),
    [
        ("/work/1/requeue", "/work?shop=harbour&status=dead"),
        ("/work/1/discard", "/work?shop=harbour&status=dead"),
        ("/incidents/1/note", "/incidents/1"),
        ("/work/999/requeue", ""),
    ],
)
def test_an_action_of_a_row_opens_its_list_again_with_filter_and_page(
    engine: Engine, action: str, opens: str
) -> None:
    add_rows(engine)
    with transaction() as tx:
        record_incidents(tx, [Incident(1, "work_dead:order_ingest", "2026-11-29", "P2", "3")], utc_now())
    client = sign_in_as(make_console(engine), Role.OPERATOR)
    row = unescape(client.get("/work?shop=harbour&status=dead").text).split('href="/work/', 1)[1]
    page = "/work/" + row.split('"', 1)[0]
    assert unescape(client.get(page).text).count('href="/work?shop=harbour&status=dead"') == 1

    query = urlencode({"back": "shop=harbour&status=dead&other=x&_scheme=https"})
    form = {"csrf_token": read_csrf_token(client), "reason": "x"}
    answer = client.post(f"{action}?{query}", data=form)

    if not opens:
        assert answer.status_code == 404
    elif opens.startswith("/work"):
        assert answer.location == opens
    else:
        assert answer.location.startswith(f"{opens}?back="), "a note leaves its page open"


@pytest.mark.parametrize(
    ("lasts", "until"),
    [
        ("1h", "2026-10-31 11:30"), ("4h", "2026-10-31 14:30"), ("3d", "2026-11-03 09:30"),
        ("tomorrow", "2026-11-01 08:00"),
    ],
)  # fmt: skip
def test_a_snooze_ends_after_its_hours_or_at_8_of_the_next_day_in_the_zone(lasts: str, until: str) -> None:
    zone = ZoneInfo("America/New_York")  # 1 November has 25 hours
    now = datetime(2026, 10, 31, 10, 30, tzinfo=zone).astimezone(UTC)

    assert f"{find_snooze_end(lasts, now, zone).astimezone(zone):%Y-%m-%d %H:%M}" == until


def test_a_person_chooses_how_long_an_incident_is_snoozed_and_a_p1_at_most_a_day(engine: Engine) -> None:
    add_rows(engine)
    with transaction() as tx:
        record_incidents(tx, [Incident(1, "work_dead:order_ingest", "2026-11-29", "P2", "3")], utc_now())
    client = sign_in_as(make_console(engine), Role.OPERATOR)
    before = utc_now()

    assert client.get("/incidents/1").text.count('<option value="') == 4
    post(client, "/incidents/1/snooze", reason="known", lasts="3d")
    until = datetime.fromisoformat(client.get("/api/v1/incidents/1").get_json()["snoozed_until"])
    assert timedelta(days=3) <= until - before < timedelta(days=3, minutes=5)
    assert "Snoozed until" in client.get("/incidents/1").text
    post(client, "/incidents/1/snooze", reason="known", lasts="9y")
    assert datetime.fromisoformat(client.get("/api/v1/incidents/1").get_json()["snoozed_until"]) == until
    with transaction() as tx:
        tx.execute(text("update incidents set severity = 'P1'"))
    assert "(3d)" not in client.get("/incidents/1").text


def test_a_page_whose_last_row_is_gone_leads_to_the_newest_rows(engine: Engine) -> None:
    add_rows(engine)
    client = sign_in_as(make_console(engine), Role.OPERATOR)
    with transaction() as tx:
        dead = tx.execute(text("select id from work_queue where status = 'dead' order by id")).scalars().all()
    after = client.get(f"/api/v1/work?status=dead&limit={len(dead) - 1}").get_json()["next"]
    assert f"/work/{dead[0]}?" in client.get(f"/work?status=dead&after={after}").text

    query = urlencode({"back": f"status=dead&after={after}"})
    form = {"csrf_token": read_csrf_token(client), "reason": "x"}
    page = client.post(f"/work/{dead[0]}/discard?{query}", data=form, follow_redirects=True).text

    assert f"Work {dead[0]} is discarded" in page
    assert "Nothing matches" not in page
    assert '<a class="button" href="/work?status=dead">Newest</a>' in page


@pytest.mark.parametrize(
    ("rule", "evidence"),
    [
        ("work_dead:order_ingest", "/work?shop=harbour&amp;status=dead&amp;topic=order_ingest"),
        ("requests_failed", "/errors?shop=harbour"), ("audit_chain_failed", "/audit?shop=harbour"),
        ("job_failed:sms-costs", "/runs?shop=harbour&amp;status=failed"),
        ("sms_over_budget", "/shops/harbour#budgets"), ("connection_broken", "/platform/health?q=harbour"),
        ("signature_failures:stripe", ""),
    ],
)  # fmt: skip
def test_an_incident_leads_to_its_shop_and_its_evidence(engine: Engine, rule: str, evidence: str) -> None:
    add_rows(engine)
    with transaction() as tx:
        record_incidents(tx, [Incident(1, rule, "2026-11-29", "P2", "run `fleet x`")], utc_now())
    client = sign_in_as(make_console(engine), Role.VIEWER)
    page = client.get("/incidents/1").text

    assert '<a href="/shops/harbour">harbour</a>' in page
    assert ("Evidence:" in page, f'href="{evidence}"' in page) == (bool(evidence), bool(evidence))
    assert not evidence or client.get(unescape(evidence)).status_code == 200
    for path in ("/incidents/1", "/incidents"):
        assert "run <code>fleet x</code>" in client.get(path).text
