"""``fastnn bench``: compare loops with BLAS, and training with other libraries."""

import dataclasses
import importlib.util
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from fastnn.cli import checks, display
from fastnn.errors import require
from fastnn.files.atomic_write import write_atomically
from fastnn.inspection.plots import SUFFIXES
from fastnn.ladder import measure, reading, report
from fastnn.ladder.rungs import Rung, serial
from fastnn.runtime import threads

_DTYPES = ("float32", "float64")
_MOST_SIZE = 16384


@dataclasses.dataclass(frozen=True)
class BenchSettings:
    """The options of ``fastnn bench``, by the names that its help explains."""

    fit: bool
    quick: bool
    sizes: str | None
    shapes: str | None
    dtype: str
    threads: str | None
    loop: str | None
    plot: Path | None
    lines: str
    html: Path | None
    json: Path | None
    force: bool

    @property
    def dtypes(self) -> tuple[str, ...]:
        """Names of the dtypes to measure."""
        return _DTYPES if self.dtype == "all" else (self.dtype,)

    @property
    def thread_counts(self) -> tuple[int, ...]:
        """Numbers of threads to measure, in ascending order."""
        if self.threads is None:
            counts = measure.thread_counts()
            return (counts[0], counts[-1])[: len(counts)] if self.quick or self.fit else counts
        given = _integers("--threads", self.threads, "such as 1,2")
        with checks.named_as_option():
            return tuple(sorted({threads.check_num_threads(n) for n in given}))

    @property
    def all_shapes(self) -> tuple[measure.Shape, ...]:
        """Shapes (B, I, O) to measure: square matrices first."""
        sizes: Sequence[int] = measure.QUICK_SIZES if self.quick else measure.SIZES
        if self.sizes is not None:
            sizes = _integers("--sizes", self.sizes, "such as 64,256")
        shapes: Sequence[measure.Shape] = measure.SHAPES
        if self.shapes is not None:
            shapes = [_shape(part) for part in self.shapes.split(",") if part]
        elif self.sizes is not None:
            shapes = []
        for option, given, numbers in (
            ("--sizes", self.sizes, sizes),
            ("--shapes", self.shapes, [n for shape in shapes for n in shape]),
        ):
            if any(not 1 <= n <= _MOST_SIZE for n in numbers):
                example = "64,256" if option == "--sizes" else "128x784x128,1x784x128"
                raise checks.UsageError(
                    f"{option} must be such as {example}, each number from 1 to {_MOST_SIZE}, "
                    f"got {given!r}"
                )
        squares = [measure.square(n) for n in sorted(set(sizes))]
        if not squares and not shapes:
            raise checks.UsageError("--sizes and --shapes name nothing to measure")
        return tuple(dict.fromkeys([*squares, *shapes]))

    def check(self) -> None:
        """Check all options before any work begins.

        Raises
        ------
        UsageError
            If an option cannot be used.
        MissingExtraError
            If a package that the options need is not installed.
        """
        checks.check_choice("--dtype", self.dtype, (*_DTYPES, "all"))
        checks.check_choice("--lines", self.lines, ("few", "all"))
        _ = self.thread_counts, self.all_shapes
        if self.plot is not None and self.plot.suffix.lower() not in SUFFIXES:
            raise checks.UsageError(
                f"--plot must end in {', '.join(SUFFIXES)}, got {str(self.plot)!r}"
            )
        if self.fit and (self.sizes or self.shapes or self.loop or self.plot or self.html):
            raise checks.UsageError(
                "--fit measures training: it takes no --sizes, --shapes, --loop, --plot or --html"
            )
        checks.check_outputs(
            {"--plot": self.plot, "--html": self.html, "--json": self.json}, {}, self.force
        )
        error = threads.layer_error()
        if error:
            raise checks.UsageError(f"bench runs parallel loops, and {error}")
        require("threadpoolctl", "cli")
        if self.plot is not None or self.html is not None:
            require("matplotlib", "plot")


def _integers(option: str, text: str, example: str) -> list[int]:
    """Return the integers of a list separated by commas, or raise `UsageError`."""
    try:
        return [int(part) for part in text.split(",") if part.strip()]
    except ValueError:
        raise checks.UsageError(f"{option} must be integers {example}, got {text!r}") from None


