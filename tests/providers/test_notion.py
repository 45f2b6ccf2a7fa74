"""Notion's API over real HTTP: what is sent, pages of a list, and errors by what to do next."""

import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from services.core.errors import Deferred, Misconfigured, OutcomeUnknown, Refused, RetryLater
from services.providers.call_outcomes import collect_calls
from services.providers.notion import NOT_FOUND, Notion
from tests.fakes.web import HANGS_UP, Answer, Web

SAMPLES = Path(__file__).parents[3] / "shared/samples/notion"
KEY = "ntn_1234567890"
SOURCE, PAGE, BLOCK = (f"{one}fda1528-e019-4869-80aa-2a72e8485dd0" for one in "123")
PARAGRAPH = {"type": "paragraph", "paragraph": {"rich_text": [{"type": "text", "text": {"content": "Hi"}}]}}


@pytest.fixture
def web() -> Iterator[Web]:
    with Web() as started:
        yield started


@pytest.fixture
def notion(web: Web) -> Notion:
    return Notion(web.url, KEY)


def sample(name: str) -> Answer:
    found = json.loads((SAMPLES / f"{name}.json").read_text())
    headers = {name: value for name, value in found["headers"].items() if name != "content-length"}
    return Answer(found["http_status"], headers, json.dumps(found["body"]).encode())


def error(status: int, code: str, message: str = "", **headers: str) -> Answer:
    body = {"object": "error", "status": status, "code": code, "message": message}
    return Answer(
        status, {name.replace("_", "-"): value for name, value in headers.items()}, json.dumps(body).encode()
    )


def test_a_list_is_read_to_its_last_page_with_the_pinned_version(web: Web, notion: Notion) -> None:
    web.answers[:] = [
        sample("simulator_captures/data_source_query_p1"),
        Answer(body=b'{"results": [{"id": "3"}]}'),
    ]
    condition = {"property": "UUID", "rich_text": {"equals": "u-1"}}
    found = list(notion.list_pages(SOURCE, condition))
    assert [one["id"][:8] for one in found] == ["12064245", "9dabd724", "3"]
    first, second = web.requests
    assert (first.method, first.path) == ("POST", f"/v1/data_sources/{SOURCE}/query")
    assert first.headers["notion-version"] == "2026-03-11"
    assert first.headers["authorization"] == f"Bearer {KEY}"
    assert first.json == {"filter": condition, "page_size": 100}
    assert second.json["start_cursor"].startswith("s:816241ac")


def test_children_are_read_with_a_cursor_in_the_query(web: Web, notion: Notion) -> None:
    first = {"results": [{"id": "1"}], "has_more": True, "next_cursor": "c-1"}
    web.answers[:] = [Answer(body=json.dumps(first).encode()), sample("simulator_captures/page_children")]
    assert len(list(notion.list_children(PAGE))) == 2
    assert [(one.method, one.path) for one in web.requests] == [
        ("GET", f"/v1/blocks/{PAGE}/children?page_size=100"),
        ("GET", f"/v1/blocks/{PAGE}/children?page_size=100&start_cursor=c-1"),
    ]


def test_writes_send_what_the_version_names(web: Web, notion: Notion) -> None:
    web.answers[:] = [sample("simulator_captures/page")] * 2 + [
        Answer(body=b'{"results": [{"id": "b"}]}')
    ] * 2
    properties = {"Name": {"title": [{"text": {"content": "Ada"}}]}}
    assert notion.create_page(SOURCE, properties, [PARAGRAPH])["object"] == "page"
    notion.update_page(PAGE, in_trash=True)
    assert notion.append_children(PAGE, [PARAGRAPH]) == [{"id": "b"}]
    notion.append_children(PAGE, [PARAGRAPH], after=BLOCK)
    notion.delete_block(BLOCK)
    parent = {"type": "data_source_id", "data_source_id": SOURCE}
    assert [(one.method, one.path, one.body and one.json) for one in web.requests] == [
        ("POST", "/v1/pages", {"parent": parent, "properties": properties, "children": [PARAGRAPH]}),
        ("PATCH", f"/v1/pages/{PAGE}", {"in_trash": True}),
        ("PATCH", f"/v1/blocks/{PAGE}/children", {"children": [PARAGRAPH]}),
        ("PATCH", f"/v1/blocks/{PAGE}/children", {
            "children": [PARAGRAPH], "position": {"type": "after_block", "after_block": {"id": BLOCK}},
        }),
        ("DELETE", f"/v1/blocks/{BLOCK}", b""),
    ]  # fmt: skip


