"""Every command of ``docs/on-call.md`` and ``docs/production.md`` parses, and names what exists."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest
from celery.bin.celery import celery

from services.alerts.incidents import RULES
from services.ingress.app import make_flask
from tests.structure.test_examples import parse, parse_line

DOCS = Path(__file__).parents[2] / "docs"
ON_CALL, PRODUCTION = (DOCS / "on-call.md").read_text(), (DOCS / "production.md").read_text()
PARTS = ("Notice", "Confirm", "Fix", "Verify")
MACHINE = frozenset(
    [
        "systemctl",
        "journalctl",
        "tail",
        "df",
        "du",
        "redis-cli",
        "timedatectl",
        "certbot",
        "nginx",
        "runuser",
        "install",
    ]
)
PACKAGES = frozenset(["postgresql", "postgresql@15-main", "redis-server", "nginx", "certbot.timer", "ssh"])


def read_commands(page: str) -> list[str]:
    """Return the lines of the shell blocks of ``page``."""
    blocks = re.findall(r"^```sh\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in block.splitlines()]


COMMANDS = read_commands(ON_CALL)
OURS = [
    line.removeprefix("shopfleet ").removeprefix("--owner ")
    for line in (*COMMANDS, *read_commands(PRODUCTION))
    if line.startswith("shopfleet ")
]


def test_there_are_ten_things_with_four_parts_each() -> None:
    sections = re.split(r"^## ", ON_CALL, flags=re.MULTILINE)[1:]
    assert [section.split(".")[0] for section in sections] == [str(number) for number in range(1, 11)]
    for section in sections:
        assert re.findall(r"^\*\*(\w+)\.\*\*", section, re.MULTILINE) == list(PARTS), section[:40]
        assert section.count("```sh") >= 3, section[:40]


def test_the_blocks_are_valid_shell() -> None:
    checked = subprocess.run(
        ["bash", "-n"], input="\n".join(COMMANDS), text=True, capture_output=True, check=False
    )
    assert checked.stderr == ""


@pytest.mark.parametrize("line", sorted(set(OURS)))
def test_a_command_of_ours_parses(line: str) -> None:
    if line.startswith("celery -A tasks inspect"):
        parse(celery.commands["inspect"], shlex.split(line)[3:])
    else:
        assert line.split(maxsplit=1)[0] in ("fleet", "celery")
        parse_line(line)


def test_every_other_command_names_what_exists() -> None:
    units = {
        f"shopfleet-{name}"
        for name in re.findall(r"^cat > shopfleet-(\S+)\.service <<", PRODUCTION, re.MULTILINE)
    }
    routes = {str(rule) for rule in make_flask().url_map.iter_rules()}
    assert len(units) == 9
    for line in COMMANDS:
        words = shlex.split(line)
        if words[0] == "curl":
            (url,) = (word for word in words if word.startswith("http"))
            assert "/" + url.split("/", 3)[3] in routes, line
        elif words[0] != "shopfleet":
            assert words[0] in MACHINE, line
        named = [word for word in words[1:] if re.match(r"shopfleet-", word)]
        for unit in named:
            assert any(re.fullmatch(unit.replace("*", ".*"), known) for known in units), line
        if words[0] == "systemctl":
            assert set(words[2:]) - set(named) <= PACKAGES, line


def test_every_incident_and_event_that_the_page_names_exists() -> None:
    rules = re.findall(r"[Ii]ncidents? `(\w+)(?::<\w+>|:mail_send)?`", ON_CALL)
    assert len(rules) > 5
    assert set(rules) <= set(RULES)
    sources = "".join(path.read_text() for path in (DOCS.parent / "tasks").rglob("*.py"))
    assert all(f'"{event}"' in sources for event in re.findall(r"`(beat_\w+)`", ON_CALL))
