"""What the figures mean, in a few sentences: what each rung gained, and what bounds each shape."""

from fastnn.kernels.tile import TILE_ROWS
from fastnn.ladder.measure import count, name_of
from fastnn.ladder.rungs import LADDER

_NEAR = 0.05
"""Rungs are told apart from here on: a twentieth is noise."""
_USUAL_SHARE = 0.8
"""Of the peak of one core, what each of several reaches at least if nothing else runs."""


def _speeds(cell):
    """Return the GFLOP/s of what was measured in a cell, by the rungs' names."""
    return {name: found["gflops"] for name, found in cell["rungs"].items() if "gflops" in found}


def _is_square(cell):
    return len(set(cell["shape"])) == 1


def _best_loop(speeds):
    """Name of the fastest loop that computes the product alone; None if there is none."""
    loops = [rung.name for rung in LADDER if rung.name in speeds and not rung.fused]
    return max(loops, key=speeds.get, default=None)


def times(ratio):
    """Return how many times as fast something is.

    Examples
    --------
    >>> times(0.523), times(3.14159), times(1234.5)
    ('0.52 times', '3.1 times', '1,200 times')
    """
    if ratio >= 100:
        digits = len(str(int(ratio))) - 2
        return f"{round(ratio, -digits):,.0f} times"
    return f"{ratio:.2f} times" if ratio < 2 else f"{ratio:.2g} times"


def percent(part):
    """Return a part as percent; one digit more below ten.

    Examples
    --------
    >>> percent(0.876), percent(0.0123)
    ('88 %', '1.2 %')
    """
    return f"{100 * part:.0f} %" if part >= 0.1 else f"{100 * part:.2g} %"


def main_cell(cells):
    """Return the cell that the steps are told of, or None where nothing was measured.

    That of the first dtype on one thread with the most rungs: of those the largest product,
    square if there is one.
    """
    first = [c for c in cells if (c["dtype"], c["threads"]) == _first_kind(cells) and _speeds(c)]

    def rank(cell):
        n_compiled = len(_speeds(cell).keys() - {"python"})
        return n_compiled, _is_square(cell), cell["shape"][0] * cell["shape"][1] * cell["shape"][2]

    return max(first, key=rank, default=None)


def _first_kind(cells):
    return cells[0]["dtype"], cells[0]["threads"]


def steps(cell):
    """Return lines about a cell: what each rung gained over the best before it.

    Parallel loops have one thread there, if the cell has one.
    """
    speeds = _speeds(cell)
    lines, best, best_title = [], None, ""
    for rung in LADDER:
        speed = speeds.get(rung.name)
        if speed is None or rung.fused:
            continue
        if rung.name == "parallel" and cell["threads"] == 1:
            continue  # the loop ikj again
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


def _distance(cell):
    """Say how far the loops of a cell are from BLAS and from the bound."""
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


def _shape_line(cell):
    """Say what bounds a shape, and how near the loops and BLAS come to it."""
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
            f"bound by {level}: {bound['flops_per_byte']:.2g} FLOPs for each byte it must read, "
            f"so at most {bound['gflops']:.3g} GFLOP/s"
        )
    part = percent(speeds[best] / bound["gflops"])
    line = f"{name_of(cell['shape'])}: {why}; the best loop has {part}"
    if "blas" in speeds:
        line += f" of it, BLAS {percent(speeds['blas'] / bound['gflops'])}"
    if "fused" in speeds and "blas_fused" in speeds:
        ratio = speeds["fused"] / speeds["blas_fused"]
        line += f"; with bias and ReLU the fused loop is {times(ratio)} as fast as NumPy"
        if cell["shape"][0] < TILE_ROWS and ratio < 1:
            line += ", because it packs w for so few rows"
    return f"{line}."


def _scaling(cells, cell):
    """Say what more threads gain for the shape and dtype of a cell."""
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
    lines = [f"{count(most['threads'])} are so much faster than one: {', '.join(parts)}."]
    if any(many[name] < one[name] for name in one.keys() & many.keys()):
        lines.append(
            "Less than one means that threads waited for a core that something else was using, or "
            "that the product is too small to be shared out."
        )
    return lines


def _cautions(roofline):
    """Say so if something else seems to use the cores."""
    if "1" not in roofline:
        return []
    one = roofline["1"]["peak_gflops"]
    lines = []
    for n, roof in roofline.items():
        ratios = [roof["peak_gflops"][dtype] / one[dtype] for dtype in one]
        if max(ratios) < _USUAL_SHARE * int(n):
            lines.append(
                f"{n} threads together reach only {times(max(ratios))} the peak of one: their "
                "cores share what they compute with, or something else is running. Figures for "
                f"{n} threads may mean little."
            )
    return lines


def read(results):
    """Return what the results say.

    Parameters
    ----------
    results : dict
        What `fastnn.ladder.measure.climb` returned.

    Returns
    -------
    list of (str, list of str)
        Headings, each with its lines.
    """
    cells = results["cells"]
    cell = main_cell(cells)
    if cell is None:
        return []
    said = [("Caution", _cautions(results["machine"]["roofline"]))]
    where = f"{name_of(cell['shape'])}, {cell['dtype']}, {count(cell['threads'])}"
    said.append((f"Step by step ({where})", steps(cell)))
    said.append(("How far from BLAS", _distance(cell) + _scaling(cells, cell)))
    same = [c for c in cells if (c["dtype"], c["threads"]) == (cell["dtype"], cell["threads"])]
    # Of the squares the smallest and the largest say it all.
    squares = [c for c in same if _is_square(c)]
    chosen = [c for c in same if not _is_square(c)] + [
        *squares[:1],
        *squares[-1:][: len(squares) - 1],
    ]
    lines = [line for line in map(_shape_line, chosen) if line]
    said.append((f"What bounds a shape ({cell['dtype']}, {count(cell['threads'])})", lines))
    return [(heading, lines) for heading, lines in said if lines]
