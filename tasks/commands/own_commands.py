"""Celery's own commands refuse, with exit code 2, what does not exist or cannot work here."""

import sys
from collections.abc import Callable, Collection
from functools import wraps
from typing import Any, TypeVar

import click
from celery import Celery
from celery.exceptions import CeleryCommandException
from celery.platforms import EX_UNAVAILABLE
from celery.worker.control import Panel
from kombu.exceptions import OperationalError

from services.cli.base import ReportingCommand, dry_run_option, report_errors, require_terminal
from services.cli.output import print_table
from services.cli.params import KnownType
from services.cli.server_errors import describe_broker_error
from services.cli.usage import FORCE_NAMES
from services.core.broker import BrokerUnreachable, read_queue_depths
from services.core.broker_probe import measure_broker
from services.core.counts import format_count
from services.core.errors import describe_unknown
from services.core.settings import LOG_LEVELS
from services.ledger.topics import QUEUES
from tasks.log_level import log_level

_ARGUMENTS = {
    "add_consumer": "queue",
    "cancel_consumer": "queue",
    "rate_limit": "task",
    "time_limit": "task",
    log_level.__name__: "level",
}
"""What the first argument of a command of ``celery control`` names."""
_NEED_BROKER = ("amqp", "call", "control", "events", "inspect", "list", "purge", "status")
"""Commands that end at once without a broker, where Celery tries for 8 s."""
_SEND_MESSAGES = ("call", "control", "inspect", "status")
"""Those that wait without an end for a broker that takes no message."""
_RUN_ON = ("beat", "flower", "shell", "worker")
"""Commands whose later errors keep their traceback, because they are not errors of their usage."""
_REFUSED = {
    "migrate": "messages need no move to another broker: set BROKER_URL, and the ledger sends them again",
    "result": "there are no results in the broker: `fleet work show ID` has the outcome of work",
}
_NO_FILE = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError)
_INPUT_ERRORS = (*_NO_FILE, ValueError, TypeError, LookupError, ImportError, NotImplementedError)
_NUMBERS = {int: "a whole number", float: "a number"}
_T = TypeVar("_T")


def _explain(command: Callable[..., Any], errors: tuple[type[Exception], ...]) -> Callable[..., Any]:
    """Return ``command`` whose errors are one sentence: of the broker, with what to do, and ``errors``."""

    @wraps(command)
    def run(*args: Any, **kwargs: Any) -> Any:
        try:
            return command(*args, **kwargs)
        except (OperationalError, click.ClickException) as fault:
            cause = fault.__cause__ if isinstance(fault, click.ClickException) else fault
            if not isinstance(cause, OperationalError):
                raise
            raise BrokerUnreachable(describe_broker_error(cause)) from fault
        except errors as fault:
            text = (str(fault).strip() or type(fault).__name__).splitlines()[0]
            if isinstance(fault, _NO_FILE) and fault.filename:
                text = f"{fault.filename}: {fault.strerror}"
            raise click.UsageError(text, click.get_current_context(silent=True)) from fault

    return run


