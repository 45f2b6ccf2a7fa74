"""Errors, named by what happens next. Only ``services.providers`` maps a response to one of them."""

import re
from collections.abc import Callable, Collection, Iterable
from datetime import timedelta
from difflib import SequenceMatcher, get_close_matches
from textwrap import fill
from typing import NoReturn

MAX_NAMED = 20
MAX_LISTED = 80
"""Of more valid values than this, a message names only the closest ones."""
_NEAR = 0.65
"""The least similarity of a name that a message lists."""
LIST_ALL = "help"
"""The value for which the message names every valid value."""


class ShopfleetError(Exception):
    """An error for a person: the message contains the fault, and what would be right."""


class InputInvalid(ShopfleetError):
    """A person's input is wrong: a command exits with 2."""


class NothingToDo(ShopfleetError):
    """What a change should bring about is true already: a command prints it and exits with 0."""


def describe_unknown(value: str, known: Iterable[str], command: str = "") -> str:
    """Return a message for ``value``, which is none of ``known``: see ``suggest``."""
    return f"{value!r} {suggest(value, known, command)}"


def suggest(value: str, known: Iterable[str], command: str = "") -> str:
    """Return what ``value`` should be instead: the names ``known``, and the closest one.

    Of more than ``MAX_NAMED`` names, if none is the closest, only similar ones are listed, in lines; without
    any, up to ``MAX_LISTED`` are. ``command`` lists all, or without one the value ``LIST_ALL`` does.
    """
    names = list(dict.fromkeys(known))
    if not names:
        return "does not exist: there is none yet"
    if len(names) <= MAX_NAMED:
        return f"should be one of {', '.join(names)}{did_you_mean(value, names)}"
    names.sort()
    if value == LIST_ALL:
        return f"should be one of these {len(names)}:\n{_wrap(names)}"
    shown = get_close_matches(value, names, MAX_NAMED, _NEAR)
    how = f"`{command}` lists all" if command else f"the value {LIST_ALL!r} lists all"
    close = did_you_mean(value, names)
    if not shown and not close and not command and len(names) <= MAX_LISTED:
        return f"should be one of\n{_wrap(names)}"
    if close or not shown:
        return f"is none of the {len(names)} known names: {how}{close}"
    more = f"or one of {len(names) - len(shown)} more: {how}"
    return f"should be one of\n{_wrap(shown)}\n{more}"


def _wrap(names: Collection[str]) -> str:
    return fill(", ".join(names), 100, initial_indent="  ", subsequent_indent="  ", break_on_hyphens=False)


def did_you_mean(value: str, known: Iterable[str]) -> str:
    """Return ``; did you mean 'NAME'?`` with the closest name of ``known``, or an empty text.

    Capital letters do not count. Of equally similar names, one with the same letters is closest, then one
    with the same two first letters; of more than three such names none is. A name that contains ``value``
    counts if no other is similar.
    """
    forms, wanted = {name.casefold(): name for name in known}, value.casefold()
    within = [form for form in forms if len(wanted) > 2 and wanted in form]
    close = get_close_matches(wanted, forms, 20) or within
    if not close:
        return ""

    def similarity(form: str) -> tuple[float, bool, bool]:
        ratio = SequenceMatcher(None, form, wanted).ratio()
        return ratio, sorted(form) == sorted(wanted), form[:2] == wanted[:2]

    best = max(map(similarity, close))
    closest = [form for form in close if similarity(form) == best]
    return f"; did you mean {forms[closest[0]]!r}?" if len(closest) <= 3 else ""


def describe_server(url: str) -> str:
    """Return host, port and database of ``url``, never its user or a password: ``db.example:5432/shop``."""
    servers = (each.partition("://")[2].rpartition("@")[2] for each in re.split(r";(?=\w+://)", url))
    return ", ".join(server.partition("?")[0] for server in servers)


def join_faults(faults: Collection[str]) -> str:
    """Return ``faults`` as one message: a line for each if there are several."""
    lines = "".join(f"\n  {fault}" for fault in faults)
    return lines.strip() if len(faults) == 1 else f"{len(faults)} faults:{lines}"


class SettingsInvalid(ShopfleetError):
    """Settings are wrong. The message lists every fault, never a secret's value."""


def run_process(main: Callable[[], int | None]) -> NoReturn:
    """Run ``main`` and exit with its code; an error for a person ends it with 1 and without a traceback."""
    try:
        raise SystemExit(main())
    except ShopfleetError as fault:
        raise SystemExit(f"Error: {fault}") from None


class WebhookRejected(ShopfleetError):
    """The sender is wrong (bad signature, too old). Nothing is stored; a counter is increased."""

    def __init__(self, code: str, detail: str = "") -> None:
        super().__init__(detail or code)
        self.code = code


class WorkError(ShopfleetError):
    """A failed outcome of work. ``code`` is a stable slug such as ``shopify.throttled``."""

    def __init__(self, code: str, detail: str = "") -> None:
        super().__init__(detail or code)
        self.code = code
        self.detail = detail or code


class RetryLater(WorkError):
    """Nothing happened; a retry may succeed. ``wait`` is the provider's ``Retry-After``, if any."""

    def __init__(self, code: str, detail: str = "", *, wait: timedelta | None = None) -> None:
        super().__init__(code, detail)
        self.wait = wait


class Deferred(RetryLater):
    """It was not tried yet, so no try is counted; ``wait`` is the time until it is."""


class OutcomeUnknown(WorkError):
    """The request was sent without a response: it may have had its effect.

    Try again only with the same idempotency key, or check first.
    """


class Refused(WorkError):
    """The provider declined the request. A retry cannot help; a person decides."""


class Misconfigured(WorkError):
    """Our credential or mapping is wrong. A person must correct it first.

    ``is_partial``: the credential is valid and lacks one permission.
    """

    def __init__(self, code: str, detail: str = "", *, is_partial: bool = False) -> None:
        super().__init__(code, detail)
        self.is_partial = is_partial
