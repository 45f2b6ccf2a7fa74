"""Wrong usage of the commands: a command that does not exist, a parameter that is missing."""

from collections.abc import Iterable
from difflib import get_close_matches

import click

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
    "discard": "`celery -A tasks discard`",
    "dlq": _DEAD_WORK,
    "health": _HEALTH,
    "log": _LOGS,
    "logs": _LOGS,
    "metrics": "GET /metrics of ingress; docs/observability.md",
    "orders": "`fleet events list --topic orders/create`",
    "pause": "`celery -A tasks pause`",
    "ps": _HEALTH,
    "purge": "`celery -A tasks purge`",
    "queue": "`celery -A tasks backlog`",
    "queues": "`celery -A tasks backlog`",
    "replay": "`fleet events replay`",
    "requeue": "`celery -A tasks requeue`",
    "restart": _RESTART.format("restart"),
    "resume": "`celery -A tasks resume`",
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
    "worker": "`celery -A tasks worker`",
    "workers": "`celery -A tasks status`",
}
"""What a person means who types a word that is no command of ``fleet`` or ``celery``."""

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
    if close:
        return f"there is no command {name!r}; did you mean {' or '.join(map(repr, close))}?"
    return f"there is no command {name!r}: --help lists all"


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
