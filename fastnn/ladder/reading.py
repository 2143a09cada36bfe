"""A summary of the results in sentences: what each rung gains, and what limits each shape."""

from collections.abc import Mapping
from typing import Any

from fastnn.kernels.tile import TILE_ROWS
from fastnn.ladder.measure import Cell, Results, count, name_of
from fastnn.ladder.rungs import LADDER

_NEAR = 0.05
"""Relative differences of speed below this one are noise."""
_USUAL_SHARE = 0.8
"""Share of the single-core peak that each of several cores reaches if nothing else runs."""


def _speeds(cell: Cell) -> dict[str, float]:
    """Return the GFLOP/s of the rungs that were measured in a cell, by their names."""
    return {name: found["gflops"] for name, found in cell["rungs"].items() if "gflops" in found}


def _is_square(cell: Cell) -> bool:
    return len(set(cell["shape"])) == 1


def _best_loop(speeds: Mapping[str, float]) -> str | None:
    """Return the name of the fastest loop that computes only the product; None if there is none."""
    loops = [rung.name for rung in LADDER if rung.name in speeds and not rung.fused]
    return max(loops, key=speeds.__getitem__, default=None)


def times(ratio: float) -> str:
    """Return a ratio of speeds as text.

    Examples
    --------
    >>> from fastnn.ladder.reading import times
    >>> times(0.523), times(3.14159), times(1234.5)
    ('0.52 times', '3.1 times', '1,200 times')
    """
    if ratio >= 100:
        digits = len(str(int(ratio))) - 2
        return f"{round(ratio, -digits):,.0f} times"
    return f"{ratio:.2f} times" if ratio < 2 else f"{ratio:.2g} times"


def percent(part: float) -> str:
    """Return a fraction in percent, with one digit more below 10 %.

    Examples
    --------
    >>> from fastnn.ladder.reading import percent
    >>> percent(0.876), percent(0.0123)
    ('88 %', '1.2 %')
    """
    return f"{100 * part:.0f} %" if part >= 0.1 else f"{100 * part:.2g} %"


def main_cell(cells: list[Cell]) -> Cell | None:
    """Return the cell for which each step of the ladder is reported; None if there is none.

    Of the first dtype and number of threads, it is the cell with the most rungs; among these,
    square ones take precedence, then larger ones.
    """
    first = [c for c in cells if (c["dtype"], c["threads"]) == _first_kind(cells) and _speeds(c)]

    def rank(cell: Cell) -> tuple[int, bool, int]:
        n_compiled = len(_speeds(cell).keys() - {"python"})
        return n_compiled, _is_square(cell), cell["shape"][0] * cell["shape"][1] * cell["shape"][2]

    return max(first, key=rank, default=None)


def _first_kind(cells: list[Cell]) -> tuple[str, int]:
    """Return dtype and number of threads of the first cell."""
    return cells[0]["dtype"], cells[0]["threads"]


def steps(cell: Cell) -> list[str]:
    """Return a line for each rung of a cell: its speed, relative to the best rung before it.

    Parameters
    ----------
    cell : dict
        Results of a cell, an entry of "cells" of `fastnn.ladder.measure.climb`.
    """
    speeds = _speeds(cell)
    lines: list[str] = []
    best: float | None = None
    best_title = ""
    for rung in LADDER:
        speed = speeds.get(rung.name)
        if speed is None or rung.fused:
            continue
        if rung.name == "parallel" and cell["threads"] == 1:
            continue  # on one thread it is the loop ikj
        if best is None:
            lines.append(f"{rung.title}: {speed:.3g} GFLOP/s")
        elif speed > best * (1 + _NEAR):
            lines.append(
                f"{rung.title}: {speed:.3g} GFLOP/s, {times(speed / best)} as fast as "
                f"{best_title}: {rung.gain}"
            )
        elif speed >= best * (1 - _NEAR):
            lines.append(f"{rung.title}: {speed:.3g} GFLOP/s, as fast as {best_title}")
        else:
            lines.append(
                f"{rung.title}: {speed:.3g} GFLOP/s, only {times(speed / best)} as fast as "
                f"{best_title}: this shape does not need it"
            )
        if best is None or speed > best:
            best, best_title = speed, rung.title
    return lines


def _distance(cell: Cell) -> list[str]:
    """Return lines that compare the best loop of a cell with BLAS and with the bound."""
    speeds = _speeds(cell)
    best = _best_loop(speeds)
    if best is None or "blas" not in speeds:
        return []
    titles = {rung.name: rung.title for rung in LADDER}
    bound = cell["bound"]["gflops"]
    lines = [
        f"The best of our loops, {titles[best]}, runs at {speeds[best]:.3g} GFLOP/s: "
        f"{times(speeds[best] / speeds['blas'])} as fast as BLAS ({speeds['blas']:.3g}), and "
        f"{percent(speeds[best] / bound)} of what the machine can do ({bound:.3g})."
    ]
    if "ijk" in speeds and best != "ijk":
        lines.append(
            f"BLAS is {times(speeds['blas'] / speeds['ijk'])} as fast as the naive loop, the best "
            f"of our loops {times(speeds[best] / speeds['ijk'])}."
        )
    return lines


