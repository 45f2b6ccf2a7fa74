"""A Notion of the sandbox: its clock, its control requests, and what tests write."""

from typing import Any

import httpx

from services.providers.notion import Notion
from services.sandbox.notion.connection import SAMPLE_DATA_SOURCE as SOURCE
from services.sandbox.serve import SandboxServer

KEY = "ntn_acme"


class Clock:
    """A clock that moves only when a test moves it."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def control(server: SandboxServer, **request: Any) -> None:
    httpx.post(f"{server.url}/_control", json={"notion_key": KEY, **request}).raise_for_status()


def counts(server: SandboxServer) -> dict[str, Any]:
    found: dict[str, Any] = httpx.get(f"{server.url}/_control").json()["notion"][KEY]
    return found


def text(content: str) -> list[dict[str, Any]]:
    return [{"type": "text", "text": {"content": content}}]


def title(content: str) -> dict[str, Any]:
    return {"Name": {"title": text(content)}}


def paragraph(content: str) -> dict[str, Any]:
    return {"type": "paragraph", "paragraph": {"rich_text": text(content)}}


def make_page(notion: Notion, *children: str) -> str:
    return str(notion.create_page(SOURCE, title("Ada"), [paragraph(one) for one in children])["id"])


def read_texts(notion: Notion, page_id: str) -> list[str]:
    return [one["paragraph"]["rich_text"][0]["plain_text"] for one in notion.list_children(page_id)]
