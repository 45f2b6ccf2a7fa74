"""Celery's own commands refuse queues and tasks that do not exist here, with exit code 2."""

import sys
from collections.abc import Callable, Collection
from functools import wraps
from typing import Any

import click
from celery import Celery
from kombu.exceptions import OperationalError

from services.cli.base import IS_IT_UP, dry_run_option, report_errors, require_terminal
from services.cli.output import print_table
from services.cli.params import KnownType
from services.cli.usage import FORCE_NAMES
from services.core.broker import BrokerUnreachable, queue_depths
from services.core.counts import format_count
from services.core.errors import describe_server, describe_unknown
from services.core.settings import LOG_LEVELS, get_settings
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


def _name_broker(command: Callable[..., Any]) -> Callable[..., Any]:
    """Return ``command`` whose error names the broker, if it cannot be reached, and what to do."""

    @wraps(command)
    def run(*args: Any, **kwargs: Any) -> Any:
        try:
            return command(*args, **kwargs)
        except (OperationalError, click.ClickException) as fault:
            cause = fault.__cause__ if isinstance(fault, click.ClickException) else fault
            if not isinstance(cause, OperationalError):
                raise
            server = describe_server(get_settings().broker_url)
            text = f"the broker at {server} is not reachable: {str(cause).rstrip('.')}. {IS_IT_UP}"
            raise BrokerUnreachable(text) from fault

    return run


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
    depths = queue_depths(queues)
    if depths is None:
        server = describe_server(get_settings().broker_url)
        raise BrokerUnreachable(f"the broker at {server} is not reachable. {IS_IT_UP}")
    title = f"{format_count(sum(depths.values()), 'message')} would be deleted"
    print_table(title, ("queue", "messages"), [(name, depths.get(name, 0)) for name in queues], "")
    click.echo("No work is discarded: the ledger sends it again. `celery -A tasks discard` drops work.")


def guard_commands(app: Celery) -> None:
    """Check the queues and tasks of ``worker``, ``purge``, ``call`` and ``control``; print errors briefly.

    For ``app`` alone: other apps of the same environment have other queues.
    """

    def find_tasks() -> list[str]:
        app.loader.import_default_modules()
        return sorted(name for name in app.tasks if not name.startswith("celery."))

    queue, queues = (KnownType("queue", lambda: QUEUES, is_list=is_list) for is_list in (False, True))
    types: dict[str, dict[str, click.ParamType[Any]]] = {
        "worker": {"queues": queues, "exclude_queues": queues, "concurrency": click.IntRange(1)},
        "purge": {"queues": queues, "exclude_queues": queues},
        "call": {"name": KnownType("task", find_tasks), "queue": queue},
    }
    for name, of_params in types.items():
        for param in getattr(sys.modules[f"celery.bin.{name}"], name).params:
            param.type = of_params.get(param.name, param.type)
            param.opts = [*FORCE_NAMES] if param.name == "force" else param.opts
    for command in sys.modules["celery.bin.celery"].celery.commands.values():
        command.callback = report_errors(_name_broker(command.callback))
    purge = sys.modules["celery.bin.purge"].purge
    dry_run_option(purge)
    purge.callback = report_errors(_plan_or_ask(purge.callback))
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
