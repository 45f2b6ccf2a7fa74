"""Outcomes of calls to a shop's providers: whether each accepts our credential.

A provider's module notes each call with ``noted_call``. The runner or the command that makes the calls
collects them with ``collect_calls`` and stores them in ``connections``. ``Misconfigured`` means that a
credential does not work, a response means that it does.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

from services.core.errors import Misconfigured, Refused

T = TypeVar("T")
EVERYTHING = ""
"""The resource of a refusal that concerns the credential as a whole."""


class CallOutcomes(dict[tuple[str, str], Misconfigured | None]):
    """The newest outcome per (provider, resource), the newest last. None: the call worked."""

    def note(self, provider: str, resource: str, fault: Misconfigured | None) -> None:
        """Store ``fault`` (None: a response) as the newest outcome of ``resource`` at ``provider``."""
        key = (provider, EVERYTHING if fault is not None and not fault.is_partial else resource)
        self.pop(key, None)
        self[key] = fault


_CALLS: ContextVar[CallOutcomes | None] = ContextVar("provider_calls", default=None)
_OPTIONAL: ContextVar[bool] = ContextVar("provider_calls_optional", default=False)


@contextmanager
def _set(variable: ContextVar[Any], value: T) -> Iterator[T]:
    token = variable.set(value)
    try:
        yield value
    finally:
        variable.reset(token)


def collect_calls() -> AbstractContextManager[CallOutcomes]:
    """Collect the outcomes of the calls inside, in this thread; an outer collection gets none of them."""
    return _set(_CALLS, CallOutcomes())


@contextmanager
def noted_call(provider: str, resource: str) -> Iterator[None]:
    """Note the call inside as successful, or as refused if it raises ``Misconfigured``.

    ``Refused`` counts as successful: the credential was valid. Without a response nothing is noted.
    """
    found = _CALLS.get()
    calls = CallOutcomes() if found is None else found
    try:
        yield
    except Misconfigured as fault:
        if not (fault.is_partial and _OPTIONAL.get()):
            calls.note(provider, resource, fault)
        raise
    except Refused:
        calls.note(provider, resource, None)
        raise
    calls.note(provider, resource, None)


def optional_calls() -> AbstractContextManager[bool]:
    """Note no missing permission of the calls inside: the caller works without it."""
    return _set(_OPTIONAL, True)
