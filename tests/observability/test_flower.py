"""Flower started by ``celery -A tasks flower``, with a real worker and a real broker."""

import base64
import http.client
import inspect
import json
import logging
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import pytest
from flower import events, inspector

from services.core.broker import Sender, queue_depths
from services.ledger.topics import QUEUES
from tasks.flower import START_SECONDS, check_sign_in, guard_flower, is_not_of_start, name_real_wait
from tasks.sign_in_limiter import FAILURE_WINDOW_SECONDS, MAX_ADDRESSES, MAX_FAILURES, SignInLimiter

LOGIN = "ada:correct-horse"
OPEN_BY_DESIGN = ("/healthcheck", "/metrics")
CLOSED = ("/", "/tasks", "/workers", "/broker", "/api/workers", "/api/tasks", "/api/queues/length")


@dataclass(frozen=True)
class Options:
    """The two Flower options for authentication."""

    basic_auth: list[str] | None = None
    auth: str = ""


def celery(*command: str) -> list[str]:
    return [sys.executable, "-m", "celery", "-A", "tasks", *command]


def wait_for(what: str, produce: Callable[[], Any]) -> Any:
    """Return the first true result of ``fetch``, or fail after 30 s."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        if answer := produce():
            return answer
        time.sleep(0.1)
    raise AssertionError(f"waited 30 s for {what}")


def fetch(url: str, login: str = "") -> tuple[int, str]:
    request = urllib.request.Request(url)  # noqa: S310 - always http on loopback
    if login:
        request.add_header("Authorization", "Basic " + base64.b64encode(login.encode()).decode())
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as answer:
        return answer.code, answer.read().decode()
    except OSError:
        return 0, ""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running(command: list[str], **env: str) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        command, env=os.environ | env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(90)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@pytest.fixture(
    scope="module",
    params=[celery("flower"), [sys.executable, "-m", "tasks", "flower"]],
    ids=["celery", "tasks"],
)
def flower(environment: dict[str, str], request: pytest.FixtureRequest) -> Iterator[str]:
    """Address of a Flower with one worker of one queue."""
    port = free_port()
    worker = celery("worker", "-P", "solo", "-Q", "webhooks", "-n", "some@test", "--without-gossip")
    with (
        running(worker),
        running(request.param, FLOWER_BASIC_AUTH=LOGIN, FLOWER_PORT=str(port), FLOWER_INSPECT_TIMEOUT="3000"),
    ):
        address = f"http://127.0.0.1:{port}"
        wait_for("Flower", lambda: fetch(f"{address}/healthcheck")[0] == 200)
        yield address


def test_flower_requires_a_sign_in(flower: str) -> None:
    assert {path: fetch(flower + path)[0] for path in CLOSED} == dict.fromkeys(CLOSED, 401)
    assert {fetch(flower + path, "ada:wrong-horse")[0] for path in CLOSED} == {401}
    assert {path: fetch(flower + path, LOGIN)[0] for path in CLOSED} == dict.fromkeys(CLOSED, 200)
    assert {fetch(flower + path)[0] for path in OPEN_BY_DESIGN} == {200}


def test_flower_shows_every_queues_backlog_and_tasks_under_their_topics_name(flower: str) -> None:
    def has_worker_queues() -> bool:
        """Return whether Flower knows the queues of its worker; it then lists only those."""
        _, body = fetch(f"{flower}/api/workers?refresh=1", LOGIN)
        return any("active_queues" in known for known in json.loads(body or "{}").values())

    sender = Sender()
    sender.send("reports", "owner_digest", [[1]])
    wait_for("the worker's answer", has_worker_queues)
    _, body = fetch(f"{flower}/api/queues/length", LOGIN)
    waiting = {queue["name"]: queue["messages"] for queue in json.loads(body or "{}")["active_queues"]}

    assert waiting == queue_depths(QUEUES)
    assert waiting["reports"]

    def tasks() -> list[dict[str, Any]]:
        sender.send("webhooks", "order_ingest", [[2**53 + 1]])  # no such row: the worker finds nothing to do
        _, body = fetch(f"{flower}/api/tasks?taskname=order_ingest", LOGIN)
        found = json.loads(body or "{}").values()
        return [task for task in found if str(2**53 + 1) in task["args"]]

    seen = wait_for("a task", tasks)
    sender.close()

    assert {task["name"] for task in seen} == {"order_ingest"}


@pytest.mark.parametrize(
    ("options", "env", "message"),
    [
        ((), {}, "FLOWER_BASIC_AUTH=user:password"),
        ((f"--basic_auth={LOGIN}",), {"FLOWER_UNAUTHENTICATED_API": "true"}, "Unset it"),
        (("--max_tasks=abc",), {}, "--max_tasks=abc: invalid literal for int()"),
        (("--nope=1",), {}, "Error: Flower has no option --nope=1"),
        (
            ("--port=70000", f"--basic_auth={LOGIN}"),
            {},
            "--port=70000 should be a whole number from 1 to 65535",
        ),
    ],
)
def test_flower_without_a_login_or_with_a_wrong_option_says_what_to_do(
    environment: dict[str, str], options: tuple[str, ...], env: dict[str, str], message: str
) -> None:
    outcome = subprocess.run(
        celery("flower", f"--port={free_port()}", *options),
        env=os.environ | env,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert outcome.returncode == 2
    assert message in outcome.stderr


def test_people_may_sign_in_elsewhere_instead() -> None:
    check_sign_in(Options(auth=r".*@example\.com"), {})


@pytest.mark.parametrize("login", ["ada", "ada:short", ":correct-horse", ""])
def test_login_that_admits_everyone_or_no_one_is_refused(login: str) -> None:
    with pytest.raises(click.UsageError, match="at least 8 characters"):
        check_sign_in(Options(basic_auth=[login]), {})


def test_one_bad_login_among_good_ones_is_refused_without_its_password() -> None:
    with pytest.raises(click.UsageError, match="'ben'") as caught:
        check_sign_in(Options(basic_auth=[LOGIN, "ben:pass"]), {})

    assert "pass'" not in str(caught.value)
    assert "horse" not in str(caught.value)


def test_guarding_twice_guards_once() -> None:
    from flower import command

    before = command.flower.callback
    try:
        guard_flower()
        guarded = command.flower.callback
        guard_flower()
        assert command.flower.callback is guarded
        assert guarded is not before or getattr(before, "is_guarded", False)
    finally:
        command.flower.callback = before


def fetch_from(address: str, flower: str, login: str) -> tuple[int, str]:
    """Send a request from the loopback ``address``; return the status and Retry-After."""
    host, port = flower.removeprefix("http://").split(":")
    link = http.client.HTTPConnection(host, int(port), timeout=60, source_address=(address, 0))
    try:
        key = base64.b64encode(login.encode()).decode()
        link.request("GET", "/api/workers", headers={"Authorization": f"Basic {key}"})
        answer = link.getresponse()
        answer.read()
        return answer.status, answer.headers.get("Retry-After", "")
    finally:
        link.close()


def test_only_an_address_with_many_wrong_logins_is_refused_for_a_while(flower: str) -> None:
    guesses = [fetch_from("127.0.0.2", flower, f"ada:wrong-{n}") for n in range(MAX_FAILURES)]
    status, wait = fetch_from("127.0.0.2", flower, LOGIN)

    assert guesses == [(401, "")] * MAX_FAILURES
    assert status == 429, "also with the right password: it may be a guess"
    assert 0 < int(wait) <= FAILURE_WINDOW_SECONDS
    assert fetch_from("127.0.0.3", flower, LOGIN) == (200, "")


def test_wrong_sign_ins_of_any_letters_are_refused_and_counted(flower: str) -> None:
    odd = ["ada:wr\u00f6ng-horse", "\u0430da:correct-horse", "", ":", "\x00:\x00"]
    logins = [odd[n % len(odd)] for n in range(MAX_FAILURES)]

    assert [fetch_from("127.0.0.4", flower, login) for login in logins] == [(401, "")] * MAX_FAILURES
    assert fetch_from("127.0.0.4", flower, LOGIN)[0] == 429


@pytest.mark.parametrize("login", ["ada:corr\u00e9ct-horse", "\u00e4da:correct-horse"])
def test_login_that_flower_cannot_compare_is_refused_at_the_start(login: str) -> None:
    with pytest.raises(click.UsageError, match="ASCII"):
        check_sign_in(Options(basic_auth=[login]), {})


def test_limit_ends_with_its_window() -> None:
    now = [0.0]
    limiter = SignInLimiter(lambda: now[0])
    held = [limiter.add("2001:db8::1") for _ in range(MAX_FAILURES)]
    assert held == [False] * (MAX_FAILURES - 1) + [True]
    assert limiter.wait_seconds("2001:db8::2") == FAILURE_WINDOW_SECONDS
    assert limiter.wait_seconds("2001:db8:0:1::1") == 0

    now[0] = FAILURE_WINDOW_SECONDS - 0.5
    assert limiter.wait_seconds("2001:db8::1") == 1
    now[0] = FAILURE_WINDOW_SECONDS
    assert limiter.wait_seconds("2001:db8::1") == 0


def test_limiter_drops_the_oldest_addresses_first() -> None:
    limiter = SignInLimiter(lambda: 0.0)
    for _ in range(MAX_FAILURES):
        limiter.add("192.0.2.1")
    for n in range(MAX_ADDRESSES):
        assert limiter.wait_seconds("192.0.2.1")
        limiter.add(f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}")

    assert limiter.wait_seconds("192.0.2.1") == 0


def test_the_log_names_the_real_wait_for_a_lost_broker() -> None:
    text = "Failed to capture events: '%s', trying again in %s seconds."
    lines = []
    for seconds in (2, 8, 64):
        record = logging.LogRecord("flower.events", logging.ERROR, "", 1, text, ("gone", seconds), None)
        assert name_real_wait(record)
        lines.append(record.getMessage().split("again ")[1])

    assert lines == ["in 2 seconds.", "in 8 seconds.", "in 10 seconds."]
    flower_text = Path(inspect.getfile(events)).read_text()
    assert "trying again in %s seconds" in flower_text


def test_the_log_does_not_warn_of_workers_that_start_with_flower() -> None:
    shown = []
    for text, *more in (("Inspect method %s failed",), ("Inspect method %s failed: %s", "refused")):
        for seconds in (1, START_SECONDS + 1):
            record = logging.LogRecord(
                "flower.inspector", logging.WARNING, "", 1, text, ("conf", *more), None
            )
            record.relativeCreated = 1000 * seconds
            shown += [(record.getMessage(), seconds)] if is_not_of_start(record) else []

    late = START_SECONDS + 1
    of_fault = "Inspect method conf failed: refused"
    assert shown == [("Inspect method conf failed", late), (of_fault, 1), (of_fault, late)]
    assert '"Inspect method %s failed"' in Path(inspect.getfile(inspector)).read_text()
