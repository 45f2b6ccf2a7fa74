"""The blocks at Notion of each part of a call, message or mail. Pure.

A part is one toggle, or several if it is long: its title has the marker by which the toggle is found on the
page again, its children the content. A rich text has at most 2,000 characters, a request at most 100 blocks
and 500 KB.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import orjson

from services.conversations.addresses import normalize_phone
from services.core.counts import format_count
from services.core.times import format_time
from services.providers.delivery import find_instant
from services.providers.notion import LONGEST_TEXT

Block = dict[str, Any]

AI_SUMMARY = "ai_summary"
PARTS = ("recording", "voicemail", "transcript", "summary", AI_SUMMARY)
"""Parts of a call, in the order in which they are written with it."""
_OPEN = ("call.ringing", "call.answered")
"""A call in progress has no block: the event of its end follows."""
_CHILDREN = 60
"""Paragraphs of one toggle: with 2,000 characters of 3 bytes each it has 370 KB."""
_MARK = "shopfleet"
_LINK = re.compile(r"https://[\w-]+(\.[\w-]+)+(:\d{1,5})?([/?#][!$-;=?-Z_a-z~#&%]*)?", re.ASCII)
"""Notion refuses a request with a link that it does not take, so other addresses stay text."""


def render_parts(row: Mapping[str, Any]) -> dict[str, list[Block]]:
    """Return the toggles of each part of the interaction ``row``, without markers; none: nothing to show."""
    detail = row["detail"]
    parts: dict[str, list[Block]] = {}
    if detail.get("object") is not None:
        parts[row["kind"]] = [] if detail.get("type") in _OPEN else _render_base(row)
    for name in PARTS:
        if isinstance(part := detail.get(name), dict):
            source = part.get("object")
            lines = [*_RENDER[name](source if isinstance(source, dict) else {})]
            label = "Summary by AI" if name == AI_SUMMARY else name.capitalize()
            title = _make_title(f"{label} of the call", find_instant(part.get("at")))
            parts[name] = _make_toggles(title, lines) if any(lines) else []
    return parts


def hash_blocks(blocks: Sequence[Block]) -> str:
    """Return the digest of a part; empty for one without blocks."""
    if not blocks:
        return ""
    return hashlib.sha256(orjson.dumps(blocks, option=orjson.OPT_SORT_KEYS)).hexdigest()[:12]


def make_part_mark(shop_id: int, interaction_id: str, part: str) -> str:
    """Return the beginning of the markers of a part, in all its versions."""
    digest = hashlib.sha256(f"{shop_id}:{interaction_id}:{part}".encode()).hexdigest()[:12]
    return f"{_MARK}-{digest}"


def mark_blocks(blocks: Sequence[Block], part_mark: str, digest: str) -> dict[str, Block]:
    """Return the toggles with their markers, by marker."""
    marked = {}
    for number, block in enumerate(blocks):
        marker = f"{part_mark}-{digest}-{number}"
        toggle = block["toggle"]
        title = [*toggle["rich_text"], _make_text(f" {marker}", color="gray")]
        marked[marker] = {"type": "toggle", "toggle": {**toggle, "rich_text": title}}
    return marked


def find_marker(block: Mapping[str, Any]) -> str:
    """Return the marker in a block as Notion returns it; empty without one."""
    content = block.get(str(block.get("type")))
    texts = content.get("rich_text") if isinstance(content, dict) else None
    last = texts[-1] if isinstance(texts, list) and texts else None
    text = last.get("text") if isinstance(last, dict) else None
    marker = str(text.get("content", "")).strip() if isinstance(text, dict) else ""
    return marker if marker.startswith(f"{_MARK}-") else ""


def count_blocks(block: Block) -> int:
    return 1 + len(block["toggle"].get("children", ()))


def _render_base(row: Mapping[str, Any]) -> list[Block]:
    source = row["detail"]["object"]
    facts = [row["kind"].capitalize(), row["direction"], row["status"]]
    seconds = source.get("duration")
    if row["kind"] == "call" and isinstance(seconds, int | float):
        facts.append(format_count(round(seconds), "second"))
    media, voicemail, subject = (source.get(name) for name in ("media", "voicemail", "subject"))
    lines = [" – ".join(row["participants"])] if row["kind"] != "message" else []
    lines += [f"Subject: {subject}"] if isinstance(subject, str) else []
    links = _list_links([*(media if isinstance(media, list) else []), voicemail])
    title = _make_title(" · ".join(filter(None, facts)), row["occurred_at"])
    return _make_toggles(title, [*lines, row["body"], *links])


def _render_summary(source: Mapping[str, Any]) -> Iterator[str]:
    yield from _list_texts(source.get("summary"))
    if steps := list(_list_texts(source.get("nextSteps"))):
        yield "Next steps: " + "; ".join(steps)


def _render_transcript(source: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines of a dialogue, several to a paragraph."""
    held = ""
    dialogue = source.get("dialogue")
    for line in dialogue if isinstance(dialogue, list) else []:
        if not isinstance(line, dict) or not isinstance(line.get("content"), str):
            continue
        speaker = normalize_phone(line.get("identifier")) or ("Shop" if line.get("userId") else "Caller")
        text = f"{speaker}: {line['content']}"
        if held and len(held) + len(text) >= LONGEST_TEXT:
            yield held
            held = ""
        held = f"{held}\n{text}" if held else text
    yield held


