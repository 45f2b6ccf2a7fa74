"""Starts other programs, waits until they are ready, and ends all of them."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.request import urlopen

ROOT = Path(__file__).resolve().parent.parent
PEERS_PYTHON = ROOT / "benchmarks" / ".venv-peers" / "bin" / "python"
Argv = Sequence[str | Path]
NODE_FOLDER = ROOT / "benchmarks" / "peers_ingress" / "node"


class BenchmarkFailed(Exception):
    """A measurement is invalid. The message has the reason, without a path; ``detail`` the end of a log."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason)
        self.detail = detail


def find_free_port() -> int:
    """Return a loopback port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def stop(process: subprocess.Popen[bytes], *, grace_seconds: float = 15) -> None:
    """End the process and everything in its session: SIGTERM first, then SIGKILL."""
    for sig in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, sig)
        except ProcessLookupError:
            break
        try:
            process.wait(timeout=grace_seconds)
        except subprocess.TimeoutExpired:
            continue
    process.wait()


@contextmanager
def running(
    argv: Argv, *, log: Path, env: Mapping[str, str], cwd: Path = ROOT
) -> Iterator[subprocess.Popen[bytes]]:
    """Run ``argv`` in a session of its own while the block lasts; its output goes to ``log``."""
    with log.open("ab") as out:
        process = subprocess.Popen(
            [str(part) for part in argv],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            cwd=cwd,
            env={**os.environ, **env},
            start_new_session=True,
        )
    try:
        yield process
    finally:
        stop(process)


def run_once(argv: Argv, *, log: Path, env: Mapping[str, str], cwd: Path = ROOT) -> None:
    """Run ``argv`` to its end; raise ``BenchmarkFailed`` with the end of its output if it failed."""
    with log.open("ab") as out:
        code = subprocess.run(
            [str(part) for part in argv],
            stdout=out,
            stderr=out,
            cwd=cwd,
            env={**os.environ, **env},
            check=False,
        ).returncode
    if code:
        raise BenchmarkFailed(f"{Path(argv[0]).name} {argv[1]} ended with {code}", tail(log))


def tail(log: Path, *, lines: int = 15) -> str:
    """Return the last lines of a log."""
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])


def await_true(
    check: Callable[[], bool],
    *,
    what: str,
    seconds: float,
    log: Path | None = None,
    process: subprocess.Popen[bytes] | None = None,
) -> None:
    """Return once ``check`` holds; raise ``BenchmarkFailed`` after the time-out, or if ``process`` ended."""
    deadline = time.monotonic() + seconds
    while not check():
        if process is not None and process.poll() is not None:
            raise BenchmarkFailed(f"{what}: it ended with {process.returncode}", tail(log) if log else "")
        if time.monotonic() > deadline:
            raise BenchmarkFailed(f"{what}: not within {seconds:g} s", tail(log) if log else "")
        time.sleep(0.02)


def is_answering(url: str) -> bool:
    """Return whether ``url`` answers 200: the program behind a listening port may still be loading."""
    try:
        with urlopen(url, timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def await_answer(url: str, *, what: str, log: Path, process: subprocess.Popen[bytes]) -> None:
    """Return once ``url`` answers 200, which ``process`` has 30 s for."""
    await_true(lambda: is_answering(url), what=what, seconds=30, log=log, process=process)


def is_listening(port: int) -> bool:
    """Return whether something accepts connections on the loopback ``port``."""
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex(("127.0.0.1", port)) == 0
