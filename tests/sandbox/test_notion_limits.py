"""Request budgets and faults of the sandbox's Notion, as our client meets them."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import httpx
import pytest

from services.core.errors import Deferred, OutcomeUnknown, RetryLater
from services.providers.notion import Notion
from services.sandbox.notion.connection import SAMPLE_DATA_SOURCE as SOURCE
from services.sandbox.serve import SandboxServer
from tests.sandbox.notion import KEY, Clock, control, counts, make_page, paragraph, read_texts


def test_a_budget_may_be_spent_in_a_burst_and_retry_after_is_the_end_of_the_window(
    server: SandboxServer, notion: Notion, clock: Clock
) -> None:
    control(server, limit={"requests": 3, "seconds": 60})
    for _ in range(3):
        notion.fetch_data_source(SOURCE)
    clock.now = 17.5
    with pytest.raises(Deferred, match="public_api_request_rate_limit") as caught:
        notion.fetch_data_source(SOURCE)
    assert caught.value.wait == timedelta(seconds=43)
    clock.now = 60.0
    notion.fetch_data_source(SOURCE)
    assert counts(server)["connection"] == {
        "requests": 4, "refused": 1, "most_in_a_window": 3, "limit": 3, "window_seconds": 60.0,
    }  # fmt: skip


def test_connections_of_a_workspace_share_its_limit_and_its_pages(server: SandboxServer) -> None:
    control(server, workspace="acme", workspace_limit={"requests": 2, "seconds": 300})
    control(server, notion_key="ntn_other", workspace="acme")
    first, second = (Notion(f"{server.url}/notion", key) for key in (KEY, "ntn_other"))
    page_id = make_page(first)
    assert second.fetch_page(page_id)["id"] == page_id
    with pytest.raises(Deferred, match="public_api_space_request_rate_limit") as caught:
        first.fetch_page(page_id)
    assert caught.value.wait == timedelta(seconds=300)


def test_an_answer_that_is_lost_after_the_write_leaves_the_block(
    server: SandboxServer, notion: Notion
) -> None:
    page_id = make_page(notion)
    control(server, every={"drop_write": 2})
    read_texts(notion, page_id)
    notion.append_children(page_id, [paragraph("a")])
    with pytest.raises(OutcomeUnknown):
        notion.append_children(page_id, [paragraph("b")])
    assert read_texts(notion, page_id) == ["a", "b"]
    assert counts(server)["lost_answers"] == 1


@pytest.mark.parametrize(
    ("fault", "kind", "wait"),
    [("overload", RetryLater, 1), ("conflict", RetryLater, None), ("rate_limit", Deferred, 2)],
)
def test_a_fault_of_each_so_many_th_request_changes_nothing(
    server: SandboxServer, notion: Notion, fault: str, kind: type[RetryLater], wait: int | None
) -> None:
    page_id = make_page(notion)
    control(server, every={fault: 2})
    notion.append_children(page_id, [paragraph("a")])
    with pytest.raises(kind) as caught:
        notion.append_children(page_id, [paragraph("b")])
    assert caught.value.wait == (wait and timedelta(seconds=wait))
    control(server, every={fault: 0})
    assert read_texts(notion, page_id) == ["a"]


def test_two_writes_to_one_page_at_once_conflict_while_answers_are_slow(
    server: SandboxServer, notion: Notion
) -> None:
    page_id = make_page(notion)
    control(server, slow_seconds=0.3)

    def write(content: str) -> str:
        try:
            Notion(f"{server.url}/notion", KEY).append_children(page_id, [paragraph(content)])
        except RetryLater as fault:
            return fault.code
        return "written"

    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(write, ("a", "b"))) == ["notion.conflict", "written"]


def test_a_query_may_not_find_a_new_page_yet(server: SandboxServer, notion: Notion, clock: Clock) -> None:
    control(server, index_delay_seconds=5)
    page_id = make_page(notion)
    assert list(notion.list_pages(SOURCE, {})) == []
    clock.now = 5.0
    assert [one["id"] for one in notion.list_pages(SOURCE, {})] == [page_id]


def test_an_unknown_fault_is_refused(server: SandboxServer) -> None:
    answer = httpx.post(f"{server.url}/_control", json={"notion_key": KEY, "every": {"nothing": 2}})
    assert answer.status_code == 400
