"""A prompt without an answer ends with what did not happen."""

import os
import pty
import select
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.cli.test_unknown_values import BIN

CTRL_C, CTRL_D = b"\x03", b"\x04"
AGAIN_SECONDS = 5.0


def answer_on_terminal(words: list[str], prompt: bytes, answer: bytes) -> tuple[int, str]:
    """Return exit code and output of a command on a terminal, where ``answer`` is typed at ``prompt``.

    It is typed again after ``AGAIN_SECONDS``: Python shows a prompt just before it waits for input, and a
    Ctrl-C between the two interrupts only the next wait.
    """
    pid, terminal = pty.fork()
    if not pid:
        os.execv(words[0], words)  # noqa: S606 - no shell is needed
    shown, deadline = b"", time.monotonic() + 120
    while time.monotonic() < deadline:
        was_asked = prompt in shown
        is_readable = bool(select.select([terminal], [], [], AGAIN_SECONDS)[0])
        try:
            shown += os.read(terminal, 4096) if is_readable else b""
            if prompt in shown and (not was_asked or not is_readable):
                os.write(terminal, answer)
        except OSError:  # the command has ended
            break
    else:
        os.kill(pid, signal.SIGKILL)
    os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), shown.decode()


@pytest.mark.parametrize(
    ("line", "prompt", "answer"),
    [
        ("shops secret harbour shopify-token", b"): ", CTRL_D),
        ("shops connect harbour", b"): ", CTRL_C),
        ("shops remove harbour --export data", b"for good []: ", CTRL_C),
        ("shops remove harbour --export data", b"for good []: ", b"no\n"),
    ],
)
def test_a_prompt_without_an_answer_says_that_nothing_was_changed(
    harbour: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, prompt: bytes, answer: bytes
) -> None:
    monkeypatch.chdir(tmp_path)

    code, shown = answer_on_terminal([str(BIN / "fleet"), *line.split()], prompt, answer)

    assert code == 1, shown
    assert "nothing was changed" in shown
    assert "Aborted" not in shown
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("answer", ["n\n", ""])
def test_celerys_own_question_without_a_yes_says_that_nothing_was_changed(
    environment: dict[str, str], answer: str
) -> None:
    line = [str(BIN / "celery"), "-A", "tasks", "purge"]
    stopped = subprocess.run(line, input=answer, capture_output=True, text=True, check=False, timeout=60)

    assert stopped.returncode == 1
    assert "nothing was changed" in stopped.stderr
    assert "Aborted" not in stopped.stderr
