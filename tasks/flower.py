"""Flower for ``celery -A tasks flower``: requires a sign-in and limits failed ones.

Without a sign-in, Flower shows all pages, with the tasks' arguments, to every client. Options on the command
line have priority over ``FLOWER_...`` in the environment, and those over the project's settings.
https://flower.readthedocs.io/en/latest/config.html
"""

import asyncio
import logging
import os
import sys
import time
from collections.abc import Callable, Iterable
from functools import wraps
from types import SimpleNamespace
from typing import Any

import click
from celery import Celery

from services.core.broker import is_redis, queue_depths
from services.core.errors import did_you_mean
from services.core.log import configure_logging
from services.core.ports import check_port
from services.core.rabbitmq import find_api_fault, management_api, quoted_vhost
from services.core.settings import get_settings
from services.ledger.topics import QUEUES
from tasks.sign_in_limiter import FAILURE_WINDOW_SECONDS, SignInLimiter

SIGN_IN_NEEDED = (
    "Flower needs a sign-in and has none. Set FLOWER_BASIC_AUTH=user:password (in the environment or in "
    ".env), pass --basic_auth=user:password, or use an external sign-in with --auth and --auth_provider. "
    "`fleet up` generates a password; `fleet env` prints it."
)
SHORTEST_PASSWORD = 8
MAX_TASKS = 10_000
"""Tasks in Flower's memory, a tenth of its default: the whole history is in the ledger."""
SILENCE_SECONDS = 20.0
"""Every worker sends an event every 2 s: after this time without any, the connection is opened again."""
LONGEST_WAIT_SECONDS = 10.0
"""Until Flower tries a lost broker again."""
START_SECONDS = 30.0
"""Workers that start at the same time as Flower answer within this time."""

log = logging.getLogger(__name__)


def guard_flower() -> None:
    """Require a sign-in of the ``flower`` command. Call it when the app is loaded.

    The celery command imports all plug-ins before the app, so ``flower.command`` is loaded if Flower can
    start.
    """
    module = sys.modules.get("flower.command")
    if module is None or getattr(module.flower.callback, "is_guarded", False):
        return
    module.flower.callback = _guarded(module, module.flower.callback)


def run_flower(app: Celery) -> int:
    """Run Flower for ``app`` until stopped; return its exit code."""
    from celery.bin.base import CLIContext
    from flower.command import flower

    guard_flower()
    context = CLIContext(app=app, no_color=True, workdir=None, quiet=True)
    parent = click.Context(click.Group("tasks"), obj=context)
    try:
        flower.main([], prog_name="flower", parent=parent, obj=context, standalone_mode=False)
    except click.ClickException as fault:
        fault.show()
        return fault.exit_code
    return 0


def _guarded(module: Any, start: Callable[..., Any]) -> Callable[..., Any]:
    from tornado.options import Error as OptionError

    @wraps(start)
    def start_guarded(tornado_argv: tuple[str, ...], *args: Any, **kwargs: Any) -> Any:
        configure_logging(get_settings(), "flower")
        _set_defaults()
        # Flower reads its options again later; this includes a file given by --conf.
        module.apply_env_options()
        tornado_argv = parse_options(tornado_argv, module.options)
        try:
            module.apply_options(sys.argv[0], tornado_argv)
        except (OptionError, ValueError) as fault:
            hint = "https://flower.readthedocs.io/en/latest/config.html has all options"
            text = f"{' '.join(tornado_argv)}: {fault}; {hint}"
            raise click.UsageError(text, click.get_current_context()) from fault
        check_sign_in(module.options, os.environ)
        if not module.options.unix_socket:
            if not 0 < module.options.port < 65_536:
                text = f"--port={module.options.port} should be a whole number from 1 to 65535"
                raise click.UsageError(text, click.get_current_context())
            check_port("FLOWER_PORT", module.options.port, module.options.address)
        _list_every_queue()
        _count_messages()
        _reopen_silent_connection()
        _reach_broker()
        _check_broker_api(module.options.broker_api or "")
        _limit_sign_ins(SignInLimiter())
        return start(tornado_argv, *args, **kwargs)

    start_guarded.is_guarded = True  # type: ignore[attr-defined]
    return start_guarded


