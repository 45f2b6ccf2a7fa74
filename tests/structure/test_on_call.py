"""``docs/on-call.md`` names what exists. ``test_documentation.py`` parses its commands."""

import inspect
import re
import shlex
import subprocess
from pathlib import Path

from beat_schedule import JOBS
from services.alerts.rules import RULES
from services.cli.work import print_work
from services.core.settings import Settings
from services.ingress.app import make_flask
from services.ledger.health import DEGRADING, describe_health
from services.ledger.tables import STATUSES
from services.ledger.topics import QUEUES
from services.mail.tables import STATUSES as MAIL_STATUSES
from services.schema.models import metadata

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
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


def test_every_name_in_a_sentence_of_the_page_is_one_of_the_product() -> None:
    sources = "".join(path.read_text() for path in (ROOT / "services").rglob("*.py"))
    known = {
        *re.findall(r'"(\w+)":', inspect.getsource(describe_health)),
        *DEGRADING,
        *("database", "broker", "beat", "sweep", "conditions", *(f"worker:{queue}" for queue in QUEUES)),
        *metadata.tables["work_queue"].columns.keys(),
        *re.findall(r'"([a-z]+\.[a-z_]+)"', sources),
        *(f"{provider}.unavailable" for provider in ("shopify", "stripe")),
        *re.findall(r'(?:DoctorCheck\(\s*|check_address\(|name = )"([\w ]+)"', sources),
        *re.findall(r'^ {8}"(\w+)":', inspect.getsource(print_work), re.MULTILINE),
        *(job.name for job in JOBS),
        *(name.upper() for name in Settings.__dataclass_fields__),
        *(f"{rule}{of}" for rule in RULES for of in ("", ":<job>", ":<topic>", ":mail_send")),
        *re.findall(r'log\.\w+\(\s*"(\w+)"', (ROOT / "tasks/beat.py").read_text()),
        *("request", "mail", *MAIL_STATUSES, *STATUSES, "ok"),
    }
    sentences = re.sub(r"^```.*?^```$", "", ON_CALL, flags=re.MULTILINE | re.DOTALL)
    spans = set(re.findall(r"`([\w.:<>-]+|broker policy|public url)`", sentences))
    assert len(spans) > 30
    assert spans - known == NOT_OURS


NOT_OURS = {"runuser", "maxmemory", "used_memory", "--dry-run", "unlock", "bug.", "t", "on"}
"""Names of Redis, answers of PostgreSQL, options, commands, and the beginning of codes."""


def test_every_incident_and_event_that_the_page_names_exists() -> None:
    rules = re.findall(r"[Ii]ncidents? `(\w+)(?::<\w+>|:mail_send)?`", ON_CALL)
    assert len(rules) > 5
    assert set(rules) <= set(RULES)
    sources = "".join(path.read_text() for path in (ROOT / "tasks").rglob("*.py"))
    assert all(f'"{event}"' in sources for event in re.findall(r"`(beat_\w+)`", ON_CALL))
