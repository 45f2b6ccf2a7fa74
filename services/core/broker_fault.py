"""Why the broker cannot be used, for people."""

from pathlib import Path
from urllib.parse import parse_qsl

from services.core.log_redaction import redact_text
from services.core.sentinel import TLS_OPTIONS


def describe_broker_fault(fault: BaseException, url: str) -> str:
    """Return the reason without a password; for a missing file, the option of ``url`` that names it."""
    options = dict(parse_qsl(url.partition("?")[2]))
    missing = [
        f"{name}={options[name]}"
        for name in TLS_OPTIONS
        if "/" in options.get(name, "") and not Path(options[name]).exists()
    ]
    if missing:
        return f"there is no file {', '.join(missing)}"
    return redact_text(str(fault)).strip().rstrip(".") or type(fault).__name__
