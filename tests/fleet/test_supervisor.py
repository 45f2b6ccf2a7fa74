"""The supervisor over small real processes."""

import io
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from services.fleet.child import Program, Reaper, format_exit
from services.fleet.errors import FleetError, ServerFailed
from services.fleet.processes import LogStream, Supervisor, restart_delay_seconds
from tests.fleet.waiting import is_running, wait_for

_FOREVER = "import time\nprint('up', flush=True)\nwhile True: time.sleep(60)"
_STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + _FOREVER
_WITH_CHILD = (
    "import subprocess, sys\n"
    "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
    "print('child', child.pid, flush=True)\nchild.wait()"
)


def program(name: str, code: str, **options: str) -> Program:
    return Program(name=name, argv=(sys.executable, "-c", code), env=dict(os.environ), **options)  # type: ignore[arg-type]


@pytest.fixture
def reaper() -> Iterator[Reaper]:
    reaper = Reaper()
    yield reaper
    reaper.close()


def test_output_of_processes_has_their_names(reaper: Reaper) -> None:
    out = io.StringIO()
    supervisor = Supervisor([program("left", _FOREVER), program("right", _FOREVER)], reaper=reaper, out=out)
    supervisor.start()
    wait_for(lambda: "left  | up" in out.getvalue() and "right | up" in out.getvalue())

    supervisor.stop()

    assert "\x1b" not in out.getvalue()


def test_killed_process_is_started_again_and_the_reason_is_reported(reaper: Reaper) -> None:
    out = io.StringIO()
    supervisor = Supervisor([program("one", _FOREVER)], reaper=reaper, out=out)
    supervisor.start()
    first = supervisor.pids()["one"]

    supervisor.kill("one", signal.SIGKILL)
    wait_for(lambda: supervisor.pids()["one"] not in (first, None))
    supervisor.stop()

    assert "one: killed by SIGKILL; starting it again in 0.5 s" in out.getvalue()
    assert supervisor.restarts() == {"one": 1}


def test_process_that_exits_is_reported_with_its_exit_code(reaper: Reaper) -> None:
    out = io.StringIO()
    supervisor = Supervisor([program("brief", "raise SystemExit(3)")], reaper=reaper, out=out)
    supervisor.start()
    wait_for(lambda: "starting it again in 1 s" in out.getvalue())

    supervisor.stop()

    assert "brief: exit code 3; starting it again in 0.5 s" in out.getvalue()


def test_program_that_cannot_be_run_does_not_end_the_others(reaper: Reaper) -> None:
    out = io.StringIO()
    missing = Program(name="missing", argv=("/nowhere/at-all",))
    supervisor = Supervisor([missing, program("one", _FOREVER)], reaper=reaper, out=out)
    supervisor.start()
    wait_for(lambda: "one     | up" in out.getvalue())

    supervisor.stop()

    assert "missing: cannot start:" in out.getvalue()


def test_delays_double_up_to_half_a_minute() -> None:
    assert [restart_delay_seconds(n) for n in (1, 2, 3, 7, 50)] == [0.5, 1.0, 2.0, 30.0, 30.0]


def test_stop_leaves_neither_processes_nor_their_children(reaper: Reaper) -> None:
    out = io.StringIO()
    supervisor = Supervisor([program("parent", _WITH_CHILD)], reaper=reaper, out=out)
    supervisor.start()
    wait_for(lambda: "child" in out.getvalue())
    grandchild = int(out.getvalue().split("child ")[1].split()[0])
    assert is_running(grandchild)

    supervisor.stop()

    wait_for(lambda: not is_running(grandchild))


def test_process_that_ignores_the_stop_is_killed_on_the_second_request(reaper: Reaper) -> None:
    out = io.StringIO()
    supervisor = Supervisor([program("stubborn", _STUBBORN)], reaper=reaper, out=out)
    supervisor.start()
    wait_for(lambda: "up" in out.getvalue())
    pid = supervisor.pids()["stubborn"]

    supervisor.request_stop()
    supervisor.request_stop()
    supervisor.stop()

    assert pid is not None
    assert not is_running(pid)
    assert "stubborn: did not end in time, killed" in out.getvalue()


def test_killed_reaper_is_replaced_and_the_new_one_watches_the_same_processes(reaper: Reaper) -> None:
    supervisor = Supervisor([program("one", _FOREVER)], reaper=reaper, out=io.StringIO())
    supervisor.start()
    first = reaper.pid
    assert first is not None

    os.kill(first, signal.SIGKILL)

    wait_for(lambda: reaper.pid not in (first, None))
    watched = supervisor.pids()["one"]
    supervisor.stop()
    assert watched is not None


