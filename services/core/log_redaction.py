"""Removes secrets and personal data from log lines and error reports. Pure.

Two checks, because each alone misses some: fields with secret names are hidden, and values that look like a
credential, a mail address or a phone number are removed from any text, such as an exception's message.
"""

import re
from collections.abc import Mapping
from typing import Any

from services.core.counts import format_count

HIDDEN = "[hidden]"
DEEPEST = 6
"""Levels of nesting that are searched; deeper values are hidden as a whole."""
LONGEST_QUOTE = 64
"""Most characters of a value in an error."""
_LONGEST_READ = 4096
"""Characters of such a value that are searched; the quote contains no others."""

_SECRET_NAME = re.compile(
    r"secret|token|passw|authorization|signature|hmac|dsn|cookie|credential|api_?-?key|private_?-?key"
    r"|basic_?-?auth|session|csrf",
    re.IGNORECASE,
)
_SECRET_TEXT = re.compile(
    r"\b(?:whsec_|[sr]k_(?:live|test)_|shp(?:at|ca|pa|ss)_|xox[abeprs]-|SG\.)[A-Za-z0-9+/=_.\-]{6,}"
    r"|\b(?:secret_|ntn_)[A-Za-z0-9]{30,}"
    r"|\bre_[A-Za-z0-9]{6,}_[A-Za-z0-9]{10,}"
    r"|\b(?:gh[oprsu]_[A-Za-z0-9]{20,}|AKIA[0-9A-Z]{16}|eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]{4,})"
    r"|\b(?:Bearer|Basic)\s+[A-Za-z0-9+/=_.\-]{8,}"
)
_PERSONAL_NAME = re.compile(
    r"phone|e_?mail|(?:first|last|full)_?name|address|postal|zip|note|recipient|participant|company",
    re.IGNORECASE,
)
_PERSONAL_TEXT = re.compile(
    # A decomposed address has combining marks, which are not in \w.
    r"(?<![\w.+\u0300-\u036f-])(?P<email>[\w.+\u0300-\u036f-]{1,64}(?:@|%40| @ )"
    r"[\w\u0300-\u036f-]{1,63}(?:\.[\w\u0300-\u036f-]{1,63})+)"
    r"|(?<![\w+])(?:\+|%2[Bb])[0-9](?:[ ().-]{0,2}[0-9]){6,14}(?![0-9])"
    r"|(?<![\w+])\(?[0-9]{3}\)?[ .-]{1,2}[0-9]{3}[ .-][0-9]{4}(?![0-9])"
)
_LONG_NUMBER = re.compile(
    r"(?<![\w/])(?![0-9]{4}-(?:0[1-9]|1[0-2])-[0-3][0-9] [0-2][0-9]:)[0-9](?:[ -]?[0-9]){9,18}(?!\w)"
)
"""A phone number without its plus, except in a path, where it is an id, and except a date with a time."""
_URL_LOGIN = re.compile(r"(?<=://)[^/\s@'\"]*:[^/\s'\"]*@")
_URL_TOKEN = re.compile(
    r"(/(?:sign-in/(?:forgot|passkey|again/passkey)|account/(?:codes|passkeys)|unsubscribe)/)(?!delete\b)[^/?#\s'\"]+"
)
"""The part of a path that signs in or proves who somebody is."""
_URL_OPTION = re.compile(r"([?&][\w-]*(?:passw|secret|token|api_?key)[\w-]*=)[^&\s'\"]+", re.IGNORECASE)
# SQLAlchemy and PostgreSQL quote the values of a failed statement, which are customers' data.
_SQL_VALUES = re.compile(
    r"(\[parameters: ).*?(?=\n\(Background|\Z)"
    r"|(Failing row contains ).*?(?=\n\[SQL|\Z)"
    r"|(Key \([^)]*\)=)\(.*?\)(?= already exists| is not present| is still referenced| conflicts)",
    re.DOTALL,
)


def redact_text(text: str) -> str:
    """Return ``text`` without credentials, addresses, phone numbers and values of failed statements."""
    text = _SQL_VALUES.sub(lambda found: (found[1] or found[2] or found[3]) + HIDDEN, text)
    text = _URL_LOGIN.sub(HIDDEN + "@", text)
    text = _URL_TOKEN.sub(lambda found: found[1] + HIDDEN, text)
    text = _URL_OPTION.sub(lambda found: found[1] + HIDDEN, text)
    text = _SECRET_TEXT.sub(HIDDEN, text)
    return _PERSONAL_TEXT.sub(lambda found: "[email]" if found["email"] else "[phone]", text)


def quote_value(value: object, name: str = "") -> str:
    """Return ``value`` of the field ``name``, from outside, as an error may quote it.

    It is short, without credentials, mail addresses and phone numbers; a field with such a name is hidden. An
    object, a list or bytes are replaced by their size.
    """
    if value is not None and (is_secret_name(name) or _PERSONAL_NAME.search(name)):
        return HIDDEN
    match value:
        case str():
            text = _LONG_NUMBER.sub("[number]", redact_text(value[:_LONGEST_READ]))
            return repr(text if len(text) <= LONGEST_QUOTE else f"{text[: LONGEST_QUOTE - 3]}...")
        case bytes() | bytearray() | memoryview():
            return format_count(len(value), "byte")
        case Mapping():
            return f"an object of {format_count(len(value), 'field')}"
        case list() | tuple():
            return f"a list of {len(value)}"
    return repr(value)[:LONGEST_QUOTE]


def is_secret_name(name: str) -> bool:
    return _SECRET_NAME.search(name) is not None


def redact(value: Any, depth: int = 0) -> Any:
    """Return ``value`` with secrets hidden at every level; numbers and booleans are never secret.

    Bytes are hidden as a whole.
    """
    if isinstance(value, str):
        return redact_text(value)
    if isinstance(value, bytes | bytearray | memoryview) or (
        depth >= DEEPEST and isinstance(value, Mapping | list | tuple)
    ):
        return HIDDEN
    if isinstance(value, Mapping):
        return {key: redact_field(str(key), item, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [redact(item, depth + 1) for item in value]
    return value


def redact_field(name: str, value: Any, depth: int = 0) -> Any:
    """Return ``value`` as it may be shown under ``name``."""
    if is_secret_name(name) and not isinstance(value, bool | int | float | None):
        return HIDDEN if value else value
    return redact(value, depth)
