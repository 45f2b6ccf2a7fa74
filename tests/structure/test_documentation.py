"""Commands (with their options and values), links and SQL of README.md and ``docs/`` are right."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from celery.bin.celery import celery
from click.exceptions import NoArgsIsHelpError
from sqlalchemy import Engine

from services.cli.main import main
from services.ledger.topics import TOPICS
from tests.structure.test_examples import CELERY, parse, parse_line

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
_FENCE = re.compile(r"^ *```[^\n]*\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
_INDENTED = re.compile(r"^    (.*)$", re.MULTILINE)
_INLINE = re.compile(r"`([^`\n]+(?:\n[^`\n]+)?)`")
_PROMPT = re.compile(r"^(?:\$ )?(?:shopfleet (?:--owner )?|\.venv/bin/)?(?=(?:fleet|celery -A tasks) )")
_PLACEHOLDER = re.compile(r"\.\.\.|<|[|]|^(?:--[\w-]+=)?[A-Z][A-Z_]*$|^t$")


def find_commands(text: str) -> Iterator[tuple[bool, str]]:
    """Yield each command line of ``text``, and whether it is one of a block, which is complete."""
    blocks = _FENCE.findall(text)
    rest = _FENCE.sub("", text)
    for line in "\n".join([*blocks, *_INDENTED.findall(rest)]).splitlines():
        if match := _PROMPT.match(line.strip()):
            yield True, line.strip()[match.end() :]
    for span in _INLINE.findall(rest):
        line = " ".join(span.split())
        if match := _PROMPT.match(line):
            yield False, line[match.end() :]


NEED_THE_APP = frozenset(["worker", "beat", "flower"])
"""Celery's own commands, which parse their options with the settings of the app."""

FOUND = [
    pytest.param(is_block, line, id=f"{page.relative_to(ROOT)}: {line}")
    for page in PAGES
    for is_block, line in dict.fromkeys(find_commands(page.read_text()))
]


def check(line: str, *, is_block: bool) -> None:
    """Raise ``UsageError`` for a wrong command; in a sentence arguments may be absent or placeholders."""
    words = shlex.split(re.split(r" (?:[<>|]|&&) ", line)[0], comments=True)
    if words[:4] == ["celery", "-A", "tasks", "inspect"]:
        parse(celery.commands["inspect"], words[3:])
        return
    of_celery = words[0] == "celery" and words[3] in NEED_THE_APP
    if not of_celery and (is_block or not any(map(_PLACEHOLDER.search, words))):
        try:
            parse_line(shlex.join(words))
        except (click.MissingParameter, click.BadOptionUsage, NoArgsIsHelpError) as fault:
            if is_block or getattr(fault, "option_name", words[-1]) != words[-1]:
                raise
        return
    command: click.Command = main
    rest = words[1:]
    if words[0] == "celery":
        command, rest = CELERY[words[3]], words[4:]
    for word in rest:
        if isinstance(command, click.Group):
            found = command.get_command(click.Context(command), word)
            if found is None and _PLACEHOLDER.search(word):
                return
            if found is None:
                raise click.UsageError(f"{word} is no command of {command.name}")
            command = found
        elif re.match("--?[a-zA-Z]", word):
            name = word.partition("=")[0]
            if not any(name in (*param.opts, *param.secondary_opts) for param in command.params):
                raise click.UsageError(f"{name} is no option of {command.name}")


@pytest.mark.parametrize(("is_block", "line"), FOUND)
def test_a_command_of_the_documentation_exists(
    is_block: bool, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for word in re.findall(r"[\w.-]+\.(?:csv|txt|secrets|json)\b", line):
        Path(word).touch()

    check(line, is_block=is_block)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_to_a_file_and_a_heading(page: Path) -> None:
    for link in re.findall(r"\]\((?!https?:)([^)\s]+)\)", page.read_text()):
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), link
        if anchor and target.suffix == ".md":
            headings = re.findall(r"^#+ (.*)$", target.read_text(), re.MULTILINE)
            anchors = [re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings]
            assert anchor in anchors, link


SQL = [
    pytest.param(statement, id=f"{page.relative_to(ROOT)}: {' '.join(statement.split())[:60]}")
    for page in PAGES
    for block in re.findall(r"^```sql\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
    for statement in re.sub(r"--.*", "", block).split(";")
    if statement.strip() and not re.match(r"\s*(create role|grant connect)\b", statement)
]


@pytest.mark.parametrize("statement", SQL)
def test_the_sql_of_the_documentation_runs(engine: Engine, statement: str) -> None:
    with engine.connect() as tx:
        tx.exec_driver_sql(statement.replace("%", "%%"))


def test_commands_are_found() -> None:
    assert len(SQL) > 7
    assert len(FOUND) > 300
    assert len({param.id for param in FOUND if param.values[0]}) > 100


@pytest.mark.parametrize(
    "line",
    [
        "fleet evnts list",
        "fleet shops secret SHOP --form-file FILE",
        "fleet work list --status deed",
        "celery -A tasks requeue --topic TOPIC --stat dead",
        "celery -A tasks pause --topic inventory_psh",
    ],
)
def test_a_wrong_command_is_noticed(line: str) -> None:
    with pytest.raises(click.UsageError):
        check(line, is_block=False)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_table_of_the_documentation_has_a_heading(page: Path) -> None:
    """A row after an empty line is text, not a row of the table before."""
    tables = re.findall(r"^\|.*\n(?:\|.*\n?)*", _FENCE.sub("", page.read_text()), re.MULTILINE)
    assert [rows for rows in tables if not re.match(r".*\n\|[ :|-]+\|\n", rows)] == []


def test_the_page_of_costs_names_the_topics_that_the_cap_of_ai_pauses() -> None:
    text = (ROOT / "docs" / "costs.md").read_text()
    assert [name for name, topic in TOPICS.items() if topic.cost == "ai" and f"`{name}`" not in text] == []
