"""``celery -A tasks flower`` has a sign-in, or it does not start.

Without one, Flower shows every page, with the tasks' arguments, to all who reach its port. Its options come
from the command line, over ``FLOWER_...`` in the environment, over the project's settings.
https://flower.readthedocs.io/en/latest/config.html
"""

import logging
import os
import sys
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from functools import wraps
from ipaddress import ip_address, ip_network
from math import ceil
from typing import Any

import click
from celery import Celery

from services.core.log import configure_logging
from services.core.settings import get_settings
from services.ledger.topics import QUEUES

SIGN_IN_NEEDED = (
    "Flower needs a sign-in and has none. Set FLOWER_BASIC_AUTH=user:password (in the environment or in "
    ".env), give --basic_auth=user:password, or let people sign in elsewhere with --auth and "
    "--auth_provider. `fleet up` makes a password by itself; `fleet env` prints it."
)
SHORTEST_PASSWORD = 8
MOST_TASKS = 10_000
"""Tasks kept in Flower's memory, a tenth of its own default: the whole history is in the ledger."""
GUESSES = 10
GUESS_WINDOW_SECONDS = 300.0
"""An address that shows a wrong sign-in so often in this time is answered 429 until the time is over."""
MOST_ADDRESSES = 10_000

log = logging.getLogger(__name__)


class GuessBrake:
    """Counts the wrong sign-ins of each address, in this process, for ``MOST_ADDRESSES`` at most.

    A right one clears nothing: behind a proxy it may come from the same address. An IPv6 address counts by
    its /64, which is one subscriber's.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._guesses: OrderedDict[str, deque[float]] = OrderedDict()

    def wait_seconds(self, address: str) -> int:
        """Return how long ``address`` is refused from now on; 0 where it may try."""
        times = self._guesses.get(_subscriber(address))
        if times is None or len(times) < GUESSES:
            return 0
        return max(0, ceil(times[0] + GUESS_WINDOW_SECONDS - self._clock()))

    def add(self, address: str) -> bool:
        """Count a wrong sign-in of ``address``; return whether it is refused from now on."""
        times = self._guesses.setdefault(_subscriber(address), deque(maxlen=GUESSES))
        self._guesses.move_to_end(_subscriber(address))
        times.append(self._clock())
        while len(self._guesses) > MOST_ADDRESSES:
            self._guesses.popitem(last=False)
        return self.wait_seconds(address) > 0


def _subscriber(address: str) -> str:
    try:
        parsed = ip_address(address)
    except ValueError:  # a unix socket has none
        return address
    return str(ip_network(f"{parsed}/64", strict=False)) if parsed.version == 6 else address


def guard_flower() -> None:
    """Require a sign-in of the ``flower`` command. Call it when the app is loaded.

    The celery command imports all its plug-ins before the app: where Flower can start, its module is loaded.
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
    flower.main([], prog_name="flower", parent=parent, obj=context, standalone_mode=False)
    return 0


def _guarded(module: Any, start: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(start)
    def start_closed(tornado_argv: tuple[str, ...], *args: Any, **kwargs: Any) -> Any:
        configure_logging(get_settings(), "flower")
        _set_defaults()
        # Flower reads its options again later: a file given by --conf counts too.
        module.apply_env_options()
        module.apply_options(sys.argv[0], tornado_argv)
        refuse_open(module.options, os.environ)
        _list_every_queue()
        _slow_guesses(GuessBrake())
        return start(tornado_argv, *args, **kwargs)

    start_closed.is_guarded = True  # type: ignore[attr-defined]
    return start_closed


def _list_every_queue() -> None:
    """List every queue on the broker page. Flower alone leaves out the queue of a worker that is gone."""
    from flower.views import BaseHandler

    listed = BaseHandler.get_active_queue_names
    BaseHandler.get_active_queue_names = lambda handler: sorted({*listed(handler), *QUEUES})


def _slow_guesses(brake: GuessBrake) -> None:
    """Answer 429 with ``Retry-After`` to an address with too many wrong sign-ins."""
    from flower.views import BaseHandler
    from tornado.web import Finish, HTTPError

    read_user = BaseHandler.get_current_user

    def read_user_slowly(handler: Any) -> Any:
        address = str(handler.request.remote_ip)
        if wait := brake.wait_seconds(address):
            handler.set_status(429)
            handler.set_header("Retry-After", str(wait))
            raise Finish(f"Too many wrong sign-ins from {address}: try again in {wait} s.\n")
        try:
            return read_user(handler)
        except (HTTPError, TypeError) as fault:
            # Without the header it is a browser that asks for the sign-in. Flower's compare_digest raises
            # TypeError for a letter beyond ASCII: a wrong sign-in.
            if handler.request.headers.get("Authorization") and brake.add(address):
                fields = {"address": address, "refused_seconds": GUESS_WINDOW_SECONDS}
                log.warning("flower_guesses", extra={"fields": fields})
            raise HTTPError(401) from fault

    BaseHandler.get_current_user = read_user_slowly


def _set_defaults() -> None:
    """Set what the environment does not set; the command line still wins."""
    settings = get_settings()
    defaults = {
        "FLOWER_BASIC_AUTH": settings.flower_basic_auth,
        "FLOWER_ADDRESS": settings.bind_address,
        "FLOWER_PORT": str(settings.flower_port),
        "FLOWER_MAX_TASKS": str(MOST_TASKS),
        "FLOWER_PURGE_OFFLINE_WORKERS": "3600",
    }
    for name, value in defaults.items():
        if value:
            os.environ.setdefault(name, value)


def refuse_open(options: Any, environ: Any) -> None:
    """Raise a usage error (exit code 2) if Flower could be used without signing in."""
    if environ.get("FLOWER_UNAUTHENTICATED_API"):
        raise click.UsageError(
            "FLOWER_UNAUTHENTICATED_API lets everybody who reaches Flower revoke and apply tasks. "
            "Unset it; programs can sign in with the same user and password as people do."
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
                f"FLOWER_BASIC_AUTH (or --basic_auth) has a login {user!r} with a letter beyond ASCII, which "
                "Flower cannot compare: nobody could sign in. Use ASCII letters, digits and signs."
            )