def parse_options(words: Iterable[str], options: Any) -> tuple[str, ...]:
    """Return ``words`` with each value after ``=``, as Tornado needs it; refuse an unknown option."""
    parsed: list[str] = []
    needs_value = False
    for word in words:
        if needs_value:
            parsed[-1] += f"={word}"
            needs_value = False
            continue
        name, is_set, _ = word.lstrip("-").partition("=")
        if word == "--":
            continue
        if not word.startswith("-") or name not in options:
            known = [f"--{one.replace('_', '-')}" for one in options]
            close = did_you_mean(word.partition("=")[0], known)
            raise click.UsageError(
                f"Flower has no option {word}{close}", click.get_current_context(silent=True)
            )
        parsed.append(word)
        needs_value = not is_set and options._options[options._normalize_name(name)].type is not bool
    return tuple(parsed)


def _list_every_queue() -> None:
    """List every queue on the broker page, because Flower omits queues without a worker."""
    from flower.views import BaseHandler

    listed = BaseHandler.get_active_queue_names
    BaseHandler.get_active_queue_names = lambda handler: sorted({*listed(handler), *QUEUES})


class QueueLengths:
    """A client of the broker for Flower, which reads ``BROKER_URL`` as all processes do.

    Flower's own for Redis know only one Sentinel, without its password, and no options of a ``rediss`` URL;
    its own for RabbitMQ needs the management API.
    """

    async def queues(self, names: Iterable[str]) -> list[dict[str, Any]]:
        """Return the number of messages of each queue."""
        depths = await asyncio.to_thread(queue_depths, sorted(names))
        if depths is None:
            raise ConnectionError("the broker cannot be reached")
        return [{"name": name, "messages": count} for name, count in depths.items()]


def _count_messages() -> None:
    from flower.views import BaseHandler

    if is_redis(get_settings().broker_url):
        BaseHandler.get_broker = lambda _handler: QueueLengths()


def _reopen_silent_connection() -> None:
    """Let Flower notice a broker that hangs: without a time limit it would wait for events for ever."""
    from celery.events import EventReceiver
    from flower import events

    class SilenceReceiver(EventReceiver):
        def capture(self, limit: Any = None, timeout: Any = None, wakeup: bool = True) -> None:
            try:
                super().capture(limit=limit, timeout=timeout or SILENCE_SECONDS, wakeup=wakeup)
            except TimeoutError as fault:
                raise ConnectionError(f"no event for {SILENCE_SECONDS:.0f} s") from fault

    events.EventReceiver = SilenceReceiver


def _reach_broker() -> None:
    """Correct two faults of Flower 2.2 with brokers.

    It doubles its wait for a lost broker without limit, and asks RabbitMQ for a wrong virtual host if the
    name needs quoting, as that of the default, ``/``, does.
    """
    from flower import events
    from flower.utils import broker

    class RabbitMQ(broker.RabbitMQ):  # type: ignore[misc]
        def __init__(self, broker_url: str, *args: Any, **kwargs: Any) -> None:
            super().__init__(broker_url, *args, **kwargs)
            self.vhost = quoted_vhost(broker_url)

        async def queues(self, names: Iterable[str]) -> list[dict[str, Any]]:
            return await super().queues(names) or await QueueLengths().queues(names)

    def sleep(seconds: float) -> None:
        time.sleep(min(seconds, LONGEST_WAIT_SECONDS))

    broker.RabbitMQ = RabbitMQ
    events.time = SimpleNamespace(**vars(time) | {"sleep": sleep})
    events.logger.addFilter(name_real_wait)
    logging.getLogger("flower.inspector").addFilter(is_not_of_start)


