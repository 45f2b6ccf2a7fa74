"""The demo's output: a progress bar, a table of results, the checks, and addresses."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from shlex import quote

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table
from rich.text import Text

from services.core.counts import format_count
from services.core.ports import LOOPBACK
from services.demo.checks import Check, list_counts
from services.demo.figures import Figures, SandboxFigures
from services.demo.sender import Answers
from services.demo.viewer import DemoViewer


def make_console() -> Console:
    """Return the console: as wide as the terminal; 110 characters in a log."""
    return Console(width=None if sys.stdout.isatty() else 110, highlight=False, emoji=False)


class Stage(Progress):
    """The progress bar, removed at the end. ``say`` prints a line above it, ``go`` and ``step`` move it.

    The spinner and the time move while a step runs: the bar of a finished task would stand still.
    """

    def __init__(self, console: Console) -> None:
        columns = (
            SpinnerColumn(), TextColumn("{task.description:<36}"), BarColumn(), MofNCompleteColumn(),
            TimeElapsedColumn(),
        )  # fmt: skip
        super().__init__(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._task = self.add_task("starting", total=None)
        self._steps = 0

    def say(self, line: str) -> None:
        self.console.print(Text(f"  {line}"))

    def begin(self, what: str, total: int | None = None) -> None:
        """Show ``what`` from now on, with a bar up to ``total``; None: without an end."""
        self.reset(self._task, description=what, total=total, completed=0)
        self._steps = 0

    def go(self, done: int) -> None:
        self.update(self._task, completed=done)

    def step(self, what: str) -> None:
        """Show ``what`` as the next of the steps of ``begin``, which has begun: those before it are done."""
        self.update(self._task, description=what, completed=self._steps)
        self._steps += 1


def print_table(console: Console, answers: Answers, figures: Figures, outside: SandboxFigures) -> None:
    counts, account = figures.counts, figures.account
    names = {"throttled": "throttled", "failed_503": "failed", "dropped": "unanswered"}
    faults = [(label, outside.answers[name]) for name, label in names.items() if outside.answers[name]]
    rows: list[tuple[str, int, str]] = [
        ("received", answers.posts, f"{answers.tried_again} sent again after no or a 5xx answer"),
        ("accepted", len(answers.ids), ""),
        ("duplicate", answers.duplicates, "recognized, nothing done twice"),
        ("refused", answers.refused.total(), list_counts(sorted(answers.refused.items()))),
        ("done", account.get("done", 0),
         f"events; {format_count(counts['work_done'], 'item of work')}, with those of backfill and jobs, "
         f"{counts['work_stale']} of them stale"),
        ("retried", counts["work_retried"], f"items, {format_count(counts['failed_tries'], 'failed try')}"),
        ("sent again", counts["sent_again"], "items whose message was lost or late, by the sweep"),
        ("backfilled", counts["backfilled"], "events from the providers' lists: lost, or sent by no webhook"),
        ("dead", account.get("dead", 0), list_counts(figures.dead.items())),
        ("waiting", account.get("waiting", 0), ""),
        ("orders", counts["orders"], ""),
        ("transactions", counts["transactions"], ""),
        ("pushes", counts["pushes"], list_counts(faults)),
        ("breaks open", len(figures.breaks), ", ".join(sorted(f"{b[0]} {b[1]}" for b in figures.breaks))),
        ("mails", figures.mail_files, list_counts(figures.mails.items())),
    ]  # fmt: skip
    table = Table(title="What happened", box=None, title_justify="left", pad_edge=False, show_header=False)
    table.add_column("")
    table.add_column("", justify="right")
    table.add_column("", overflow="fold")
    for name, count, note in rows:
        table.add_row(name, str(count), Text(note, style="dim"))
    console.print(table)


def print_incidents(console: Console, figures: Figures) -> None:
    table = Table(title="\nIncidents of the day", box=None, title_justify="left", pad_edge=False)
    for name in ("", "rule", "status", "shops and what was found"):
        table.add_column(name, overflow="fold")
    for one in figures.incidents:
        found = Text.assemble(f"{one.shops}: ", (one.summary, "dim"))
        table.add_row(one.severity, one.rule, one.status, found)
    console.print(table)


def print_checks(console: Console, checks: Sequence[Check]) -> None:
    """Print each check with its observed state and, if it does not hold, where to find more."""
    table = Table(title="\nChecks", box=None, title_justify="left", pad_edge=False, show_header=False)
    for check in checks:
        mark = Text("holds", style="green") if check.holds else Text("FAILS", style="bold red")
        seen = check.seen if check.holds else f"{check.seen}\nlook at: {check.look}"
        table.add_row(mark, check.name, Text(seen, overflow="fold"))
    console.print(table)
    held = sum(check.holds for check in checks)
    console.print(f"\n{held} of {format_count(len(checks), 'check')} hold.")


def print_next(console: Console, values: dict[str, str], home: Path, log: Path, viewer: DemoViewer) -> None:
    """Print where to sign in and as whom, the pages and addresses, and commands."""
    user, _, password = values["FLOWER_BASIC_AUTH"].partition(":")
    base = f"http://{LOOPBACK}"
    pages = f"http://localhost:{values['CONSOLE_PORT']}"  # browsers allow passkeys on localhost alone
    console.print(Text.assemble(("\nLook", "bold")))
    for label, where in (
        ("sign in", f"{pages}/sign-in   email {viewer.email}, password {viewer.password}"),
        ("scan", f"{pages}/   each shop in a line"),
        ("work", f"{pages}/work?status=dead   what failed, and why"),
        ("incidents", f"{pages}/incidents   the incidents of the day"),
        ("queues", f"{pages}/queues"),
        ("reports", f"{pages}/reports   the weekly payroll report of harbour"),
        ("letters", f"{pages}/letters   the weekly letters to the owners: one mailed, the others drafts"),
        ("Flower", f"{base}:{values['FLOWER_PORT']}/   user {user}, password {password}"),
        ("health", f"{base}:{values['INGRESS_PORT']}/health"),
        ("log", log),
    ):
        console.print(Text(f"  {label:<9} {where}"), soft_wrap=True)
    console.print(Text.assemble(("\nTry, in another terminal", "bold")))
    bin_folder = quote(_shown(Path(sys.executable).parent))
    for command in (
        f'eval "$(FLEET_HOME={quote(_shown(home))} {bin_folder}/fleet env)"',
        f"{bin_folder}/celery -A tasks backlog",
        f"{bin_folder}/fleet work list --status dead",
        f"{bin_folder}/fleet send shopify --shop harbour --topic orders/create --repeat 5",
        f"{bin_folder}/celery -A tasks requeue --status dead --dry-run",
    ):
        console.print(Text(f"  {command}"), soft_wrap=True)


def _shown(path: Path) -> str:
    """Return ``path``, relative to the current folder if it is below it."""
    here = Path(os.environ.get("PWD") or Path.cwd())
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)
