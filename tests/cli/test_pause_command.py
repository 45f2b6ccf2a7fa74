"""``celery -A tasks pause`` names the pause that it replaces."""

import json

import pytest

from tasks.commands import pause
from tests.cli.commands import Typed
from tests.cli.test_celery_commands import harbour, run

__all__ = ["harbour"]


@pytest.mark.usefixtures("harbour")
def test_a_pause_says_which_older_one_of_its_scope_it_replaces() -> None:
    run(pause, "-Q", "inventory", "-f", "--as", "ada", "--reason", "count")
    other = run(pause, "-Q", "inventory", "--shop", "harbour", "-f")
    planned = run(pause, "-Q", "inventory", "--refuse", "--dry-run")
    asked = run(pause, "-Q", "inventory", "--refuse", answer=Typed("n\n"))
    made = json.loads(run(pause, "-Q", "inventory", "--refuse", "-f", "--as", "ben", "--json").stdout)

    assert "replaces" not in other.output
    for shown in (planned.output, asked.output, made["note"]):
        assert ", which replaces the hold of ada since " in shown
        assert "'count'" in shown
    assert {"mode": "hold", "created_by": "ada", "reason": "count"}.items() <= made["replaces"].items()
    assert "the refuse of ben since" in run(pause, "-Q", "inventory", "--dry-run").output