def _render_recording(source: Mapping[str, Any]) -> Iterator[str]:
    entries = source.get("recordings") or source.get("media")
    yield from _list_links(entries if isinstance(entries, list) else [])


def _render_voicemail(source: Mapping[str, Any]) -> Iterator[str]:
    inner = source.get("voicemail")
    voicemail = inner if isinstance(inner, dict) else source
    yield from _list_links([voicemail])
    yield from _list_texts([voicemail.get("transcript") or voicemail.get("transcription")])


_RENDER = {
    "recording": _render_recording,
    "voicemail": _render_voicemail,
    "transcript": _render_transcript,
    "summary": _render_summary,
    AI_SUMMARY: _render_summary,
}


def _list_texts(value: object) -> Iterator[str]:
    texts = [value] if isinstance(value, str) else value
    yield from (one for one in texts if isinstance(one, str)) if isinstance(texts, list) else ()


def _list_links(entries: Sequence[object]) -> list[str]:
    links = [one.get("url") or one.get("recordingUrl") for one in entries if isinstance(one, dict)]
    return [one for one in links if isinstance(one, str) and one.startswith("https://")]


def _make_title(text: str, at: datetime | None) -> str:
    return f"{format_time(at, UTC)} · {text[:200]}" if at else text[:200]


def _make_toggles(title: str, lines: Sequence[str]) -> list[Block]:
    """Return one toggle, or several, with ``lines`` as paragraphs, split to the limits of Notion."""
    paragraphs = [_make_paragraph(piece) for line in lines for piece in split_text(line)]
    sets = [paragraphs[start : start + _CHILDREN] for start in range(0, len(paragraphs), _CHILDREN)] or [[]]
    numbers = [f" ({n}/{len(sets)})" if len(sets) > 1 else "" for n in range(1, len(sets) + 1)]
    return [
        {
            "type": "toggle",
            "toggle": {
                "rich_text": [_make_text(f"{title}{number}")],
                **({"children": children} if children else {}),
            },
        }
        for number, children in zip(numbers, sets, strict=True)
    ]


def split_text(text: str) -> Iterator[str]:
    """Yield pieces of at most 2,000 UTF-16 units, as Notion counts characters."""
    while text:
        piece = text[:LONGEST_TEXT]
        if len(piece.encode("utf-16-le", "surrogatepass")) > 2 * LONGEST_TEXT:
            piece = text[: LONGEST_TEXT // 2]
        yield piece
        text = text[len(piece) :]


def _make_paragraph(text: str) -> Block:
    link = text if _LINK.fullmatch(text) and len(text) < LONGEST_TEXT else ""
    return {"type": "paragraph", "paragraph": {"rich_text": [_make_text(text, link=link)]}}


def _make_text(content: str, *, color: str = "", link: str = "") -> dict[str, Any]:
    text: dict[str, Any] = {"content": content} | ({"link": {"url": link}} if link else {})
    return {"type": "text", "text": text} | ({"annotations": {"color": color}} if color else {})
