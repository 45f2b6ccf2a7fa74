"""The sandbox's Notion answers our client in the form of the samples, with the size limits of Notion."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from services.core.errors import Misconfigured, Refused
from services.providers.notion import NOT_FOUND, Notion
from services.sandbox.notion.connection import SAMPLE_DATA_SOURCE as SOURCE
from services.sandbox.serve import SandboxServer
from tests.sandbox.notion import KEY, control, counts, make_page, paragraph, read_texts, text, title

SAMPLES = Path(__file__).parents[3] / "shared/samples/notion"


def sample(name: str) -> Any:
    return json.loads((SAMPLES / f"simulator_captures/{name}.json").read_text())["body"]


def assert_same_form(given: Any, wanted: Any, path: str = "") -> None:
    """Compare names and types; ``archived`` is gone since 2026-03-11."""
    if isinstance(wanted, dict):
        names = set(wanted) - {"archived", "cover", "icon", "database_parent", "database_type"}
        assert names <= set(given), (path, names - set(given))
        for name in names - {"properties"}:
            assert_same_form(given[name], wanted[name], f"{path}.{name}")
    elif isinstance(wanted, list) and wanted and given:
        assert_same_form(given[0], wanted[0], f"{path}[0]")
    elif wanted is not None and given is not None:
        assert type(given) is type(wanted), path


def test_objects_have_the_form_of_the_samples(notion: Notion, server: SandboxServer) -> None:
    page_id = make_page(notion, "Hi")
    headers = {"Authorization": f"Bearer {KEY}", "Notion-Version": "2026-03-11"}
    with httpx.Client(base_url=f"{server.url}/notion/v1", headers=headers) as http:
        assert_same_form(http.get(f"/pages/{page_id}").json(), sample("page"))
        assert_same_form(http.get(f"/blocks/{page_id}/children").json(), sample("page_children"))
        assert_same_form(http.get(f"/data_sources/{SOURCE}").json(), sample("data_source"))
        found = http.post(f"/data_sources/{SOURCE}/query", json={"page_size": 1}).json()
        assert_same_form(found, {**sample("data_source_query_p2"), "next_cursor": None})


def test_errors_have_the_form_and_the_code_of_the_samples(server: SandboxServer) -> None:
    version, key = {"Notion-Version": "2026-03-11"}, {"Authorization": f"Bearer {KEY}"}
    nothing = "00000000-0000-0000-0000-000000000000"
    for name, headers, page_id in (
        ("err_400_missing_version", key, nothing),
        ("err_401", version | {"Authorization": "Bearer wrong"}, nothing),
        ("err_404", key | version, nothing),
        ("err_400_bad_uuid", key | version, "xyz"),
    ):
        given = httpx.get(f"{server.url}/notion/v1/pages/{page_id}", headers=headers).json()
        assert (given["status"], given["code"]) == (sample(name)["status"], sample(name)["code"])
        assert_same_form(given, sample(name))
    odd = httpx.patch(f"{server.url}/notion/v1/pages/{nothing}", headers=key | version, content=b"{")
    assert odd.json()["code"] == "invalid_json"
    assert httpx.get(f"{server.url}/notion/v1/other", headers=key | version).json()["code"] == (
        "invalid_request_url"
    )


def test_a_page_is_found_by_our_property_updated_and_put_in_the_trash(notion: Notion) -> None:
    given = title("Ada") | {"Merchant UUID": {"rich_text": text("u-1")}}
    page = notion.create_page(SOURCE, given)
    notion.create_page(SOURCE, title("Ben") | {"Merchant UUID": {"rich_text": text("u-2")}})
    condition = {"property": "Merchant UUID", "rich_text": {"equals": "u-1"}}
    assert [one["id"] for one in notion.list_pages(SOURCE, condition)] == [page["id"]]
    notion.update_page(page["id"], properties=title("Ada L."))
    assert notion.fetch_page(page["id"])["properties"]["Name"]["title"][0]["plain_text"] == "Ada L."
    assert notion.update_page(page["id"], in_trash=True)["in_trash"]
    assert list(notion.list_pages(SOURCE, condition)) == []
    with pytest.raises(Refused, match="in the trash"):
        notion.append_children(page["id"], [paragraph("Hi")])
    assert not notion.update_page(page["id"], in_trash=False)["in_trash"]


def test_blocks_keep_their_order_over_pages_of_a_list_and_deletions(notion: Notion) -> None:
    page_id = make_page(notion, *(f"a{number}" for number in range(100)))
    added = notion.append_children(page_id, [paragraph("b1"), paragraph("b3")])
    notion.append_children(page_id, [paragraph("b2")], after=added[0]["id"])
    notion.delete_block(added[1]["id"])
    notion.delete_block(added[1]["id"])
    assert read_texts(notion, page_id) == [*(f"a{number}" for number in range(100)), "b1", "b2"]


@pytest.mark.parametrize(
    ("children", "message"),
    [
        ([paragraph("x" * 2001)],
         "[1].paragraph.rich_text[0].text.content.length should be ≤ `2000`, instead was `2001`"),
        ([paragraph("🙂" * 1001)], "content.length should be ≤ `2000`, instead was `2002`"),
        ([paragraph("x")] * 100, "body.children.length should be ≤ `100`, instead was `101`"),
        ([{"type": "paragraph", "paragraph": {"rich_text": text("x") * 101}}],
         "body.children[1].paragraph.rich_text.length should be ≤ `100`"),
        ([{"type": "nothing"}], "body.children[1].nothing should be defined"),
        ([{"type": "paragraph", "paragraph": {}}], "[1].paragraph.rich_text should be an array"),
    ],
)  # fmt: skip
def test_what_notion_refuses_is_refused_and_nothing_of_it_is_written(
    notion: Notion, children: list[dict[str, Any]], message: str
) -> None:
    page_id = make_page(notion)
    with pytest.raises(Refused) as caught:
        notion.append_children(page_id, [paragraph("ok"), *children])
    assert message in caught.value.detail
    assert read_texts(notion, page_id) == []


def test_properties_must_exist_with_their_type(notion: Notion) -> None:
    for properties, message in (
        ({"Colour": {"rich_text": text("red")}}, "Colour is not a property that exists"),
        ({"Name": {"rich_text": text("Ada")}}, "Name is expected to be title"),
        (title("x" * 2001), "should be ≤ `2000`"),
    ):
        with pytest.raises(Refused, match=message):
            notion.create_page(SOURCE, properties)
    with pytest.raises(Refused, match="Could not find property"):
        list(notion.list_pages(SOURCE, {"property": "Colour", "rich_text": {"equals": "red"}}))


def test_fields_of_the_version_before_are_refused(server: SandboxServer, notion: Notion) -> None:
    page_id = make_page(notion, "a")
    headers = {"Authorization": f"Bearer {KEY}", "Notion-Version": "2026-03-11"}
    with httpx.Client(base_url=f"{server.url}/notion/v1", headers=headers) as http:
        old = http.patch(f"/blocks/{page_id}/children", json={"children": [], "after": page_id})
        assert "body.after should be not present" in old.json()["message"]
        old = http.patch(f"/pages/{page_id}", json={"archived": True})
        assert "body.archived should be not present" in old.json()["message"]
        old = http.get(f"/pages/{page_id}", headers={"Notion-Version": "2025-09-03"})
        assert (old.status_code, old.json()["code"]) == (400, "validation_error")


def test_a_data_source_that_is_not_shared_does_not_exist_for_the_connection(
    server: SandboxServer, notion: Notion
) -> None:
    page_id = make_page(notion)
    control(server, shared=[])
    with pytest.raises(Misconfigured, match="not shared"):
        notion.fetch_data_source(SOURCE)
    with pytest.raises(Refused) as caught:
        notion.fetch_page(page_id)
    assert caught.value.code == NOT_FOUND


def test_the_contents_of_a_workspace_are_read_without_a_request(
    server: SandboxServer, notion: Notion
) -> None:
    make_page(notion, "a", "b")
    (page,) = httpx.get(f"{server.url}/_control/notion", params={"key": KEY}).json()["pages"]
    assert page["texts"] == ["a", "b"]
    assert counts(server)["connection"]["requests"] == 1
