"""Masks payloads: texts that could be personal data are hidden, the structure and numbers stay. Pure."""

import re
from typing import Any

_OPEN_KEYS = re.compile(
    r"(?:.*_)?(?:id|gid|at|type|kind|status|state|topic|currency|sku|code|object|version|provider|event|job|"
    r"period|shop|domain|livemode|method|reason|action)s?"
)
"""Names whose texts are shown: ids, times and words of the provider."""
HIDDEN = "•••"


def mask(value: Any, key: str = "") -> Any:
    """Return ``value`` with each text hidden, except those under a name that is never a person's."""
    if isinstance(value, dict):
        return {name: mask(one, str(name)) for name, one in value.items()}
    if isinstance(value, list):
        return [mask(one, key) for one in value]
    if isinstance(value, str) and value and not _OPEN_KEYS.fullmatch(key.lower()):
        return HIDDEN
    return value


def is_masked(value: Any) -> bool:
    """Return whether ``mask`` hides anything of ``value``."""
    return bool(mask(value) != value)
