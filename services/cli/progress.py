"""Progress of the reading of a shop's lists: bars on a terminal, else a plain line at times, on stderr."""

import sys
import time
from collections import Counter
from types import TracebackType
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rich.progress import TaskID

LINE_EVERY_SECONDS = 10.0

_LABELS = {
    "products": "products",
    "inventory_items": "inventory items",
    "levels": "stock levels",
    "open_orders": "older open orders",
    "fulfillment_orders": "fulfilment orders",
}


class ListProgress:
    """Shows how many objects of each list are read; the numbers of one label are summed."""

    def __init__(self) -> None:
        self._done: Counter[str] = Counter()
        self._totals: dict[str, int] = {}
        self._label = ""
        self._printed_at = 0.0
        self._printed: dict[str, int] = {}
        self._tasks: dict[str, TaskID] = {}
        self._bars = None
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

            self._bars = Progress(
                TextColumn("{task.description:<28}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                console=Console(stderr=True, highlight=False),
            )

    def __enter__(self) -> "ListProgress":
        if self._bars is not None:
            self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bars is not None:
            self._bars.stop()
        elif self._label:
            self._print_line()

    def __call__(self, name: str, done: int, total: int | None) -> None:
        """Show that ``done`` objects of the list ``name`` are read."""
        self._done[name] = done
        label = _label_of(name)
        if total is not None:
            self._totals[label] = total
        if self._bars is not None:
            if label not in self._tasks:
                self._tasks[label] = self._bars.add_task(label, total=None)
            known, shown = self._totals.get(label), self._sum(label)
            self._bars.update(self._tasks[label], completed=shown, total=known and max(known, shown))
            return
        is_due = time.monotonic() >= self._printed_at + LINE_EVERY_SECONDS
        if self._label and (label != self._label or is_due):
            self._print_line()
        self._label = label

    def _sum(self, label: str) -> int:
        return sum(count for name, count in self._done.items() if _label_of(name) == label)

    def note(self, text: str) -> None:
        """Print ``text`` on a line of its own, above the bars."""
        self._bars.console.print(text, markup=False) if self._bars else click.echo(text, err=True)

    def _print_line(self) -> None:
        """Print the sum of the current label unless it was printed already, or has not begun."""
        total, done = self._totals.get(self._label), self._sum(self._label)
        if self._printed.get(self._label, 0 if total else -1) != done:
            self._printed[self._label] = done
            click.echo(f"{self._label}: {done:,}{f' of {total:,}' if total else ''}", err=True)
            self._printed_at = time.monotonic()


def _label_of(name: str) -> str:
    """Return the label of a list; a list per location counts as one."""
    kind = name.removeprefix("catalogue:").partition(":")[0]
    return _LABELS.get(kind, kind.replace("_", " "))