def _check_first(command: Callable[..., Any], check: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(command)
    def run(*args: Any, **options: Any) -> Any:
        check(**options)
        return command(*args, **options)

    return run


def _check_broker(**_: Any) -> None:
    if click.get_current_context().command.name in _SEND_MESSAGES:
        _use_broker(measure_broker)
    else:
        _read_depths(())


def _check_queues(*, queues: Collection[str], exclude_queues: Collection[str], **_: Any) -> None:
    if not {*(queues or QUEUES)} - {*(exclude_queues or ())}:
        raise click.UsageError("-X excludes every queue of -Q: no queue is left")


def _check_arguments(*, command: str, **_: Any) -> None:
    """Check the arguments of a command of ``inspect`` or ``control`` before it is sent to the workers."""
    if (meta := Panel.meta.get(command)) is None:
        return
    words, signature = click.get_current_context().args, meta.signature or ""
    is_of_rows = meta.type == "control" and bool(meta.variadic)
    if len(words) < signature.count("<") + is_of_rows:
        raise click.UsageError(f"{command} needs its arguments: {signature}")
    for (name, kind), word in zip(meta.args or (), words, strict=False):
        try:
            kind(word)
        except (TypeError, ValueError):
            right = _NUMBERS.get(kind, "true or false")
            raise click.UsageError(f"{name}={word!r} should be {right}") from None


def _name_nodes(app: Celery, command: Callable[..., Any]) -> Callable[..., Any]:
    """Return ``command`` whose error, if no node of -d answers, names the nodes that do."""

    @wraps(command)
    def run(*args: Any, destination: Any, **options: Any) -> Any:
        try:
            return command(*args, destination=destination, **options)
        except CeleryCommandException as fault:
            if not destination or fault.exit_code != EX_UNAVAILABLE:
                raise
            nodes = sorted(node for reply in app.control.ping() or () for node in reply)
            text = (
                f"{', '.join(destination)} does not answer; the nodes that do: {', '.join(nodes) or 'none'}"
            )
            raise CeleryCommandException(text, fault.exit_code) from fault

    return run


def _read_depths(queues: Collection[str]) -> dict[str, int]:
    return _use_broker(lambda: read_queue_depths([*queues]))


def _use_broker(use: Callable[[], _T]) -> _T:
    try:
        return use()
    except Exception as fault:  # whatever it is, the broker cannot be used
        raise BrokerUnreachable(describe_broker_error(fault)) from fault


def _plan_or_ask(command: Callable[..., Any]) -> Callable[..., Any]:
    """Return ``command``, which asks without ``force``, with --dry-run and with 2 without a terminal."""

    @wraps(command)
    def run(*args: Any, dry_run: bool = False, **options: Any) -> Any:
        if dry_run:
            return _print_messages({*(options["queues"] or QUEUES)} - {*(options["exclude_queues"] or ())})
        if not options["force"]:
            require_terminal("Delete all messages?")
        return command(*args, **options)

    return run


def _print_messages(names: Collection[str]) -> None:
    queues = [name for name in QUEUES if name in names]
    depths = _read_depths(queues)
    title = f"{format_count(sum(depths.values()), 'message')} would be deleted"
    print_table(title, ("queue", "messages"), [(name, depths.get(name, 0)) for name in queues], "")
    click.echo("No work is discarded: the ledger sends it again. `celery -A tasks discard` drops work.")


def _quiet_with_json(command: Callable[..., Any]) -> Callable[..., Any]:
    """Return ``status``, which prints no number of nodes after a JSON document."""

    @wraps(command)
    def run(*args: Any, json: bool, quiet: bool = False, **options: Any) -> Any:
        return command(*args, json=json, quiet=quiet or json, **options)

    return run


def _refuse(reason: str) -> Callable[..., None]:
    def refuse(**_: Any) -> None:
        raise click.UsageError(reason)

    return refuse


def guard_commands(app: Celery) -> None:
    """Check the input of Celery's own commands; each error is one sentence without a traceback.

    For ``app`` alone: other apps of the same environment have other queues.
    """

    def find_tasks() -> list[str]:
        app.loader.import_default_modules()
        return sorted(name for name in app.tasks if not name.startswith("celery."))

    queue, queues = (KnownType("queue", lambda: QUEUES, is_list=is_list) for is_list in (False, True))
    scheduler = KnownType("scheduler", lambda: [app.conf.beat_scheduler])
    types: dict[str, dict[str, click.ParamType[Any]]] = {
        "worker": {
            **{"queues": queues, "exclude_queues": queues, "scheduler": scheduler},
            **dict.fromkeys(
                ("concurrency", "max_tasks_per_child", "max_memory_per_child"), click.IntRange(1)
            ),
            **dict.fromkeys(("time_limit", "soft_time_limit"), click.FloatRange(0, min_open=True)),
        },
        "beat": {"scheduler": scheduler},
        "purge": {"queues": queues, "exclude_queues": queues},
        "call": {"name": KnownType("task", find_tasks), "queue": queue},
    }
    for name, of_params in types.items():
        for param in getattr(sys.modules[f"celery.bin.{name}"], name).params:
            param.type = of_params.get(param.name, param.type)
            param.opts = [*FORCE_NAMES] if param.name == "force" else param.opts
    for param in sys.modules["celery.bin.events"].events.params:  # Celery gives -d to --dump and to --detach
        param.opts = [one for one in param.opts if (param.name, one) != ("detach", "-d")]

    def check_call(*, name: str, args: Any, kwargs: Any, **_: Any) -> None:
        task: Any = app.tasks[name]
        try:
            task.__header__(*args, **kwargs)
        except TypeError as fault:
            fault_text = str(fault).partition("() ")[2]
            raise click.UsageError(f"--args and --kwargs do not fit {name}: {fault_text}") from None

    checks: dict[str, Callable[..., None]] = {
        "worker": _check_queues,
        "purge": _check_queues,
        "call": check_call,
        "inspect": _check_arguments,
        "control": _check_arguments,
    }
    for name, command in sys.modules["celery.bin.celery"].celery.commands.items():
        is_ours = isinstance(command, ReportingCommand)
        if name in _REFUSED:
            command.callback = _refuse(_REFUSED[name])
        if name in _NEED_BROKER:
            command.callback = _check_first(command.callback, _check_broker)
        if name in checks:
            command.callback = _check_first(command.callback, checks[name])
        if name in ("control", "inspect", "status"):
            command.callback = _name_nodes(app, command.callback)
        command.invoke = report_errors(
            _explain(command.invoke, () if is_ours or name in _RUN_ON else _INPUT_ERRORS)
        )
        if not is_ours:
            command.parse_args = _explain(command.parse_args, _INPUT_ERRORS)
        if name in _REFUSED:
            command.params = [click.Argument(["words"], nargs=-1)]
            command.short_help = "Refused: it cannot work here."
    status = sys.modules["celery.bin.control"].status
    status.callback = _quiet_with_json(status.callback)
    purge = sys.modules["celery.bin.purge"].purge
    dry_run_option(purge)
    purge.callback = _plan_or_ask(purge.callback)
    control = sys.modules["celery.bin.control"].control
    send = control.callback

    @wraps(send)
    def send_checked(*args: Any, command: str, **options: Any) -> Any:
        ctx = click.get_current_context()
        noun = _ARGUMENTS.get(command, "")
        known: dict[str, Callable[[], list[str]]] = {
            "queue": lambda: list(QUEUES),
            "task": find_tasks,
            "level": lambda: list(LOG_LEVELS),
        }
        if noun and ctx.args and ctx.args[0] not in (names := known[noun]()):
            raise click.UsageError(f"{noun}={describe_unknown(ctx.args[0], names)}", ctx)
        return send(*args, command=command, **options)

    control.callback = send_checked
