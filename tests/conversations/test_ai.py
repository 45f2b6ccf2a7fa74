"""AI adds summaries and vectors beside the workflow: costs count, the cap holds, and nothing waits for it."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Engine

from services.conversations import ai_steps, vectors
from services.core.clock import utc_now
from services.core.db import transaction
from services.costs.cap import apply_ai_caps
from services.costs.store import Cost, record_cost
from services.shops.shops import set_shop
from tests.cli.commands import run
from tests.conversations.notion_shop import STEPS, NotionShop, shop_with_notion
from tests.conversations.quo_events import make_call, make_message, make_part
from tests.fakes.ai import AiServer, serve_ai
from tests.fakes.settings import settings_of

AI_TOPICS = ("interaction_summarize", "interaction_embed")
LONG = "The caller wants to move the delivery of forty mugs to Friday. " * 5
ON = {
    "AI_MODEL": "small-chat", "AI_EMBEDDING_MODEL": "small-vectors", "AI_API_KEY": "key-of-ai",
    "AI_PRICES": "0.15/0.60/0.02 USD",
}  # fmt: skip


@pytest.fixture
def ai() -> Iterator[AiServer]:
    with serve_ai() as server:
        yield server


@pytest.fixture
def acme(engine: Engine, ai: AiServer) -> Iterator[NotionShop]:
    with shop_with_notion(engine, AI_API_BASE=ai.url, **ON) as one:
        allow(one, "summaries,vectors")
        yield one


def allow(one: NotionShop, uses: str, **more: str) -> None:
    with transaction(one.engine) as tx:
        set_shop(tx, "acme", {"ai_uses": uses, **more}, now=utc_now())


def run_all(one: NotionShop) -> None:
    for _ in range(3):
        one.run(*STEPS, *AI_TOPICS)


def test_a_long_call_gets_a_summary_on_its_page_a_vector_and_its_cost(acme: NotionShop, ai: AiServer) -> None:
    acme.receive(make_call(), make_part("transcript", text=LONG))
    run_all(acme)

    assert any("Summary by AI of the call" in title for title in acme.titles()[0])
    ((summary, model),) = acme.rows(
        "select detail->'ai_summary'->'object'->'summary'->>0, detail->'ai_summary'->>'model'"
        " from interactions"
    )
    assert summary.startswith("In short: ") and model == "small-chat"
    assert acme.rows("select cardinality(embedding), model from interaction_vectors") == [
        (64, "small-vectors")
    ]
    chats = ai.count("/v1/chat/completions")
    embeddings = ai.count("/v1/embeddings")
    assert chats == 1 and embeddings >= 1
    spent = chats * (150 + 60) + embeddings * 10
    assert acme.rows("select kind, source, currency, amount_micros from metered_costs") == [
        ("ai", "ai", "USD", spent)
    ]
    assert {authorization for _, _, authorization in ai.requests} == {"Bearer key-of-ai"}


def test_the_same_text_is_sent_once(acme: NotionShop, ai: AiServer) -> None:
    for _ in range(3):
        acme.receive(make_call(), make_part("transcript", text=LONG), make_message("AC9", text="hello"))
        run_all(acme)
    sent = [body.get("input") or body["messages"][-1]["content"] for _, body, _ in ai.requests]

    assert len({str(one) for one in sent}) == len(sent)


def test_no_number_of_a_person_goes_to_the_model(acme: NotionShop, ai: AiServer) -> None:
    acme.receive(make_call(), make_part("summary", text="Wants mugs."), make_message("AC9", text="hello"))
    run_all(acme)

    assert ai.requests
    assert "0000002" not in str([body for _, body, _ in ai.requests])


@pytest.mark.parametrize(
    ("uses", "settings"),
    [
        ("", {}),
        ("summaries,vectors", {"AI_MODEL": "", "AI_EMBEDDING_MODEL": ""}),
    ],
)
def test_without_ai_the_page_is_as_before(
    engine: Engine, ai: AiServer, uses: str, settings: dict[str, str]
) -> None:
    with shop_with_notion(engine, **{**ON, "AI_API_BASE": ai.url, **settings}) as one:
        allow(one, uses)
        one.receive(make_call(), make_part("transcript", text=LONG))
        run_all(one)

        assert len(one.titles()[0]) == 2
        assert not ai.requests
        assert not one.rows("select 1 from work_queue where topic ~ 'summ|embed' or status <> 'done'")


@pytest.mark.parametrize(
    ("status", "body", "headers", "code", "is_dead"),
    [
        (429, {"error": {"code": "rate_limit_exceeded"}}, {"retry-after": "7"}, "ai.rate_limited", False),
        (429, {"error": {"code": "insufficient_quota"}}, {}, "ai.no_credit", True),
        (500, {}, {}, "ai.unavailable", False),
        (401, {"error": {"message": "Incorrect key key-of-ai"}}, {}, "ai.key_refused", True),
        (404, {"error": {"code": "model_not_found"}}, {}, "ai.model_unknown", True),
        (400, {"error": {"message": "too long"}}, {}, "ai.request_refused", True),
        (200, {"choices": []}, {}, "ai.answer_unreadable", False),
        (200, {"choices": [{"message": {"content": " "}}]}, {}, "ai.answer_unreadable", False),
    ],
)
def test_a_failure_of_the_ai_delays_no_page(
    acme: NotionShop, ai: AiServer, status: int, body: Any, headers: Any, code: str, is_dead: bool
) -> None:
    allow(acme, "summaries")
    ai.failures += [(status, body, headers)] * 3
    acme.receive(make_call(), make_part("transcript", text=LONG))
    acme.run(*STEPS, "interaction_summarize")

    assert len(acme.titles()[0]) == 2
    found = acme.rows(
        "select error_code, status, last_error from work_queue where topic = 'interaction_summarize'"
    )
    assert {row[:2] for row in found} == {(code, "dead" if is_dead else "error")}
    assert "key-of-ai" not in str(found) and "mugs" not in str(found)


def test_a_model_without_prices_is_refused(engine: Engine, ai: AiServer) -> None:
    with shop_with_notion(engine, **{**ON, "AI_API_BASE": ai.url, "AI_PRICES": ""}) as one:
        allow(one, "summaries")
        one.receive(make_call(), make_part("transcript", text=LONG))
        one.run(*STEPS, "interaction_summarize")

        assert set(one.rows("select error_code from work_queue where status = 'dead'")) == {("ai.no_prices",)}
        assert not ai.requests


def test_at_the_cap_the_ai_waits_and_the_page_does_not(acme: NotionShop, ai: AiServer) -> None:
    allow(acme, "summaries,vectors", ai_cap="1.00 USD")
    with transaction(acme.engine) as tx:
        record_cost(tx, Cost(acme.shop.id, "ai", "other", "1", "1.50", "USD"), now=utc_now())
        apply_ai_caps(tx, utc_now())
    acme.receive(make_call(), make_part("transcript", text=LONG))
    run_all(acme)

    assert len(acme.titles()[0]) == 2
    assert not ai.requests
    found = acme.rows("select status from work_queue where topic = 'interaction_summarize'")
    assert set(found) == {("pending",)}
    shown = run("conversations", "search", "mugs", "--shop", "acme").output
    assert "by words, because of" in shown and "a pause of AI work" in shown
    assert not ai.requests


def test_a_text_that_is_redacted_meanwhile_gets_no_summary(
    acme: NotionShop, ai: AiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    summarize = ai_steps.summarize

    def redact_meanwhile(*args: Any) -> Any:
        with transaction(acme.engine) as tx:
            tx.exec_driver_sql("update interactions set body = '', detail = detail - 'transcript'")
        return summarize(*args)

    monkeypatch.setattr(ai_steps, "summarize", redact_meanwhile)
    acme.receive(make_call(), make_part("transcript", text=LONG))
    run_all(acme)

    assert acme.rows("select detail ? 'ai_summary' from interactions") == [(False,)]
    assert acme.rows("select amount_micros >= 210 from metered_costs") == [(True,)]


@pytest.mark.parametrize("has_pgvector", [False, True])
def test_search_finds_the_closest_first(
    acme: NotionShop, monkeypatch: pytest.MonkeyPatch, *, has_pgvector: bool
) -> None:
    with acme.engine.connect() as connection:
        assert connection.exec_driver_sql(vectors._HAS_PGVECTOR).scalar()
    if not has_pgvector:
        monkeypatch.setattr(vectors, "_HAS_PGVECTOR", "select false")
    acme.receive(
        make_message("AC7", text="please refund the broken tote"),
        make_message("AC8", text="when do you open on sunday"),
        make_message("AC9", text="tote tote tote"),
    )
    run_all(acme)
    found = run("conversations", "search", "broken tote refund", "--shop", "acme", "--json")

    assert found.exit_code == 0, found.output
    document = json.loads(found.output)
    assert document["by"] == "meaning"
    assert [one["provider_id"] for one in document["interactions"]] == ["AC7", "AC9", "AC8"]
    scores = [one["score"] for one in document["interactions"]]
    assert scores[0] > 0.7 > scores[1] > 0.4 > scores[2]


def test_planned_work_without_its_setting_or_consent_is_skipped_with_the_reason(acme: NotionShop) -> None:
    for count, (settings, uses, reason) in enumerate(
        (
            ({"AI_EMBEDDING_MODEL": ""}, "summaries,vectors", "skipped: AI_EMBEDDING_MODEL is not set"),
            ({}, "summaries", "skipped: the shop does not allow vectors"),
        )
    ):
        allow(acme, "summaries,vectors")
        acme.receive(make_message(f"AC{count}", text="please refund the broken tote"))
        acme.run(*STEPS)
        allow(acme, uses)
        with settings_of(**settings):
            acme.run("interaction_embed")
        query = "select result from work_queue where topic = 'interaction_embed' order by id desc limit 1"
        assert acme.rows(query) == [(reason,)]


def test_an_unreachable_ai_is_named_with_the_search_that_does_without(acme: NotionShop) -> None:
    with settings_of(AI_API_BASE="http://user:s3cret@127.0.0.1:1/v1"):
        refused = run("conversations", "search", "mugs", "--shop", "acme")
    assert refused.exit_code == 1
    assert "could not connect to 127.0.0.1:1: ConnectError: AI_API_BASE is 127.0.0.1:1/v1" in refused.output
    assert "`--words` searches without it" in refused.output
    assert "s3cret" not in refused.output


def test_a_search_shows_the_person_and_the_page(acme: NotionShop) -> None:
    acme.receive(make_message("AC7", text="please refund the broken tote"))
    run_all(acme)
    for more in ((), ("--words",)):
        words = ("conversations", "search", "broken tote", "--shop", "acme", *more)
        (one,) = json.loads(run(*words, "--json").output)["interactions"]
        page = acme.pages()[0]["id"]
        assert (one["addresses"], one["page_id"]) == (["+15550000002"], page)
        shown = run(*words).output
        assert "+15550000002" in shown
        assert page in shown


def test_a_search_by_words_needs_no_ai(engine: Engine) -> None:
    with shop_with_notion(engine) as one:
        one.receive(
            make_message("AC7", text="please refund the broken tote"),
            make_message("AC8", text="a tote for sunday"),
            make_call(), make_part("transcript", text="The tote is broken."),
        )  # fmt: skip
        one.run_to_the_end()
        found = json.loads(run("conversations", "search", "broken tote", "--shop", "acme", "--json").output)

    assert found["by"] == "words"
    assert sorted(one["provider_id"] for one in found["interactions"]) == ["AC1", "AC7"]


def test_a_backfill_plans_what_stored_conversations_lack(acme: NotionShop, ai: AiServer) -> None:
    allow(acme, "")
    acme.receive(make_call(), make_part("transcript", text=LONG), make_message("AC9", text="hello"))
    run_all(acme)
    words = ("conversations", "backfill", "--days", "60", "--ai", "--vectors")
    refused = run(*words)
    assert refused.exit_code == 2
    assert "does not allow summaries: `fleet shops set acme --ai-uses summaries`" in refused.output

    allow(acme, "summaries,vectors")
    shown = [run(*words, *more, "--json") for more in (("--dry-run",), ())]
    assert [one.exit_code for one in shown] == [0, 0]
    numbers = [json.loads(one.stdout)["shops"][0] for one in shown]
    assert [(one["summaries"], one["vectors"]) for one in numbers] == [(1, 2), (1, 2)]
    run_all(acme)
    assert ai.count("/v1/chat/completions") == 1
    assert acme.rows("select count(*) from interaction_vectors") == [(2,)]
    (again,) = json.loads(run(*words, "--json").stdout)["shops"]
    assert (again["summaries"], again["vectors"]) == (0, 0)
