"""Why the broker cannot be used, for people."""

import re
from pathlib import Path
from urllib.parse import parse_qsl

from services.core.errors import describe_server
from services.core.log_redaction import redact_text
from services.core.sentinel import SENTINEL, TLS_OPTIONS
from services.core.server_fault import ServerFault, explain_timeout

_TAKES_NONE = "accepts connections and takes no message (webhooks are recorded, their work waits)"
_FAULTS = (
    (
        "maxmemory|OOM",
        _TAKES_NONE,
        "raise maxmemory, or start the worker of the queue that grows: `celery -A tasks backlog` shows it",
    ),
    (
        "alarm|blocked",
        _TAKES_NONE,
        "free memory or disk: `rabbitmqctl list_alarms` names the node, `rabbitmqctl status` the limits",
    ),
    ("no sentinel of", "is not reachable", "the line `sentinels` of `fleet doctor` says why"),
    ("MISCONF", _TAKES_NONE, "it cannot write to its disk: free space there"),
    ("read only replica|NOREPLICAS", _TAKES_NONE, "set BROKER_URL to the master, and start its replicas"),
    (
        "there is no file|AUTH|uthentication|username-password|invalid password|REFUSED|Login was refused|"
        "NOPERM|not allowed|NOT_ALLOWED|out of range|certificate",
        "refuses the connection",
        "check BROKER_URL",
    ),
)
"""(pattern of the reason, what the broker does, remedy); the first that matches counts."""


def explain_broker_fault(fault: BaseException, url: str, seconds: float) -> ServerFault:
    """Return what is wrong with the broker at ``url``, by its address; ``seconds``: the limit of a wait."""
    server, reason = f"the broker at {describe_server(url)}", describe_broker_fault(fault, url)
    for pattern, what, remedy in _FAULTS:
        if re.search(pattern, reason):
            return ServerFault(f"{server} {what}: {reason}", remedy)
    # Of Sentinels the first address is not that of the master.
    late = None if url.startswith(f"{SENTINEL}:") else explain_timeout(url, reason, seconds)
    if late:
        return ServerFault(f"{server} {late.what}", late.remedy)
    return ServerFault(f"{server} is not reachable: {reason}")


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
