"""Changes of incidents reach Slack once each, while Slack is away and when a worker is killed."""

import re

import httpx
import pytest

from services.alerts.incidents import Incident, record_incidents
from services.core.clock import utc_now
from tests.fakes.web import Answer
from tests.journeys.journey_fleet import JourneyFleet, wait_for

pytestmark = pytest.mark.xdist_group("journeys")

FORGED = {"Stripe-Signature": "t=1,v1=" + "0" * 64}
AN_HOUR_PASSES = (
    "update request_counts set minute = minute - interval '61 minutes' where outcome = 'invalid_signature'"
)

TEN_MINUTES_PASS = "update alert_states set turned_at = turned_at - interval '10 minutes' where rule = :rule"


def texts_about(fleet: JourneyFleet, rule: str, change: str) -> list[str]:
    texts = [request.json["text"] for request in list(fleet.slack.requests)]
    return [text for text in texts if f"`{rule}`" in text and f" {change}*" in text]


RETRY_NOW = "update work_queue set next_retry_at = now() where topic = 'alert_send' and status = 'error'"
TRIES = "select payload ->> 'channel', retry_count, status from work_queue where payload::text like :rule"


def open_incident(fleet: JourneyFleet, rule: str) -> None:
    with fleet.engine.begin() as tx:
        record_incidents(tx, [Incident(None, f"{rule}:journey", "2026-11-28", "P3", "as planned")], utc_now())


def sent_about(fleet: JourneyFleet, slug: str, change: str) -> list[tuple[str]]:
    """Return the status of each message about forged webhooks of the shop. Another journey has some too."""
    sent = """
    select status from work_queue where topic = 'alert_send' and payload::text like :shop
       and payload -> 'message' ->> 'rule' = 'signature_failures'
       and payload -> 'message' ->> 'change' = :change"""
    return fleet.select(sent, shop=f"%{slug}%", change=change)


def test_forged_webhooks_are_one_message_and_their_end_one_more(fleet: JourneyFleet) -> None:
    shop = fleet.shops[1]
    url = f"http://127.0.0.1:{fleet.env['INGRESS_PORT']}/webhooks/stripe/{shop.slug}"
    fleet.slack.answers = [Answer(503), Answer(429, {"retry-after": "1"})]  # Slack is away at first
    for number in range(30):
        answer = httpx.post(url, json={"id": f"evt_forged_{number}"}, headers=FORGED)
        assert (answer.status_code, answer.json()) == (401, {"error": "invalid_signature"})

    # Two tries of Slack fail, each followed by a wait of up to 10 s.
    wait_for(lambda: sent_about(fleet, shop.slug, "opened") == [("done",)], seconds=180)
    # Slack got it three times, and took it once.
    message = [text for text in texts_about(fleet, "signature_failures", "opened") if shop.slug in text][-1]
    # The rule may see the first of them only: it runs every minute, also while they arrive.
    counted = re.search(
        rf"{shop.slug}: stripe webhooks with a wrong signature in an hour: (\d+) \(limit 3\)", message
    )
    assert counted
    assert 3 <= int(counted[1]) <= 30

    fleet.execute(AN_HOUR_PASSES)
    rule = {"rule": "signature_failures"}
    turned = "select 1 from alert_states where rule = :rule and turned_at is not null"
    wait_for(lambda: fleet.select(turned, **rule), seconds=120)
    fleet.execute(
        "update alert_states set turned_at = turned_at - interval '10 min' where rule = :rule", **rule
    )
    wait_for(lambda: sent_about(fleet, shop.slug, "recovered") == [("done",)], seconds=120)

    assert len(sent_about(fleet, shop.slug, "opened")) == 1
    assert [shop.slug in text for text in texts_about(fleet, "signature_failures", "recovered")].count(
        True
    ) == 1


def was_tried(fleet: JourneyFleet, rule: str, least: int, status: str) -> bool:
    """Return whether the one message about ``rule`` has ``status`` after ``least`` tries, or more."""
    ((channel, tries, found),) = fleet.select(TRIES, rule=f"%{rule}%") or [("", 0, "")]
    return channel == "slack" and tries >= least and found == status


def test_slack_gets_each_message_once_after_it_was_away(fleet: JourneyFleet) -> None:
    rules = ("volume_too_small", "run_too_short")
    fleet.slack.stop()
    try:
        for rule in rules:
            open_incident(fleet, rule)
        # Five tries of each take two minutes on average; here each is due at once.
        for tries in range(1, 6):
            for rule in rules:
                wait_for(lambda r=rule, least=tries: was_tried(fleet, r, least, "error"), seconds=120)
            if tries < 5:
                fleet.execute(RETRY_NOW)
    finally:
        fleet.slack.start_again()
    fleet.execute(RETRY_NOW)
    for rule in rules:
        wait_for(lambda r=rule: was_tried(fleet, r, 5, "done"), seconds=120)

    assert [len(texts_about(fleet, rule, "opened")) for rule in rules] == [1, 1]


def test_a_killed_worker_sends_the_same_message_again(fleet: JourneyFleet) -> None:
    rule = "shopify_timezone_differs"
    fleet.slack.may_answer.clear()
    open_incident(fleet, rule)
    wait_for(lambda: texts_about(fleet, rule, "opened"), seconds=120)  # Slack has it, and has not answered
    killed = fleet.supervisor.pids()["worker-ops"]
    fleet.supervisor.kill("worker-ops")
    wait_for(lambda: fleet.supervisor.pids()["worker-ops"] not in (None, killed))
    fleet.execute("update work_queue set lease_until = now() where locked_at is not null")
    wait_for(lambda: len(texts_about(fleet, rule, "opened")) == 2, seconds=120)
    fleet.slack.may_answer.set()

    done = "select 1 from work_queue where payload::text like :rule and status = 'done'"
    wait_for(lambda: fleet.select(done, rule=f"%{rule}%"), seconds=120)
    first, second = texts_about(fleet, rule, "opened")
    assert first == second
    assert "`fleet incidents show" in first
