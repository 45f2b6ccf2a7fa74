"""A prompt without an answer ends with what did not happen."""

import ast
import inspect
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from datetime import timedelta
from io import BytesIO
from pathlib import Path

import click
import pytest
from sqlalchemy import Engine, text

from services.cli.base import confirm
from services.cli.main import main
from services.core.clock import utc_now
from services.core.db import transaction
from tasks.commands import backoff, discard, pause, requeue, resume, unlock
from tests.cli.test_celery_commands import dead
from tests.cli.test_celery_commands import run as run_celery
from tests.cli.test_unknown_values import BIN
from tests.ledger_rows import plan, statuses
from tests.structure.test_examples import OPERATOR_COMMANDS, walk

CTRL_C, CTRL_D = b"\x03", b"\x04"
AGAIN_SECONDS = 5.0
ROOT = Path(__file__).parents[2]


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


@pytest.mark.parametrize("answer", [b"n\n", CTRL_C])
def test_celerys_own_question_without_a_yes_says_that_nothing_was_changed(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, answer: bytes
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    code, shown = answer_on_terminal([str(BIN / "celery"), "-A", "tasks", "purge"], b"[y/N]: ", answer)

    assert code == 1, shown
    assert "nothing was changed" in shown
    assert "Aborted" not in shown


ASKING = {
    path: command
    for path, command in (*walk(main, "fleet"), *OPERATOR_COMMANDS)
    if any("-f" in param.opts and param.expose_value for param in command.params)
    if path != "fleet shops remove"  # its question wants the name of the shop
}
"""Each command that asks for a yes unless it has -f; the others with -f ask nothing."""


QUESTION = re.compile(r"click\.(confirm|prompt)\(|\binput\(|getpass\.getpass\(")


def test_each_question_is_for_a_terminal_only() -> None:
    asking = {
        f"{path.relative_to(ROOT)} {function.name}": ast.unparse(function)
        for folder in ("services", "tasks")
        for path in (ROOT / folder).rglob("*.py")
        if QUESTION.search(text := path.read_text())
        for function in ast.walk(ast.parse(text))
        if isinstance(function, ast.FunctionDef) and QUESTION.search(ast.unparse(function))
    }

    assert len(asking) == 5
    assert [name for name, text in asking.items() if not re.search("require_terminal|isatty", text)] == []


def test_every_command_with_a_force_option_asks_with_the_common_question() -> None:
    assert len(ASKING) > 10
    for path, command in ASKING.items():
        assert command.callback is not None
        module = sys.modules[inspect.unwrap(command.callback).__module__]
        assert vars(module).get("confirm") is confirm, path


class Script(BytesIO):
    """The input of a script, which never ends: whoever reads it waits for ever."""

    def read(self, size: int | None = -1, /) -> bytes:
        assert size == 0, "a command reads an answer without a terminal"
        return b""

    def read1(self, size: int | None = -1, /) -> bytes:
        return self.read(size)


@pytest.mark.parametrize(
    ("command", "line"),
    [
        (backoff, "--topic inventory_push --factor 4"),
        (discard, "--status dead --reason x"),
        (pause, "--topic inventory_push"),
        (requeue, "--status dead"),
        (resume, ""),
        (unlock, "--older-than 1m"),
    ],
    ids=lambda one: getattr(one, "name", ""),
)
@pytest.mark.parametrize("form", [(), ("--json",)], ids=["text", "json"])
def test_without_a_terminal_a_command_that_asks_ends_with_2_and_names_the_option(
    engine: Engine, command: click.Command, line: str, form: tuple[str, ...]
) -> None:
    dead(engine, 1)
    locked = plan(engine, "mail_send", 1)
    with transaction(engine) as tx:
        at = {"id": locked[0], "at": utc_now() - timedelta(hours=1)}
        tx.execute(text("update work_queue set locked_at = :at, locked_by = 'w' where id = :id"), at)
    run_celery(pause, "-Q", "email", "-f")

    result = run_celery(command, *line.split(), *form, answer=Script())

    assert result.exit_code == 2, result.output
    assert "nothing was changed: add -f to act without a question. The question is: " in result.stderr
    assert statuses(engine) == {"dead": 1, "pending": 1}


def test_purge_without_a_terminal_ends_with_2_and_names_the_option(environment: dict[str, str]) -> None:
    reader, writer = os.pipe()  # a script whose input has no end
    line = [str(BIN / "celery"), "-A", "tasks", "purge"]
    done = subprocess.run(line, stdin=reader, capture_output=True, text=True, check=False, timeout=60)
    os.close(writer)
    os.close(reader)

    assert done.returncode == 2, done.stderr
    assert "nothing was changed: add -f" in done.stderr
