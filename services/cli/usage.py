"""Wrong usage of the commands: a command that does not exist, a parameter that is missing."""

import re
import tomllib
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from importlib.metadata import entry_points
from pathlib import Path

import click
from click.core import ParameterSource

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


class SuggestingGroup(click.Group):
    """A group whose error for an unknown command names what may be meant."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.exceptions.NoSuchCommand as fault:
            names = self.list_commands(ctx)
            text = describe_no_command(fault.command_name, names, is_root=ctx.parent is None)
            raise click.UsageError(text, ctx) from None


def is_blank(value: object) -> bool:
    """Return whether ``value`` is a text without a character that is shown."""
    return isinstance(value, str) and not value.strip()


class ParametersMissing(click.MissingParameter):
    """Names all ``missing`` parameters of a command, which have no value or an empty one."""

    def __init__(self, ctx: click.Context, *missing: click.Parameter) -> None:
        parts = []
        for noun, kind in (("argument", click.Argument), ("option", click.Option)):
            names = [
                " ".join(
                    [max(one.opts, key=len)] * isinstance(one, click.Option)
                    + [one.make_metavar(ctx)] * (not getattr(one, "is_flag", False))
                )
                for one in missing
                if isinstance(one, kind)
            ]
            if names:
                parts.append(f"{noun}{'s' if len(names) > 1 else ''}: {', '.join(names)}")
        super().__init__(f"Missing {'; '.join(parts)}", ctx)

    def format_message(self) -> str:
        return self.message


_GIVEN = "shopfleet.given"
"""The key in ``Context.meta`` of the words of the command line."""


def refuse_missing(command: click.Command, ctx: click.Context, args: Sequence[str]) -> None:
    """Raise ``ParametersMissing`` for the required parameters of ``command`` that ``args`` lack."""
    ctx.meta[_GIVEN] = [*args]
    given, _, _ = command.make_parser(ctx).parse_args([*args])
    params = command.get_params(ctx)
    if any(param.is_eager and param.name in given for param in params):
        return  # --help
    values = [(param, param.consume_value(ctx, given)[0]) for param in params if param.required]
    if missing := [one for one, value in values if one.value_is_missing(value) or is_blank(value)]:
        raise ParametersMissing(ctx, *missing)


_FIELDS = {"lasts": ("until", "ends_at"), "previous_valid_for": ("keep_previous",)}
"""By parameter, the fields that errors name for its value, if they have another name."""


def name_options(message: str) -> str:
    """Return ``message`` with the options of the command line in place of the fields that it names.

    ``ai_cap='x' should be ...`` becomes ``--ai-cap='x' should be ...`` where ``--ai-cap`` was typed. A field
    stays if its value came from an argument or a file.
    """
    ctx = click.get_current_context(silent=True)
    for param in ctx.command.params if ctx else ():
        if not isinstance(param, click.Option) or ctx is None or not param.name:
            continue
        if ctx.get_parameter_source(param.name) is not ParameterSource.COMMANDLINE:
            continue
        words = [word.partition("=")[0] for word in ctx.meta.get(_GIVEN, ())]
        option = next((one for one in param.opts if one in words), max(param.opts, key=len))
        fields = {param.name, *_FIELDS.get(param.name, ())}
        fields |= {one.lstrip("-").replace("-", "_") for one in param.opts}
        names = "|".join(map(re.escape, fields))
        message = re.sub(rf"(?m)^(\s*)(?:{names})(?==| is empty| has )", rf"\1{option}", message)
    return message
