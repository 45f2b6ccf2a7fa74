"""Writes what a page lacks: appends the missing blocks of parts once, and deletes those of old versions."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import orjson

from services.conversations.access import NotionAccess
from services.conversations.blocks import Block, count_blocks, find_marker
from services.conversations.merchants import Merchant
from services.conversations.pages import (
    FoundPage,
    fetch_schema,
    find_or_create_page,
    hash_values,
    make_properties,
)
from services.conversations.parts import PendingPart
from services.core.errors import OutcomeUnknown, Refused, RetryLater
from services.providers.notion import MOST_BLOCKS, NOT_FOUND

if TYPE_CHECKING:
    from services.providers.notion import Notion

PAGE_GONE = "notion.page_gone"
MOST_BYTES = 400_000
"""Of the blocks of one request; Notion takes 500 KB."""


@dataclass(slots=True)
class PageWriter:
    """One try to bring the page of ``merchant`` up to date.

    ``anchors``: the last block on the page of each interaction that has one. ``page`` and ``written`` are to
    be recorded afterwards. ``may_have_appended``: this try or an earlier one may have made new blocks.
    ``present``: the blocks with a marker that were read from the page.
    """

    notion: "Notion"
    access: NotionAccess
    merchant: Merchant
    parts: Sequence[PendingPart]
    anchors: Mapping[tuple[int, str], str]
    page: FoundPage = field(init=False)
    written: dict[tuple[int, str, str], tuple[str, list[str]]] = field(default_factory=dict)
    may_have_appended: bool = field(init=False)
    present: set[str] | None = None

    def __post_init__(self) -> None:
        self.may_have_appended = any(part.is_doubtful for part in self.parts)
        self.page = FoundPage(self.merchant.page_id, self.merchant.page_values, "found")

    def write(self) -> None:
        """Make the page have the parts; each block is appended once, whatever earlier tries did.

        Raises ``RetryLater`` with ``PAGE_GONE`` if the page was deleted.
        """
        try:
            self.page = self._open_page()
            self._write_parts()
        except Refused as fault:
            if not self.page.page_id or (fault.code != NOT_FOUND and not self._is_in_trash()):
                raise
            raise RetryLater(
                PAGE_GONE, "the page was deleted in Notion; the next try makes another"
            ) from fault

    def _open_page(self) -> FoundPage:
        merchant = self.merchant
        if not merchant.page_id:
            return find_or_create_page(self.notion, self.access, merchant)
        values = hash_values(merchant)
        if merchant.page_values != values:
            properties = make_properties(fetch_schema(self.notion, self.access), merchant)
            self.notion.update_page(merchant.page_id, properties=properties)
        return FoundPage(merchant.page_id, values, "found")

    def _write_parts(self) -> None:
        found = self._read_markers() if self.may_have_appended else {}
        if self.may_have_appended:
            self.present = {block_id for ids in found.values() for block_id in ids}
        block_ids = {marker: ids[0] for marker, ids in found.items()}
        # Blocks of a version that a try without an outcome appended, and second copies.
        wanted = {marker for part in self.parts for marker in part.blocks}
        marks = tuple(f"{part.mark}-" for part in self.parts)
        extra = [
            block_id
            for marker, ids in found.items()
            if marker.startswith(marks)
            for block_id in (ids[1:] if marker in wanted else ids)
        ]
        for anchor, blocks in self._plan_appends(block_ids):
            block_ids |= self._append(blocks, anchor)
        kept = {block_ids[marker] for marker in wanted}
        old = [block_id for part in self.parts for block_id in part.old_block_ids]
        for block_id in dict.fromkeys([*old, *extra]):
            if block_id not in kept:
                self._delete(block_id)
        for part in self.parts:
            self.written[part.key] = part.digest, [block_ids[marker] for marker in part.blocks]

    def _read_markers(self) -> dict[str, list[str]]:
        """Return the ids of the page's blocks by their marker."""
        found: dict[str, list[str]] = {}
        for block in self.notion.list_children(self.page.page_id):
            if marker := find_marker(block):
                found.setdefault(marker, []).append(str(block["id"]))
        return found

    def _plan_appends(self, present: Mapping[str, str]) -> Iterator[tuple[str, dict[str, Block]]]:
        """Yield the blocks of each append: after the block of their interaction, the others at the end."""
        groups: dict[str, dict[str, Block]] = {}
        for part in self.parts:
            anchor = self.anchors.get((part.shop_id, part.interaction_id), "")
            missing = {marker: block for marker, block in part.blocks.items() if marker not in present}
            groups.setdefault(anchor, {}).update(missing)
        for anchor, blocks in groups.items():
            for chunk in split_blocks(blocks):
                yield anchor, chunk

    def _append(self, blocks: Mapping[str, Block], anchor: str) -> dict[str, str]:
        """Append ``blocks`` and return their ids by marker."""
        try:
            answered = self.notion.append_children(self.page.page_id, [*blocks.values()], after=anchor)
        except OutcomeUnknown:
            self.may_have_appended = True
            raise
        except Refused:
            if not anchor:
                raise
            # A person deleted the block: the end of the page is as good.
            return self._append(blocks, "")
        self.may_have_appended = True
        return {find_marker(block): str(block["id"]) for block in answered if find_marker(block) in blocks}

    def _delete(self, block_id: str) -> None:
        """Delete a block, unless an earlier try or a person did."""
        if self.present is not None and block_id not in self.present:
            return
        try:
            self.notion.delete_block(block_id)
        except Refused:
            if block_id in {block["id"] for block in self.notion.list_children(self.page.page_id)}:
                raise

    def _is_in_trash(self) -> bool:
        try:
            return bool(self.notion.fetch_page(self.page.page_id).get("in_trash"))
        except Refused as fault:
            return fault.code == NOT_FOUND


def split_blocks(blocks: Mapping[str, Block]) -> Iterator[dict[str, Block]]:
    """Yield sets of ``blocks`` that one request may append: at most 100 with their children, and 400 KB."""
    chunk: dict[str, Block] = {}
    count = size = 0
    for marker, block in blocks.items():
        more, bytes_more = count_blocks(block), len(orjson.dumps(block))
        if chunk and (count + more > MOST_BLOCKS or size + bytes_more > MOST_BYTES):
            yield chunk
            chunk, count, size = {}, 0, 0
        chunk[marker] = block
        count, size = count + more, size + bytes_more
    if chunk:
        yield chunk