def _shape(text: str) -> measure.Shape:
    """Return the shape (B, I, O) of a text such as 128x784x128; zeros if it is malformed."""
    found = re.fullmatch(r"(\d+)x(\d+)x(\d+)", text.strip())
    return (int(found[1]), int(found[2]), int(found[3])) if found else (0, 0, 0)


def bench_command(settings: BenchSettings) -> None:
    """Run ``fastnn bench``.

    Parameters
    ----------
    settings : BenchSettings
        The options.

    Raises
    ------
    UsageError
        If an option cannot be used.
    WrongRungError
        If a loop computes a wrong product, or a library trains another network.
    """
    settings.check()
    if settings.fit:
        _fit(settings)
        return
    rungs = measure.Plan.rungs
    if settings.loop is not None:
        rungs = (*measure.LADDER, load_loop(settings.loop), measure.BLAS, measure.BLAS_FUSED)
    plan = measure.Plan(
        settings.all_shapes,
        settings.dtypes,
        settings.thread_counts,
        measure.QUICK if settings.quick else measure.Effort(),
        rungs,
    )
    with display.progress() as progress:
        results: dict[str, Any] = {"command": "bench", **measure.climb(plan, progress)}
    results["reading"] = [
        {"heading": heading, "lines": lines} for heading, lines in reading.read(results)
    ]
    display.show(*report.machine_lines(results), "")
    _show_tables(report.tables(results))
    display.show(
        f"Compiling or loading the loops took {display.seconds(results['compile_seconds'])}, "
        f"measuring {display.seconds(results['seconds'])}. Each loop was right before it was timed."
    )
    for part in results["reading"]:
        display.show("", part["heading"], *(f"  - {line}" for line in part["lines"]))
    display.write_json(settings.json, results)
    if settings.plot is not None:
        image = report.plot(results, settings.plot.suffix[1:].lower(), settings.lines == "all")
        write_atomically(settings.plot, image)
        display.show("", f"figure drawn in {settings.plot}")
    if settings.html is not None:
        write_atomically(settings.html, report.page(results, settings.lines == "all").encode())
        display.show("", f"report written to {settings.html}")


def _fit(settings: BenchSettings) -> None:
    """Run ``fastnn bench --fit``."""
    from fastnn.ladder import fitting

    with display.progress() as progress:
        results: dict[str, Any] = {
            "command": "bench",
            **fitting.compete(
                settings.dtypes[0], settings.thread_counts, quick=settings.quick, progress=progress
            ),
        }
    _show_tables(fitting.tables(results))
    for line in results["reading"]:
        display.show(line)
    display.write_json(settings.json, results)


def _show_tables(tables: Iterable[Table]) -> None:
    """Print tables at their full width: in a narrow terminal rich would drop columns."""
    for table in tables:
        width = max(Console().width, Console(width=1000).measure(table).maximum)
        Console(width=width).print(table)


def load_loop(argument: str) -> Rung:
    """Return a user's loop as a rung.

    Parameters
    ----------
    argument : str
        FILE.py:NAME, the name of a function (x, w, out) that overwrites out with x @ w.

    Raises
    ------
    UsageError
        If the file cannot be loaded, or has no such function.
    """
    path, _, name = argument.rpartition(":")
    if not path or not name:
        raise checks.UsageError(f"--loop must be such as mine.py:product, got {argument!r}")
    if not Path(path).is_file():
        raise checks.UsageError(f"--loop {path}: no such file")
    spec = importlib.util.spec_from_file_location("fastnn_bench_loop", path)
    if spec is None or spec.loader is None:
        raise checks.UsageError(f"--loop {path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        function = getattr(module, name)
    except AttributeError as error:
        raise checks.UsageError(f"--loop {argument}: {error}") from error
    except Exception as error:
        raise checks.UsageError(
            f"--loop {path} cannot be loaded: {type(error).__name__}: {error}"
        ) from error
    if not callable(function):
        raise checks.UsageError(f"--loop {argument}: {name} is not a function")
    return Rung("own", f"yours: {name}", "", "", serial(function), threaded=True, pool="own")
