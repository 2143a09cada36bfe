"""What the commands print: tables of figures, files of figures."""

import json
import math
import sys
from pathlib import Path

import rich.box
from rich.console import Console
from rich.table import Table

from fastnn.files.atomic_write import write_atomically


def new_table(*columns: str) -> Table:
    """Return an empty table: a column of names, then columns of figures."""
    table = Table(box=rich.box.SIMPLE_HEAD, show_header=any(columns), pad_edge=False)
    table.add_column("", style="bold", no_wrap=True)
    for name in columns or ("",):
        table.add_column(name, justify="right" if columns else "left", overflow="fold")
    return table


def show(*things, stderr: bool = False) -> None:
    """Print tables, and text just as it is."""
    console = Console(stderr=stderr)
    for thing in things:
        plain = isinstance(thing, str)
        console.print(thing, markup=not plain, highlight=not plain, soft_wrap=plain)


def warn(message: str) -> None:
    """Print a warning in one line on the error stream."""
    print(f"fastnn: warning: {' '.join(message.split())}", file=sys.stderr)


def seconds(value: float) -> str:
    """Return a duration in three digits and a unit.

    Examples
    --------
    >>> seconds(0.01234), seconds(1.234), seconds(125.0)
    ('12.3 ms', '1.23 s', '125 s')
    """
    if value < 1:
        return f"{1000 * value:.3g} ms"
    return f"{value:.3g} s" if value < 1000 else f"{value:.0f} s"


def write_json(path: Path | None, figures: dict) -> None:
    """Write figures to a file, if there is one to write to; null where a number is not finite."""
    if path is not None:
        text = json.dumps(_finite(figures), indent=2, allow_nan=False)
        write_atomically(path, (text + "\n").encode())


def _finite(value):
    """Return figures with None for NaN and infinities, which JSON does not have."""
    if isinstance(value, dict):
        return {name: _finite(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
