"""Checks of ``fleet doctor`` for the broker: it answers, keeps its messages, and a failover would work."""

from collections.abc import Iterator, Mapping
from time import perf_counter
from typing import Any

from services.core.broker import connect, is_redis
from services.core.broker_fault import describe_broker_fault
from services.core.log_redaction import redact_text
from services.core.rabbitmq import API_NEEDED, find_api_fault
from services.core.sentinel import DEFAULT_PORT, SENTINEL, SentinelUrl, parse_sentinel_url
from services.fleet.doctor_check import DoctorCheck

LEAST_SENTINELS = 3
"""Two that are left still have a majority: https://redis.io/docs/latest/operate/oss_and_stack/management/sentinel/"""

_SECONDS = 2.0
_LOGIN = "start it, or check the hosts and passwords of BROKER_URL; an embedded one: start it with: fleet up"


def check_broker(url: str, management_url: str = "") -> Iterator[DoctorCheck]:
    """Yield the findings; none has a password. Each wait is at most 3 s.

    ``management_url`` is FLOWER_BROKER_API.
    """
    if url.startswith(f"{SENTINEL}:"):
        yield _check_sentinels(parse_sentinel_url(url))
    try:
        with connect(url, timeout_seconds=_SECONDS) as connection:
            connection.ensure_connection(max_retries=1, interval_start=0, timeout=_SECONDS)
            started = perf_counter()
            channel = connection.default_channel
            server: Mapping[str, Any] = channel.client.info() if is_redis(url) else {}
            product = {} if server else connection.connection.server_properties
            answers = f"answers in {(perf_counter() - started) * 1000:.1f} ms"
    except Exception as fault:  # noqa: BLE001 - whatever it is, the broker cannot be used
        yield DoctorCheck("broker", False, f"does not answer: {describe_broker_fault(fault, url)}", _LOGIN)
        return
    if not server:
        name = f"{product.get('product', 'AMQP')} {product.get('version', '')}".strip()
        yield DoctorCheck("broker", True, f"{name} {answers}")
        api_fault = find_api_fault(url, management_url)
        yield DoctorCheck("flower", not api_fault, api_fault or "the management API answers", API_NEEDED)
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
    remedy = (
        "start a Sentinel that does not answer, or correct BROKER_URL or sentinel.conf; what one knows: "
        f"redis-cli -p {DEFAULT_PORT} SENTINEL MASTER {url.master}"
    )
    return DoctorCheck("sentinels", not faults, "; ".join([seen, *faults]), remedy)


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