Call = Callable[[Notion], Any]


def read(notion: Notion) -> Any:
    return list(notion.list_children(PAGE))


def query(notion: Notion) -> Any:
    return list(notion.list_pages(SOURCE, {}))


def write(notion: Notion) -> Any:
    return notion.append_children(PAGE, [PARAGRAPH])


def create(notion: Notion) -> Any:
    return notion.create_page(SOURCE, {})


@pytest.mark.parametrize("call", [read, query, write, create])
def test_a_rate_limit_waits_as_long_as_notion_states_and_counts_no_try(
    web: Web, notion: Notion, call: Call
) -> None:
    web.answers[:] = [sample("rate_limited_429")]
    with pytest.raises(Deferred) as caught:
        call(notion)
    assert caught.value.wait == timedelta(seconds=17)
    assert caught.value.detail == "HTTP 429 rate_limited: public_api_request_rate_limit"


@pytest.mark.parametrize("call", [read, query, write, create])
@pytest.mark.parametrize(
    ("answer", "code", "wait"),
    [
        (sample("service_overload_529"), "notion.service_overload", 5),
        (error(409, "conflict_error"), "notion.conflict", None),
    ],
)
def test_an_overload_and_a_conflict_are_tried_again_because_nothing_happened(
    web: Web, notion: Notion, call: Call, answer: Answer, code: str, wait: int | None
) -> None:
    web.answers[:] = [answer]
    with pytest.raises(RetryLater) as caught:
        call(notion)
    assert caught.value.code == code
    assert caught.value.wait == (wait and timedelta(seconds=wait))


@pytest.mark.parametrize(
    "answer",
    [HANGS_UP, error(500, "internal_server_error"), error(503, "service_unavailable"), Answer(504),
     Answer(200, {}, b"<html>"), Answer(200, {}, b"[]"), Answer(200, {}, b'{"results": null}')],
)  # fmt: skip
def test_without_a_clear_answer_a_write_is_unknown_and_a_read_is_tried_again(
    web: Web, notion: Notion, answer: Answer
) -> None:
    web.answers[:] = [answer]
    with pytest.raises(OutcomeUnknown):
        write(notion)
    for call in (read, query):
        web.answers[:] = [answer]
        with pytest.raises(RetryLater):
            call(notion)


def test_a_refused_key_concerns_the_connection_and_a_missing_right_one_resource(
    web: Web, notion: Notion
) -> None:
    web.answers[:] = [sample("simulator_captures/err_401"), error(403, "restricted_resource")]
    with collect_calls() as calls:
        for code in ("notion.key_refused", "notion.access_denied"):
            with pytest.raises(Misconfigured) as caught:
                write(notion)
            assert caught.value.code == code
            assert KEY not in str(caught.value)
    assert [(key, fault.code) for key, fault in calls.items() if fault] == [
        (("notion", ""), "notion.key_refused"),
        (("notion", "blocks"), "notion.access_denied"),
    ]


@pytest.mark.parametrize("call", [query, create])
def test_a_data_source_that_is_not_shared_says_what_to_do(web: Web, notion: Notion, call: Call) -> None:
    web.answers[:] = [sample("simulator_captures/err_404")]
    with pytest.raises(Misconfigured, match="choose Connections in its menu") as caught:
        call(notion)
    assert caught.value.code == "notion.data_source_not_shared"
    assert caught.value.is_partial


def test_an_object_that_is_not_there_is_refused_and_its_deletion_succeeds(web: Web, notion: Notion) -> None:
    web.answers[:] = [sample("simulator_captures/err_404")] * 2
    with pytest.raises(Refused) as caught:
        notion.fetch_page(PAGE)
    assert caught.value.code == NOT_FOUND
    notion.delete_block(BLOCK)
    assert len(web.requests) == 2


def test_a_validation_error_names_the_field_and_other_messages_are_left_out(web: Web, notion: Notion) -> None:
    message = "body failed validation: body.children[0].paragraph should be defined, instead was `undefined`."
    web.answers[:] = [error(400, "validation_error", message), error(400, "invalid_json", f"near {KEY}")]
    with pytest.raises(Refused, match="paragraph should be defined"):
        write(notion)
    with pytest.raises(Refused) as caught:
        write(notion)
    assert caught.value.detail == "HTTP 400 invalid_json"


def test_an_id_of_another_form_is_not_sent(web: Web, notion: Notion) -> None:
    for wrong in ("../users/me", "xyz", "1" * 31):
        with pytest.raises(Refused, match="should be an id of Notion"):
            notion.fetch_page(wrong)
    assert web.requests == []