def _shape_line(cell: Cell) -> str | None:
    """Return a line about what limits a shape, and the shares that loops and BLAS reach."""
    speeds, bound = _speeds(cell), cell["bound"]
    best = _best_loop(speeds)
    if best is None:
        return None
    if bound["limit"] == "arithmetic":
        why = f"bound by arithmetic, at most {bound['gflops']:.3g} GFLOP/s"
    else:
        level = (
            "memory" if bound["limit"] == "memory" else f"memory (here the {bound['limit']} cache)"
        )
        why = (
            f"bound by {level}: {bound['flops_per_byte']:.2g} FLOPs per byte, "
            f"so at most {bound['gflops']:.3g} GFLOP/s"
        )
    part = percent(speeds[best] / bound["gflops"])
    line = f"{name_of(cell['shape'])}: {why}; the best loop reaches {part}"
    if "blas" in speeds:
        line += f" of it, BLAS {percent(speeds['blas'] / bound['gflops'])}"
    if "fused" in speeds and "blas_fused" in speeds:
        ratio = speeds["fused"] / speeds["blas_fused"]
        line += f"; with bias and ReLU the fused loop is {times(ratio)} as fast as NumPy"
        if cell["shape"][0] < TILE_ROWS and ratio < 1:
            line += ", because packing w takes long for so few rows"
    return f"{line}."


def _scaling(cells: list[Cell], cell: Cell) -> list[str]:
    """Return lines about the gain by more threads for the shape and dtype of a cell."""
    same = [c for c in cells if (c["shape"], c["dtype"]) == (cell["shape"], cell["dtype"])]
    most = max(same, key=lambda c: c["threads"])
    if most["threads"] == cell["threads"]:
        return []
    one, many = _speeds(cell), _speeds(most)
    parts = [
        f"{title} {times(many[name] / one[name])}"
        for name, title in (
            ("parallel", "parallel=True"),
            ("packed", "fastnn.matmul"),
            ("blas", "BLAS"),
        )
        if name in one and name in many
    ]
    if not parts:
        return []
    lines = [f"Speed of {count(most['threads'])} relative to one: {', '.join(parts)}."]
    if any(many[name] < one[name] for name in one.keys() & many.keys()):
        lines.append(
            "A value below one means that threads waited for a core that was in use, or that the "
            "product is too small for several threads."
        )
    return lines


def environment_lines(found: Mapping[str, Mapping[str, str]]) -> list[str]:
    """Return a caution for each library whose speed environment variables decide.

    Parameters
    ----------
    found : dict
        Result of `fastnn.ladder.measure.environment`.

    Examples
    --------
    >>> from fastnn.ladder.reading import environment_lines
    >>> (line,) = environment_lines({"blas": {"OPENBLAS_CORETYPE": "Prescott"}})
    >>> line.partition(";")[0]  # doctest: +NORMALIZE_WHITESPACE
    'The environment, not the CPU, chooses the loops of BLAS (OPENBLAS_CORETYPE=Prescott), which may
    be slower than they could be'
    """
    titles = {"blas": "the loops of BLAS", "loops": "the instructions of our loops"}
    lines = []
    for name, title in titles.items():
        settings = [f"{variable}={value}" for variable, value in found.get(name, {}).items()]
        if settings:
            them = "it" if len(settings) == 1 else "them"
            lines.append(
                f"The environment, not the CPU, chooses {title} ({', '.join(settings)}), which may "
                f"be slower than they could be; unset {them} for a fair comparison."
            )
    return lines


def _cautions(machine: Mapping[str, Any]) -> list[str]:
    """Return warnings if something slows a library, or seems to use the cores."""
    roofline, lines = machine["roofline"], environment_lines(machine.get("environment", {}))
    if "1" not in roofline:
        return lines
    one = roofline["1"]["peak_gflops"]
    for n, roof in roofline.items():
        ratios = [roof["peak_gflops"][dtype] / one[dtype] for dtype in one]
        if max(ratios) < _USUAL_SHARE * int(n):
            lines.append(
                f"{n} threads together reach only {times(max(ratios))} the peak of one: either "
                "they share the execution units of a core, or something else is running. The "
                f"results for {n} threads are unreliable."
            )
    return lines


def read(results: Results) -> list[tuple[str, list[str]]]:
    """Return a summary of the results.

    Parameters
    ----------
    results : dict
        Result of `fastnn.ladder.measure.climb`.

    Returns
    -------
    list of (str, list of str)
        Headings, each with its lines; empty if nothing was measured.
    """
    cells = results["cells"]
    cell = main_cell(cells)
    if cell is None:
        return []
    sections = [("Caution", _cautions(results["machine"]))]
    where = f"{name_of(cell['shape'])}, {cell['dtype']}, {count(cell['threads'])}"
    sections.append((f"Step by step ({where})", steps(cell)))
    sections.append(("How far from BLAS", _distance(cell) + _scaling(cells, cell)))
    same = [c for c in cells if (c["dtype"], c["threads"]) == (cell["dtype"], cell["threads"])]
    # Of the square shapes, only the smallest and the largest are reported.
    squares = [c for c in same if _is_square(c)]
    chosen = [c for c in same if not _is_square(c)] + [
        *squares[:1],
        *squares[-1:][: len(squares) - 1],
    ]
    lines = [line for line in map(_shape_line, chosen) if line]
    sections.append((f"What bounds a shape ({cell['dtype']}, {count(cell['threads'])})", lines))
    return [(heading, lines) for heading, lines in sections if lines]