def name_real_wait(record: logging.LogRecord) -> bool:
    """Put the real wait into Flower's line "trying again in N seconds", which names the doubled one."""
    if "trying again in" in str(record.msg) and isinstance(record.args, tuple):
        *others, seconds = record.args
        if isinstance(seconds, int):
            record.args = (*others, min(seconds, int(LONGEST_WAIT_SECONDS)))
    return True


def is_not_of_start(record: logging.LogRecord) -> bool:
    """Return False for Flower's warning that no worker answers, while the workers still start with it."""
    return record.msg != "Inspect method %s failed" or record.relativeCreated > 1000 * START_SECONDS


def _check_broker_api(api: str) -> None:
    """Log why RabbitMQ's management API at ``api`` cannot be used, and what to do."""
    url = get_settings().broker_url
    if not is_redis(url) and (fault := find_api_fault(url, "" if api == management_api(url, "") else api)):
        fields = {
            "fault": fault.what,
            "effect": "the broker page only counts messages",
            "to_do": fault.remedy,
        }
        log.warning("flower_broker_api_missing", extra={"fields": fields})


def _limit_sign_ins(limiter: SignInLimiter) -> None:
    """Answer 429 with ``Retry-After`` to an address with too many wrong sign-ins."""
    from flower.views import BaseHandler
    from tornado.web import Finish, HTTPError

    read_user = BaseHandler.get_current_user

    def read_user_limited(handler: Any) -> Any:
        address = str(handler.request.remote_ip)
        if wait := limiter.wait_seconds(address):
            handler.set_status(429)
            handler.set_header("Retry-After", str(wait))
            raise Finish(f"Too many wrong sign-ins from {address}: try again in {wait} s.\n")
        try:
            return read_user(handler)
        except (HTTPError, TypeError) as fault:
            # A request without the header is a browser's first request, not a wrong sign-in. Flower's
            # compare_digest raises TypeError for a character beyond ASCII.
            if handler.request.headers.get("Authorization") and limiter.add(address):
                fields = {"address": address, "refused_seconds": FAILURE_WINDOW_SECONDS}
                log.warning("flower_guesses", extra={"fields": fields})
            raise HTTPError(401) from fault

    BaseHandler.get_current_user = read_user_limited


def _set_defaults() -> None:
    """Set options that the environment does not set; the command line has priority."""
    settings = get_settings()
    defaults = {
        "FLOWER_BASIC_AUTH": settings.flower_basic_auth,
        "FLOWER_ADDRESS": "127.0.0.1",
        "FLOWER_PORT": str(settings.flower_port),
        "FLOWER_MAX_TASKS": str(MAX_TASKS),
        "FLOWER_PURGE_OFFLINE_WORKERS": "3600",
    }
    if not is_redis(settings.broker_url):
        defaults["FLOWER_BROKER_API"] = management_api(settings.broker_url, settings.flower_broker_api)
    for name, value in defaults.items():
        if value:
            os.environ.setdefault(name, value)


def check_sign_in(options: Any, environ: Any) -> None:
    """Raise a usage error (exit code 2) if Flower could be used without signing in."""
    if environ.get("FLOWER_UNAUTHENTICATED_API"):
        raise click.UsageError(
            "FLOWER_UNAUTHENTICATED_API allows everyone who can reach Flower to revoke and apply tasks. "
            "Unset it; programs can sign in with the same user and password as people."
        )
    if not options.basic_auth and not options.auth:
        raise click.UsageError(SIGN_IN_NEEDED)
    for login in options.basic_auth or ():
        user, _, password = login.partition(":")
        if not user or len(password) < SHORTEST_PASSWORD:
            raise click.UsageError(
                f"FLOWER_BASIC_AUTH (or --basic_auth) has a login {user!r} that is not user:password with a "
                f"password of at least {SHORTEST_PASSWORD} characters."
            )
        if not login.isascii():
            raise click.UsageError(
                f"FLOWER_BASIC_AUTH (or --basic_auth) has a login {user!r} with a character beyond ASCII, "
                "which Flower cannot compare. Use only ASCII characters."
            )
