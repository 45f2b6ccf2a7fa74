"""Whatever happens in whatever order: each opening and each end is sent once, and none is lost."""

from collections import defaultdict
from datetime import timedelta

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, Engine

from services.alerts.incidents import Incident, record_incidents, resolve_incident
from services.alerts.notify import GATHER, record_alerts
from services.alerts.quiet import QuietWindow, add_window, list_windows, remove_window
from services.core.db import transaction
from tests.alerts.slack import MINUTE, NOW
from tests.fakes.settings import settings_of
from tests.jobs.job_rows import runs

RULE, PERIOD = "work_dead:mail_send", "2026-11-28"
SHOPS = (1, 2, 3)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["open", "end"]), st.sampled_from(SHOPS)),
        st.tuples(st.sampled_from(["quiet", "maintain"]), st.sampled_from([None, *SHOPS])),
        st.tuples(st.just("wait"), st.sampled_from([1, 4, 6, 40])),
        st.just(("sound", 0)),
    ),
    max_size=14,
)


EMPTY = """
delete from incidents; delete from incident_entries; delete from quiet_windows; delete from work_queue
"""


def take(tx: Connection, step: tuple[str, int | None], minute: int) -> None:
    name, shop_id = step
    now = NOW + minute * MINUTE
    if name == "open":
        record_incidents(tx, [Incident(shop_id, RULE, PERIOD, "P2", f"dead since {minute}")], now)
    elif name == "end":
        resolve_incident(tx, shop_id, RULE, PERIOD, now, "It is over.")
    elif name == "quiet":
        add_window(tx, QuietWindow(shop_id, "00:00", "23:59", "UTC"), now=now, by="ada", reason="night")
    elif name == "maintain":
        window = QuietWindow(shop_id, begins_at=now, ends_at=now + timedelta(hours=1))
        add_window(tx, window, now=now, by="ada", reason="work")
    elif name == "sound":
        remove_all(tx, minute)


def remove_all(tx: Connection, minute: int) -> None:
    now = NOW + minute * MINUTE
    for window in list_windows(tx, now):
        remove_window(tx, window.id, now=now, by="ada")


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
def test_each_opening_and_each_end_is_sent_once(engine: Engine, steps: list[tuple[str, int | None]]) -> None:
    minute = 0

    def pass_minutes(count: int, step: tuple[str, int | None] = ("wait", 0)) -> None:
        nonlocal minute
        with transaction(engine) as tx:
            take(tx, step, minute)
        minute += count
        with transaction(engine) as tx:
            record_alerts(tx, NOW + minute * MINUTE)

    with settings_of(SLACK_WEBHOOK_URL="https://hooks.example.com/x"):
        with transaction(engine) as tx:
            tx.exec_driver_sql(EMPTY)
        for step in steps:
            pass_minutes((step[1] or 0) if step[0] == "wait" else 0, step)
        pass_minutes(0, ("sound", 0))
        for _ in range(3):
            pass_minutes(GATHER // MINUTE + 1)
    sent: dict[int, list[str]] = defaultdict(list)
    for (message,) in runs(engine, "select payload -> 'message' from work_queue order by id"):
        for one in message["incidents"]:
            sent[one["id"]].append(message["change"])

    for incident_id, status in runs(engine, "select id, status from incidents"):
        changes = sent.pop(incident_id, [])
        assert changes == (["opened", "recovered"] * len(changes))[: len(changes)]
        assert (len(changes) % 2 == 1) is (status == "open")
    assert not sent
