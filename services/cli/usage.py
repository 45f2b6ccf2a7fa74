"""Wrong usage of the commands: a command that does not exist, a parameter that is missing."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from functools import partial
from math import isfinite
from typing import Any, NoReturn

import click
from click.core import ParameterSource

from services.cli.unknown_commands import describe_no_command
from services.core.errors import describe_unknown

HELP_NAMES = {"help_option_names": ["-h", "--help"]}
"""The settings of a command or of its root: the short help option too."""
FORCE_NAMES = ("-f", "--force", "-y", "--yes")


class SuggestingGroup(click.Group):
    """A group whose error for an unknown command names what may be meant, and whose help is not cut."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        found = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl(
                [(name, one.get_short_help_str(1000)) for name, one in found if one and not one.hidden]
            )

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
    words = ("above", "and at most") if getattr(kind, "min_open", False) else ("from", "to")
    limits = "".join(
        f" {word} {one:,.10g}" for word, one in zip(words, (least, most), strict=True) if one is not None
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
            if isinstance(param, click.Argument):
                hint = f"'{(param.metavar or param.name or '').upper().strip('[].')}'"
                param.get_error_hint = partial(_get_hint, hint)  # type: ignore[method-assign]
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


def _get_hint(hint: str, _ctx: click.Context | None) -> str:
    """Return how errors name an argument: as options, without the brackets of the usage line."""
    return hint


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
    try:
        given, _, order = command.make_parser(ctx).parse_args([*args])
    except click.NoSuchOption as fault:
        argument = next((one for one in command.params if isinstance(one, click.Argument)), None)
        if argument is None or not fault.option_name[1:].isdecimal():
            raise
        word = next(one for one in args if one.startswith(fault.option_name))
        raise click.BadParameter(f"{word!r} should be a number above 0", ctx, argument) from None
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
        message = re.sub(rf"(?m)(^\s*| after )(?:{names})(?==| is empty| has )", rf"\1{option}", message)
    return message
