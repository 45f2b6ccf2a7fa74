"""A number with its noun is text of ``format_count``: "1 order", never "1 orders" or "1 order(s)"."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.core.counts import format_count

ROOT = Path(__file__).parents[2]
PYTHON = [
    path
    for folder in ("services", "tasks")
    for path in sorted((ROOT / folder).rglob("*.py"))
    if "versions" not in path.parts
]
TEMPLATES = [path for end in ("html", "txt") for path in sorted((ROOT / "services").rglob(f"*.{end}"))]
_CALL = re.compile(
    r"""format_count\((?:(?!format_count).)*?["']([\w -]+)["'](?:, ["']([\w -]+)["'])?\)""", re.DOTALL
)
_PLACE = re.compile(r"\{\{? ?([^{}]+?)(?::[^{}]*)?\}\}? (?:(?!has|contains)[a-z-]+ )?([A-Za-z-]+s)\b(?!/)")
_VERB = re.compile(r"\{(?:\w+\.)*format_count\([^{}]*\)\} (are|have|do|were|wait|need|differ)\b")
_LIMIT = re.compile(r"[\w.]*\b_?[A-Z][A-Z_]+[^a-z]*(?:\.days)?")
NOT_A_COUNT = {
    "row {end.seq + 1} breaks",
    "{old} that changes",
    "{refused.provider} webhooks",
    "{kind} costs",
    "{provider} webhooks",
}
"""The value is a number or a name of something, and no count."""


def find_nouns() -> set[str]:
    """Return the plural nouns of all calls of ``format_count``, and those of times."""
    found = {"hours", "minutes", "seconds", "days", "weeks", "months", "years", "times"}
    for path in [*PYTHON, *TEMPLATES]:
        for noun, plural in _CALL.findall(path.read_text()):
            found |= {word for word in (plural or format_count(2, noun)).split() if word.endswith("s")}
    return found - {"runs"}  # a verb in most texts


NOUNS = find_nouns()


def list_texts(source: str) -> Iterator[str]:
    """Yield the texts of ``source`` that are no docstring, with each value in braces."""
    tree = ast.parse(source)
    skipped = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            skipped |= {id(part) for part in node.values}
            yield "".join(
                str(part.value) if isinstance(part, ast.Constant) else f"{{{_strip(part)}}}"
                for part in node.values
            )
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in skipped:
            yield node.value


def _strip(part: ast.expr) -> str:
    assert isinstance(part, ast.FormattedValue)
    return re.sub(r"[{}]", "", ast.unparse(part.value))


def find_faults(text: str) -> list[str]:
    """Return the places of ``text`` with a number and a plural noun, or a plural verb, without the helper."""
    found = [
        match[0]
        for match in _PLACE.finditer(text)
        if match[2] in NOUNS and "format_count" not in match[1] and not _LIMIT.fullmatch(match[1])
    ]
    return found + [match[0] for match in _VERB.finditer(text)] + re.findall(r"\w+\(s\)", text)


def test_every_number_with_a_noun_is_text_of_the_helper() -> None:
    texts = [(path, text) for path in PYTHON for text in list_texts(path.read_text())]
    texts += [(path, path.read_text()) for path in TEMPLATES]
    found = {
        f"{path.relative_to(ROOT)}: {place}"
        for path, text in texts
        for place in find_faults(text)
        if not any(known in text for known in NOT_A_COUNT)
    }
    assert found == set()


def test_no_module_chooses_between_a_noun_and_its_plural() -> None:
    choice = re.compile(
        r"""["'](\w+)["'] if [^"'\n]+ [!=]= 1 else ["']\1e?s["']|["']e?s["'] if [^"'\n]+ != 1"""
    )

    assert [str(path) for path in PYTHON if choice.search(path.read_text())] == []


@pytest.mark.parametrize(
    ("count", "noun", "text"),
    [
        (1, "order", "1 order"),
        (0, "order", "0 orders"),
        (1200, "entry", "1,200 entries"),
        (2, "key", "2 keys"),
        (2, "push", "2 pushes"),
        (2, "failed try", "2 failed tries"),
        (2, "item of work", "2 items of work"),
    ],
)
def test_a_count_has_the_form_of_its_noun(count: int, noun: str, text: str) -> None:
    assert format_count(count, noun) == text


def test_a_given_plural_replaces_the_regular_one() -> None:
    assert format_count(1, "row is", "rows are") == "1 row is"
    assert format_count(2, "row is", "rows are") == "2 rows are"


@pytest.mark.parametrize(
    "source",
    [
        'f"{count} rows"',
        'f"{len(rows):,} more rows here"',
        '"{count:,} orders were read"',
        "f\"{format_count(n, 'row')} are done\"",
        'f"{count} row(s)"',
    ],
)
def test_a_number_with_a_fixed_noun_is_noticed(source: str) -> None:
    assert any(find_faults(text) for text in list_texts(f"x = {source}"))
