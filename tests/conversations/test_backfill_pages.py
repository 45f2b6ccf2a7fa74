"""Backfill and webhooks of one call end in the same blocks."""

from datetime import timedelta

from sqlalchemy import Engine

from services.conversations.backfill import backfill_conversations
from services.core.clock import utc_now
from tests.conversations.notion_shop import shop_with_notion
from tests.conversations.quo_events import make_call, make_part
from tests.conversations.test_backfill import EXTERNAL, RECORDING, SUMMARY, call, message


def test_a_call_that_came_both_by_webhook_and_by_backfill_has_each_block_once(engine: Engine) -> None:
    at = utc_now() - timedelta(hours=21)
    listed = call(1, at, summary=SUMMARY, recordings=[RECORDING])
    with shop_with_notion(engine) as acme:
        acme.control_quo(calls=[listed], messages=[message(1, at)])
        acme.receive(make_call("AC1", EXTERNAL), make_part("summary", "AC1", EXTERNAL))
        acme.run_to_the_end()
        found = backfill_conversations(acme.shop.id, at - timedelta(days=1), utc_now())
        assert (found.synced, found.topics) == (2, {"call.recording.completed": 1, "message.received": 1})
        acme.run_to_the_end()
        (titles,) = acme.titles()
        assert sorted(title.partition(" · ")[2].partition(" · ")[0] for title in titles) == [
            "Call", "Message", "Recording of the call", "Summary of the call",
        ]  # fmt: skip

        acme.receive(make_part("recording", "AC1", EXTERNAL, seconds=200))
        acme.run_to_the_end()
        assert len(acme.titles()[0]) == 4
