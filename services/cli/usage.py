"""Wrong usage of the commands: a command that does not exist, a parameter that is missing."""

import re
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from difflib import get_close_matches
from functools import partial
from importlib.metadata import entry_points
from math import isfinite
from pathlib import Path
from typing import Any, NoReturn

import click
from click.core import ParameterSource

from services.core.errors import describe_unknown

HELP_NAMES = {"help_option_names": ["-h", "--help"]}
"""The settings of a command or of its root: the short help option too."""
FORCE_NAMES = ("-f", "--force", "-y", "--yes")

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


def explain_type(kind: click.ParamType[Any]) -> click.ParamType[Any]:
    """Return ``kind`` so that its error, if it is a number or a choice, says what the value should be."""
    if isinstance(kind, click.Choice):
        right = partial(describe_unknown, known=[str(one) for one in kind.choices])
    elif isinstance(kind, click.types.IntParamType | click.types.FloatParamType):
        right = partial(_describe_number, kind=kind)
    else:
        return kind
    explained, convert = copy(kind), kind.convert

    def convert_or_explain(value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            found = convert(value, param, ctx)
            if not isinstance(found, float) or isfinite(found):
                return found
        except click.BadParameter:
            pass
        return explained.fail(right(str(value)), param, ctx)

    explained.convert = convert_or_explain  # type: ignore[method-assign]
    return explained


def _describe_number(value: str, kind: Any) -> str:
    noun = "a whole number" if isinstance(kind, click.types.IntParamType) else "a number"
    least, most = getattr(kind, "min", None), getattr(kind, "max", None)
    limits = "".join(
        f" {word} {one:,.10g}" for word, one in (("from", least), ("to", most)) if one is not None
    )
    return f"{value!r} should be {noun}{limits}"


@contextmanager
def usage_shown() -> Iterator[None]:
    """Let each ``UsageError`` print how the current command is used, as those of click do."""
    try:
        yield
    except click.UsageError as fault:
        fault.ctx = fault.ctx or click.get_current_context(silent=True)
        raise


class PlainCommand(click.Command):
    """A command with -h, whose wrong usage is always printed in one form.

    A command that changes something (it has --actor or --dry-run) and asks nothing takes -f too: a script
    may add it to every such command.
    """

    def __init__(self, *args: Any, **attributes: Any) -> None:
        # Click keeps the help option of the first use, which may be without the root command.
        attributes["context_settings"] = {**HELP_NAMES, **(attributes.get("context_settings") or {})}
        super().__init__(*args, **attributes)
        for param in self.params:
            param.type = explain_type(param.type)
        taken = {name for param in self.params for name in param.opts}
        if taken & {"--actor", "--dry-run"} and "-f" not in taken:
            free = [name for name in FORCE_NAMES if name not in taken]
            text = "Act without a question; this command asks none."
            self.params.append(click.Option(free, is_flag=True, expose_value=False, help=text))

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not ctx.resilient_parsing:
            refuse_missing(self, ctx, args)
        return super().parse_args(ctx, args)

    @usage_shown()
    def invoke(self, ctx: click.Context) -> Any:
        return super().invoke(ctx)


def hidden_alias(command: click.Command, name: str) -> click.Command:
    """Return ``command`` under its old ``name``, which is in no list of commands."""
    alias = copy(command)
    alias.name, alias.hidden = name, True
    return alias


def is_blank(value: object) -> bool:
    """Return whether ``value`` is a text without a character that is shown."""
    return isinstance(value, str) and not value.strip()


class ParametersMissing(click.MissingParameter):
    """Names all ``missing`` parameters of a command, and all ``empty`` ones."""

    def __init__(
        self, ctx: click.Context, missing: Sequence[click.Parameter], empty: Sequence[click.Parameter] = ()
    ) -> None:
        parts = []
        for noun, kind in (("argument", click.Argument), ("option", click.Option)):
            if names := [
                _name_of(one, ctx) + f" {one.make_metavar(ctx)}" * has_value
                for one in missing
                if isinstance(one, kind)
                for has_value in [kind is click.Option and not getattr(one, "is_flag", False)]
            ]:
                parts.append(f"{noun}{'s' if len(names) > 1 else ''}: {', '.join(names)}")
        faults = [f"Missing {'; '.join(parts)}"] if parts else []
        faults += [f"{_name_of(one, ctx)} is empty: give it a text" for one in empty]
        super().__init__("; ".join(faults), ctx)

    def format_message(self) -> str:
        return self.message


def _name_of(param: click.Parameter, ctx: click.Context) -> str:
    return max(param.opts, key=len) if isinstance(param, click.Option) else param.make_metavar(ctx)


_GIVEN = "shopfleet.given"
"""The key in ``Context.meta`` of the words of the command line."""


def refuse_missing(command: click.Command, ctx: click.Context, args: Sequence[str]) -> None:
    """Raise ``UsageError`` for what ``args`` lack of ``command``, and for an option that they repeat."""
    ctx.meta[_GIVEN] = [*args]
    given, _, order = command.make_parser(ctx).parse_args([*args])
    params = command.get_params(ctx)
    if any(param.is_eager and param.name in given for param in params):
        return  # --help
    values = [(param, param.consume_value(ctx, given)[0]) for param in params if param.required]
    if twice := [param for param in params if _is_single(param) and order.count(param) > 1]:
        names = ", ".join(_name_of(param, ctx) for param in twice)
        raise click.UsageError(f"{names} is given more than once, and takes one value", ctx)
    missing = [param for param, value in values if param.value_is_missing(value)]
    empty = [param for param, value in values if is_blank(value)]
    if missing or empty:
        raise ParametersMissing(ctx, missing, empty)


def refuse_blank(name: str) -> NoReturn:
    """Raise ``ParametersMissing`` for the option ``name`` of this command: empty if typed, else missing."""
    ctx = click.get_current_context()
    params = [param for param in ctx.command.params if param.name == name]
    is_typed = ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE
    raise ParametersMissing(ctx, [] if is_typed else params, params if is_typed else [])


def _is_single(param: click.Parameter) -> bool:
    """Return whether ``param`` is an option with one value."""
    return isinstance(param, click.Option) and not (param.multiple or param.is_flag or param.count)


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