def test_held_process_stays_down_until_released(reaper: Reaper) -> None:
    supervisor = Supervisor([program("one", _FOREVER)], reaper=reaper, out=io.StringIO())
    supervisor.start()

    supervisor.hold("one")
    assert supervisor.pids() == {"one": None}
    supervisor.release("one")

    wait_for(lambda: supervisor.pids()["one"])
    supervisor.stop()


def test_wait_healthy_names_what_does_not_answer(reaper: Reaper) -> None:
    silent = program("silent", _FOREVER, health_url="http://127.0.0.1:1/livez")
    supervisor = Supervisor([silent], reaper=reaper, out=io.StringIO())
    supervisor.start()

    with pytest.raises(ServerFailed, match="not healthy after 0 s: silent"):
        supervisor.wait_healthy(0.2)
    supervisor.stop()


def test_wait_healthy_returns_once_the_address_answers(reaper: Reaper) -> None:
    from services.fleet.ports import find_free_port

    port = find_free_port()
    serving = Program(
        name="web",
        argv=(sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1"),
        env=dict(os.environ),
        cwd=Path(__file__).parent,
        health_url=f"http://127.0.0.1:{port}/",
    )
    supervisor = Supervisor([serving], reaper=reaper, out=io.StringIO())
    supervisor.start()

    supervisor.wait_healthy(15)

    assert supervisor.find_unhealthy() == []
    supervisor.stop()


def test_unknown_name_is_refused_with_the_known_ones(reaper: Reaper) -> None:
    supervisor = Supervisor([program("one", _FOREVER)], reaper=reaper, out=io.StringIO())

    with pytest.raises(FleetError, match="no process named 'two': there are one"):
        supervisor.kill("two")


def test_children_lead_their_own_sessions(reaper: Reaper) -> None:
    supervisor = Supervisor([program("one", _FOREVER)], reaper=reaper, out=io.StringIO())
    supervisor.start()
    pid = supervisor.pids()["one"]
    assert pid is not None

    assert os.getsid(pid) == pid != os.getsid(0)
    assert psutil.Process(pid).ppid() == os.getpid()
    supervisor.stop()


def test_fleet_ends_when_the_reader_of_its_output_exits(reaper: Reaper) -> None:
    reading, writing = os.pipe()
    supervisor = Supervisor([program("one", _FOREVER)], reaper=reaper, out=os.fdopen(writing, "w"))
    os.close(reading)
    supervisor.start()

    assert supervisor.wait(60)
    supervisor.stop()


@pytest.mark.parametrize(
    ("code", "description"), [(0, "exit code 0"), (-9, "killed by SIGKILL"), (-255, "killed by signal 255")]
)
def test_exit_codes_are_described_in_words(code: int, description: str) -> None:
    assert format_exit(code) == description


def test_split_output_is_joined_to_whole_lines(reaper: Reaper) -> None:
    code = (
        "import sys, time\n"
        "for piece in (b'a\\nb', b'\\xc3', b'\\xa9\\r\\n', b'\\xff', b'x' * 70_000, b'\\nrest'):\n"
        "    sys.stdout.buffer.write(piece); sys.stdout.flush(); time.sleep(0.05)\n"
    )
    out = io.StringIO()
    supervisor = Supervisor([program("one", code)], reaper=reaper, out=out)
    supervisor.start()
    wait_for(lambda: "one   | rest\n" in out.getvalue())
    supervisor.stop()

    lines = [line.removeprefix("one   | ") for line in out.getvalue().splitlines() if line.startswith("one")]
    assert lines[:3] == ["a", "bé", "\ufffd" + "x" * 65_535]
    assert lines[3:5] == ["x" * (70_000 - 65_535), "rest"]


def test_names_are_coloured_on_a_terminal_unless_no_color_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.delenv("NO_COLOR", raising=False)
    coloured, plain = Terminal(), Terminal()
    LogStream(["a"], coloured).write("a", "hello")
    monkeypatch.setenv("NO_COLOR", "1")
    LogStream(["a"], plain).write("a", "hello")

    assert coloured.getvalue() == "\x1b[36ma |\x1b[0m hello\n"
    assert plain.getvalue() == "a | hello\n"
