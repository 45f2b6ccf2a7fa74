"""No secret leaves in a log line or an error report. Pure: values in, the same values without secrets out.

Two nets, because either alone leaks: names that say "secret" hide whatever they hold, and values that
look like a credential are cut out of any text, such as an exception's message.
"""

import re
from collections.abc import Mapping
from typing import Any

HIDDEN = "[hidden]"
DEEPEST = 6
"""Levels of nesting that are looked into; what lies deeper is hidden as a whole."""

_SECRET_NAME = re.compile(
    r"secret|token|passw|authorization|signature|hmac|dsn|cookie|credential|api_?-?key|private_?-?key"
    r"|basic_?-?auth|session|csrf",
    re.IGNORECASE,
)
_SECRET_TEXT = re.compile(
    r"\b(?:whsec_|[sr]k_(?:live|test)_|shp(?:at|ca|pa|ss)_|xox[abeprs]-|SG\.)[A-Za-z0-9+/=_.\-]{6,}"
    r"|\b(?:secret_|ntn_)[A-Za-z0-9]{30,}"
    r"|\bre_[A-Za-z0-9]{6,}_[A-Za-z0-9]{10,}"
    r"|\b(?:Bearer|Basic)\s+[A-Za-z0-9+/=_.\-]{8,}"
)
_URL_LOGIN = re.compile(r"(?<=://)[^/\s@'\"]*:[^/\s'\"]*@")
# SQLAlchemy and PostgreSQL quote a failed statement's values: those are customers' data.
_SQL_VALUES = re.compile(
    r"(\[parameters: ).*?(?=\n\(Background|\Z)"
    r"|(Failing row contains ).*?(?=\n\[SQL|\Z)"
    r"|(Key \([^)]*\)=)\(.*?\)(?= already exists| is not present| is still referenced| conflicts)",
    re.DOTALL,
)


def redact_text(text: str) -> str:
    """Return ``text`` without anything that looks like a credential or a failed statement's values."""
    text = _SQL_VALUES.sub(lambda found: (found[1] or found[2] or found[3]) + HIDDEN, text)
    text = _URL_LOGIN.sub(HIDDEN + "@", text)
    return _SECRET_TEXT.sub(HIDDEN, text)


def is_secret_name(name: str) -> bool:
    """Say whether a field of this name holds something that must not be shown."""
    return _SECRET_NAME.search(name) is not None


def redact(value: Any, depth: int = 0) -> Any:
    """Return ``value`` with secrets hidden at every level; numbers and truth values are never secret.

    Bytes are hidden as a whole: they are somebody's body.
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
