"""The error for a command that does not exist: it names what the person may mean."""

import tomllib
from collections.abc import Iterable
from difflib import get_close_matches
from importlib.metadata import entry_points
from pathlib import Path

_PROJECT = Path(__file__).parents[2] / "pyproject.toml"
_LEAST_SIMILARITY = 0.75
"""Below it a name has other letters by intention: with click's 0.6 ``logs`` is similar to ``close``."""
_DEAD_WORK = "`fleet work list --status dead`, then `celery -A tasks requeue`"
_HEALTH = "`fleet doctor`, `fleet overview` or `celery -A tasks backlog`"
_LOGS = "`fleet up` prints them in its terminal; under systemd: journalctl -u 'shopfleet-*'"
_RESTART = "`fleet up`; under systemd: systemctl {} shopfleet.target"
MEANT = {
    "ai": "`fleet shops costs SHOP`",
    "config": "`fleet env`; docs/settings.md",
    "connect": "`fleet shops connect SHOP`",
    "costs": "`fleet shops costs SHOP`",
    "dead": _DEAD_WORK,
    "deploy": "`fleet gate`",
    "dlq": _DEAD_WORK,
    "health": _HEALTH,
    "log": _LOGS,
    "logs": _LOGS,
    "metrics": "GET /metrics of ingress; docs/observability.md",
    "orders": "`fleet events list --topic orders/create`",
    "ps": _HEALTH,
    "queue": "`celery -A tasks backlog`",
    "queues": "`celery -A tasks backlog`",
    "replay": "`fleet events replay`",
    "restart": _RESTART.format("restart"),
    "retry": _DEAD_WORK,
    "run": "`fleet up`; a job: `fleet jobs run JOB`",
    "secret": "`fleet shops secret SHOP NAME`",
    "serve": "`fleet up`",
    "settings": "`fleet env`; docs/settings.md",
    "setup": "`make setup`, then `fleet up`",
    "start": _RESTART.format("start"),
    "status": _HEALTH,
    "stop": "Ctrl-C in the terminal of `fleet up`; under systemd: systemctl stop shopfleet.target",
    "test": "`fleet alerts test` or `fleet mail test you@example.com`",
    "webhooks": "`fleet events list`, `fleet shopify subscriptions --shop SHOP`",
    "workers": "`celery -A tasks status`",
}
"""What a person means who types a word that is no command of ``fleet`` or ``celery``."""

_OF_CELERY = frozenset(("beat", "control", "events", "flower", "inspect", "purge", "worker"))
"""Celery's own commands that people need here."""

_SYNONYMS = (
    ("add", "create", "new"),
    ("list", "ls"),
    ("remove", "delete", "rm"),
    ("resolve", "close", "done"),
    ("set", "change", "edit", "update"),
    ("show", "describe", "get", "info", "view"),
)


def describe_no_command(name: str, known: Iterable[str], *, is_root: bool = False) -> str:
    """Return the error for ``name``, which is none of the commands ``known``, with what may be meant.

    ``is_root``: of ``fleet`` or ``celery``, not of one of their groups.
    """
    names = list(known)
    words = next((words for words in _SYNONYMS if name in words), ())
    close = (
        [word for word in words if word in names]
        or get_close_matches(name, names, 3, _LEAST_SIMILARITY)
        or [word for word in names if len(name) > 2 and name in word]
    )
    if is_root and name in MEANT:
        return f"there is no command {name!r}: {MEANT[name]}"
    if is_root and (line := _find_elsewhere(name)):
        return f"there is no command {name!r} here: it is `{line}`"
    if is_root and name in _list_declared():
        how = "run `make setup`, or pip install --no-deps -e . in its folder"
        return f"the command {name!r} is not installed: the installation is older than the source, {how}"
    if close:
        return f"there is no command {name!r}; did you mean {' or '.join(map(repr, close))}?"
    if line := _find_elsewhere(name):
        return f"there is no command {name!r} here: it is `{line}`"
    return f"there is no command {name!r}: --help lists all"


def _find_elsewhere(name: str) -> str:
    """Return the line of the command ``name`` of the other of ``fleet`` and ``celery``, or an empty text."""
    groups = {"fleet": "fleet.commands", "celery -A tasks": "celery.commands"}
    of = {line: set(entry_points(group=group).names) for line, group in groups.items()}
    of["celery -A tasks"] |= _OF_CELERY
    return next((f"{line} {name}" for line, names in of.items() if name in names), "")


def _list_declared() -> set[str]:
    """Return the commands in the ``pyproject.toml`` of the source; an installation may have fewer."""
    try:
        project = tomllib.loads(_PROJECT.read_text())["project"]
    except (OSError, ValueError, KeyError):  # installed without its source
        return set()
    groups = project.get("entry-points", {})
    return {name for group in ("fleet.commands", "celery.commands") for name in groups.get(group, ())}
