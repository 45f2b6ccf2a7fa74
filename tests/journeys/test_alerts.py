"""Forged webhooks become one incident and one message, and their end one more."""

import httpx
import pytest

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


def test_forged_webhooks_are_one_message_and_their_end_one_more(fleet: JourneyFleet) -> None:
    shop = fleet.shops[1]
    url = f"http://127.0.0.1:{fleet.env['INGRESS_PORT']}/webhooks/stripe/{shop.slug}"
    fleet.slack.answers = [Answer(503), Answer(429, {"retry-after": "1"})]  # Slack is away at first
    for number in range(30):
        answer = httpx.post(url, json={"id": f"evt_forged_{number}"}, headers=FORGED)
        assert (answer.status_code, answer.json()) == (401, {"error": "invalid_signature"})

    # Two tries of Slack fail, each followed by a wait of up to 10 s.
    sent = (
        "select 1 from work_queue where topic = 'alert_send' and status = 'done' and payload::text like :rule"
    )
    wait_for(lambda: fleet.select(sent, rule="%signature_failures%opened%"), seconds=180)
    message = texts_about(fleet, "signature_failures", "opened")[-1]
    assert f"{shop.slug}: 30 stripe webhooks with a wrong signature in an hour (limit 3)" in message

    fleet.execute(AN_HOUR_PASSES)
    rule = {"rule": "signature_failures"}
    turned = "select 1 from alert_states where rule = :rule and turned_at is not null"
    wait_for(lambda: fleet.select(turned, **rule), seconds=120)
    fleet.execute(
        "update alert_states set turned_at = turned_at - interval '10 min' where rule = :rule", **rule
    )
    wait_for(lambda: texts_about(fleet, "signature_failures", "recovered"), seconds=120)

    messages = "select payload -> 'message' ->> 'change' from work_queue where topic = 'alert_send'"
    only = " and payload -> 'message' ->> 'rule' = 'signature_failures' order by id"
    assert fleet.select(messages + only) == [("opened",), ("recovered",)]
