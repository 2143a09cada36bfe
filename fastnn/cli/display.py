"""Output of the commands: tables and lines in the terminal, results as JSON files."""

import contextlib
import json
import math
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import rich.box
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from fastnn.cli.streams import is_stream
from fastnn.files.atomic_write import write_atomically


def new_table(*columns: str) -> Table:
    """Return an empty table: a column of labels, then one for each of `columns`."""
    table = Table(box=rich.box.SIMPLE_HEAD, show_header=any(columns), pad_edge=False)
    table.add_column("", style="bold", no_wrap=True)
    for name in columns or ("",):
        table.add_column(name, justify="right" if columns else "left", overflow="fold")
    return table


_only_results = False


@contextlib.contextmanager
def only_results_on_stdout(wanted: bool) -> Iterator[None]:
    """Let `show` print on the error stream: standard output is for results as JSON."""
    global _only_results
    _only_results = wanted
    try:
        yield
    finally:
        _only_results = False


def show(*things: Table | str, stderr: bool = False) -> None:
    """Print tables, and text without interpreting markup in it."""
    console = Console(stderr=stderr or _only_results)
    for thing in things:
        plain = isinstance(thing, str)
        console.print(thing, markup=not plain, highlight=not plain, soft_wrap=plain)


def warn(message: str) -> None:
    """Print a warning as one line on the error stream."""
    print(f"fastnn: warning: {' '.join(message.split())}", file=sys.stderr)


def seconds(value: float) -> str:
    """Return a duration with three digits and a unit.

    Examples
    --------
    >>> from fastnn.cli.display import seconds
    >>> seconds(0.01234), seconds(1.234), seconds(125.0)
    ('12.3 ms', '1.23 s', '125 s')
    """
    if value < 1:
        return f"{1000 * value:.3g} ms"
    return f"{value:.3g} s" if value < 1000 else f"{value:.0f} s"


def write_json(path: Path | None, results: Mapping[str, Any]) -> None:
    """Write results to a JSON file, unless the path is None; NaN and infinities become null.

    The path ``-`` is standard output.
    """
    if path is not None:
        write_text(path, json.dumps(_finite(results), indent=2, allow_nan=False) + "\n")


def write_text(path: Path | None, text: str) -> None:
    """Write text to a file, or to standard output for ``-`` and None."""
    if path is None or is_stream(path):
        sys.stdout.write(text)
        sys.stdout.flush()
    else:
        write_atomically(path, text.encode())


def _finite(value: Any) -> Any:
    """Return results with None in place of NaN and infinities, which JSON cannot represent."""
    if isinstance(value, dict):
        return {name: _finite(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


class progress:  # noqa: N801
    """Context manager that shows a progress bar on the error stream.

    It returns a function that updates the bar: (steps done, total steps, current step).
    """

    def __init__(self) -> None:
        self._bar = Progress(
            TextColumn("{task.percentage:>3.0f} %"),
            BarColumn(30),
            TimeElapsedColumn(),
            TextColumn("{task.description}"),
            console=Console(stderr=True),
            transient=True,
            # A refresh thread would take time from the threads that are measured.
            auto_refresh=False,
            disable=not sys.stderr.isatty(),
        )

    def __enter__(self) -> Callable[[int, int, str], None]:
        self._bar.start()
        task = self._bar.add_task("", total=1)

        def report_progress(done: int, total: int, doing: str) -> None:
            self._bar.update(task, completed=done, total=total, description=doing, refresh=True)

        return report_progress

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()
