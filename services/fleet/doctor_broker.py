"""Checks of ``fleet doctor`` for the broker: it answers, keeps its messages, and a failover would work."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from services.core.broker import connect, is_redis
from services.core.broker_fault import explain_broker_fault
from services.core.broker_probe import send_to_no_queue
from services.core.log_redaction import redact_text
from services.core.rabbitmq import find_api_fault
from services.core.sentinel import SENTINEL, SentinelUrl, parse_sentinel_url
from services.fleet.doctor_check import DoctorCheck, describe_start

LEAST_SENTINELS = 3
"""Two that are left still have a majority: https://redis.io/docs/latest/operate/oss_and_stack/management/sentinel/"""

_SECONDS = 2.0
_SENTINEL_REMEDIES = (
    ("uthenticat|username-password|NOAUTH", "correct sentinel_user and sentinel_password in BROKER_URL"),
    ("such master", "correct master= in BROKER_URL"),
    ("BROKER_URL names", "name all of them in BROKER_URL"),
    ("imeout|[Cc]onnect", "start the Sentinel that does not answer"),
    ("is down|no replica", "start the master and a replica"),
    ("different masters|quorum|run at least", "correct sentinel monitor in each sentinel.conf"),
)
"""(pattern of the faults, what to do about it)."""


def check_broker(url: str, management_url: str = "") -> Iterator[DoctorCheck]:
    """Yield the findings; none has a password. Each wait is at most 3 s.

    ``management_url`` is FLOWER_BROKER_API.
    """
    if url.startswith(f"{SENTINEL}:"):
        yield _check_sentinels(parse_sentinel_url(url))
    try:
        with connect(url, timeout_seconds=_SECONDS) as connection:
            connection.ensure_connection(max_retries=1, interval_start=0, timeout=_SECONDS)
            channel = connection.default_channel
            server: Mapping[str, Any] = channel.client.info() if is_redis(url) else {}
            product = {} if server else connection.connection.server_properties
            answers = f"takes a message in {send_to_no_queue(connection, url):.1f} ms"
    except Exception as fault:  # noqa: BLE001 - whatever it is, the broker cannot be used
        found, remedy = explain_broker_fault(fault, url, _SECONDS)
        yield DoctorCheck("broker", False, found, remedy or describe_start("BROKER_URL"))
        return
    if not server:
        name = f"{product.get('product', 'AMQP')} {product.get('version', '')}".strip()
        yield DoctorCheck("broker", True, f"{name} {answers}")
        found, remedy = find_api_fault(url, management_url) or ("", "")
        yield DoctorCheck("flower", not found, found or "the management API answers", remedy)
        return
    name = "Valkey" if "valkey_version" in server else "Redis"
    version = server.get("valkey_version") or server["redis_version"]
    yield DoctorCheck("broker", True, f"{name} {version} {answers}")
    policy = server["maxmemory_policy"]
    remedy = (
        "set maxmemory-policy noeviction in the server's configuration and with CONFIG SET, on replicas too: "
        "with another policy it deletes messages when its memory is full"
    )
    yield DoctorCheck("broker policy", policy == "noeviction", f"maxmemory-policy is {policy}", remedy)


def _check_sentinels(url: SentinelUrl) -> DoctorCheck:
    """Ask every sentinel of ``url``: each must know the same working master, with a replica."""
    states, faults = _read_states(url)
    masters = {f"{state['ip']}:{state['port']}" for state in states.values()}
    if len(masters) > 1:
        faults.append(f"they name different masters: {', '.join(sorted(masters))}")
    for state in list(states.values())[:1]:
        known = int(state["num-other-sentinels"]) + 1
        if state["is_sdown"] or state["is_odown"]:
            faults.append(f"the master {state['ip']}:{state['port']} is down")
        if not state["num-slaves"]:
            faults.append("the master has no replica that could replace it")
        if known < LEAST_SENTINELS:
            faults.append(
                f"there are {known}: a failover needs a majority, so run at least {LEAST_SENTINELS}"
            )
        if known > len(url.sentinels):
            faults.append(f"BROKER_URL names {len(url.sentinels)} of {known}")
        if int(state["quorum"]) > known:
            faults.append(f"the quorum {state['quorum']} is more than there are")
    seen = f"{len(states)} of {len(url.sentinels)} know the master {url.master!r}"
    seen += f" at {masters.pop()}" if len(masters) == 1 else ""
    remedies = [what for pattern, what in _SENTINEL_REMEDIES if re.search(pattern, "; ".join(faults))]
    host, port = url.sentinels[0]
    login = f" --user {url.sentinel_user}" if url.sentinel_user else ""
    login += " --askpass" if url.sentinel_password else ""
    remedies.append(f"what one knows: redis-cli -h {host} -p {port}{login} SENTINEL MASTERS")
    return DoctorCheck("sentinels", not faults, "; ".join([seen, *faults]), "; ".join(remedies))


def _read_states(url: SentinelUrl) -> tuple[dict[str, Mapping[str, Any]], list[str]]:
    """Return what each sentinel knows of the master, and the faults of the others."""
    from redis.exceptions import RedisError

    from services.core.sentinel_client import SentinelClient, find_address

    states: dict[str, Mapping[str, Any]] = {}
    faults: list[str] = []
    with SentinelClient(url, _SECONDS) as client:
        for sentinel in client.sentinels:
            host, port = find_address(sentinel)
            try:
                states[f"{host}:{port}"] = sentinel.sentinel_master(url.master)
            except RedisError as fault:
                faults.append(f"{host}:{port}: {redact_text(str(fault))}")
    return states, faults
