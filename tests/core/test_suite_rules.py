"""Rules of the suite: no test asserts how long something took, and only the count of files reads frames."""

import ast
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
CLOCKS = {"monotonic", "perf_counter", "process_time", "time"}
SHORT_WAIT = re.compile(r"\.(?:join|result|communicate|wait)\((?:timeout=)?(?:[1-9]|[1-5]\d)\)")
INTERPRETER = {"_current_frames", "_getframe", "f_code", "f_back", "co_name"}


def names_of(node: ast.AST) -> set[str]:
    return {one.attr if isinstance(one, ast.Attribute) else one.id
            for one in ast.walk(node) if isinstance(one, ast.Attribute | ast.Name)}  # fmt: skip


def differences_of_clocks(tree: ast.AST) -> Iterator[ast.BinOp]:
    """Yield each ``time.monotonic() - began``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Sub):
            calls = [one for one in ast.walk(node) if isinstance(one, ast.Call)]
            if any(names_of(call.func) & CLOCKS and "time" in names_of(call.func) for call in calls):
                yield node


def test_no_test_asserts_how_long_something_took() -> None:
    """A bound in seconds is the deadline of a wait: ``wait_for``, ``run_within``."""
    found = [
        f"{path.relative_to(TESTS)}:{node.lineno}"
        for path in sorted(TESTS.rglob("test_*.py"))
        if re.search(rf"time\.({'|'.join(CLOCKS)})\(", text := path.read_text())
        for statement in ast.walk(ast.parse(text))
        if isinstance(statement, ast.Assert | ast.Assign)
        for node in differences_of_clocks(statement)
    ]

    assert found == []


def test_only_the_count_of_files_reads_the_interpreters_frames() -> None:
    found = [
        path.relative_to(TESTS).as_posix()
        for path in sorted(TESTS.rglob("*.py"))
        if any(name in (text := path.read_text()) for name in INTERPRETER)
        and names_of(ast.parse(text)) & INTERPRETER
    ]

    assert found == ["ingress/test_files_for_one_order.py"]


def test_a_wait_for_a_thread_or_a_program_has_a_minute() -> None:
    """Under load a shorter one fails without a fault; ``wait`` of a clock that a test sets is none."""
    found = [
        f"{path.relative_to(TESTS)}: {match[0]}"
        for path in sorted(TESTS.rglob("*.py"))
        for match in SHORT_WAIT.finditer(path.read_text())
        if not match[0].startswith(".wait") or "pool" not in path.name
    ]

    assert found == []


def test_no_test_leaves_settings_of_celery_to_the_next(request: pytest.FixtureRequest) -> None:
    assert "_forget_celery" in request.fixturenames
    assert [name for name in os.environ if name.startswith("CELERY_")] == []
