"""Reports of the results: tables for the terminal, a plot, and an HTML page."""

from __future__ import annotations

import base64
import html
import io
import math
import string
import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import rich.box
from rich.table import Table

from fastnn.errors import require
from fastnn.ladder.measure import Cell, Results, count, name_of
from fastnn.ladder.reading import read
from fastnn.ladder.rungs import BLAS, BLAS_FUSED, LADDER, Rung

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Group: TypeAlias = tuple[str, int]
"""What the cells of a table share: dtype and number of threads."""

# In the order of the rungs, from pale to saturated.
_COLOURS = {
    "python": "#808080",
    "ijk": "#948200",
    "ikj": "#c67512",
    "transposed": "#d2562b",
    "parallel": "#c8385a",
    "blocked": "#8e3b8f",
    "tiled": "#4a56b0",
    "packed": "#1f8a70",
    "fused": "#35a07a",
}
_OWN = "#d40055"  # a loop of the user
_PEAK = "#404040"
# What stands at the end of a line, beside its last speed.
_LABELS = {
    "python": "pure Python",
    "ijk": "naive loop",
    "ikj": "swapped",
    "transposed": "transposed",
    "parallel": "parallel=True",
    "blocked": "blocked",
    "tiled": "tiled",
    "packed": "fastnn.matmul",
    "fused": "bias, ReLU",
    "own": "yours",
    BLAS.name: "NumPy",
    BLAS_FUSED.name: "NumPy, ReLU",
}
_FEW = ("ijk", "ikj", "parallel", "tiled", "packed", "own", BLAS.name)
# A figure fills a phone of 390 points, and its letters are as large there as they are elsewhere.
_WIDTH_INCHES, _PANEL_INCHES, _POINTS, _TITLE_COLUMNS = 3.9, 2.5, 9, 48
_NONE = "-"


def speed(gflops: float) -> str:
    """Return GFLOP/s as text with two or three significant digits.

    Examples
    --------
    >>> from fastnn.ladder.report import speed
    >>> speed(38.456), speed(0.01234), speed(1234.5)
    ('38.5', '0.012', '1,234')
    """
    if gflops >= 1000:
        return f"{gflops:,.0f}"
    return f"{gflops:.3g}" if gflops >= 1 else f"{gflops:.2g}"


def groups(results: Results) -> dict[Group, list[Cell]]:
    """Return the cells of each table, by their dtype and number of threads."""
    found: dict[Group, list[Cell]] = {}
    for cell in results["cells"]:
        found.setdefault((cell["dtype"], cell["threads"]), []).append(cell)
    return found


def rows(results: Results, cells: list[Cell]) -> list[tuple[str, list[str]]]:
    """Return the rows of a table: a title, and the text for each cell.

    The last rows are the speed of fastnn.matmul relative to BLAS, and the roofline.
    """
    found: list[tuple[str, list[str]]] = []
    for name, title in results["titles"].items():
        if any(name in cell["rungs"] for cell in cells):
            texts = []
            for cell in cells:
                gflops = cell["rungs"].get(name, {}).get("gflops")
                texts.append(_NONE if gflops is None else speed(gflops))
            found.append((title, texts))
    if all(
        "gflops" in cell["rungs"].get(name, {}) for name in ("packed", "blas") for cell in cells
    ):
        parts = [
            cell["rungs"]["packed"]["gflops"] / cell["rungs"]["blas"]["gflops"] for cell in cells
        ]
        found.append(("fastnn.matmul / BLAS", [f"{part:.2f}" for part in parts]))
    found.append(("machine: at most", [speed(cell["bound"]["gflops"]) for cell in cells]))
    limits = [cell["bound"]["limit"] for cell in cells]
    found.append(("bound by", ["FMA" if limit == "arithmetic" else limit for limit in limits]))
    return found


def columns(cells: list[Cell]) -> list[str]:
    """Return the headings of a table's columns, the shapes."""
    return [
        f"{cell['shape'][0]}²" if len(set(cell["shape"])) == 1 else name_of(cell["shape"])
        for cell in cells
    ]


def machine_lines(results: Results) -> list[str]:
    """Return lines about the machine and its limits."""
    machine = results["machine"]
    blas = machine["blas"]
    version = f" {blas['version']}" if blas["version"] else ""
    kernels = f", kernels for {blas['kernels']}" if blas["kernels"] else ""
    n = "an unknown number of threads" if blas["threads"] is None else count(blas["threads"])
    lines = [
        f"{machine['cpu']}, {count(machine['cores'], 'core')}, vectors of "
        f"{machine['vector_bits']} bits",
        f"NumPy {machine['numpy']} with {blas['name']}{version}{kernels}, {n}; "
        f"Numba {machine['numba']}, Python {machine['python']}",
    ]
    for n, roof in machine["roofline"].items():
        peak = ", ".join(f"{speed(value)} in {name}" for name, value in roof["peak_gflops"].items())
        reads = ", ".join(
            f"{name} {value:.3g}" for name, value in roof["read_gb_per_second"].items()
        )
        lines.append(f"{count(int(n))}: FMA peak {peak} GFLOP/s; reads GB/s: {reads}")
    return lines


def tables(results: Results) -> list[Table]:
    """Return one table for each dtype and number of threads, to be printed in the terminal."""
    found = []
    for (dtype, n), cells in groups(results).items():
        table = Table(
            box=rich.box.SIMPLE_HEAD,
            pad_edge=False,
            padding=(0, 1, 0, 0),
            title=f"GFLOP/s, {dtype}, {count(n)}",
            title_justify="left",
            title_style="bold",
        )
        table.add_column("", no_wrap=True, min_width=max(map(len, results["titles"].values())))
        for head in columns(cells):
            # On three lines, so that nine columns fit into a width of 80.
            table.add_column(head.replace("x", "x\n"), justify="right", no_wrap=True, min_width=5)
        for title, texts in rows(results, cells):
            if title == BLAS.title or title.startswith("fastnn.matmul /"):
                table.add_section()
            table.add_row(title, *texts)
        found.append(table)
    return found


def plot(results: Results, kind: str = "png", all_lines: bool = False) -> bytes:
    """Plot GFLOP/s over the size of square matrices: a line for each rung, and the peak.

    One panel below the other, of the width of a phone, and the name of each line at its end.

    Parameters
    ----------
    results : dict
        Result of `fastnn.ladder.measure.climb`.
    kind : {"png", "svg", "pdf"}, default="png"
        Format of the image.
    all_lines : bool, default=False
        Whether to draw all rungs; by default only those that tell most: the naive loop, the first
        loop that is fast, the register tile, `fastnn.matmul`, NumPy, and a loop of the user.

    Returns
    -------
    bytes
        Content of an image file.

    Raises
    ------
    MissingExtraError
        If matplotlib is not installed.
    """
    figure_module = require("matplotlib.figure", "plot")
    found = groups(results)
    # Only the smallest and the largest number of threads are plotted.
    counts = sorted({n for _, n in found})
    shown = [group for group in found if group[1] in (counts[0], counts[-1])]
    height = _PANEL_INCHES * (1.5 if all_lines else 1)
    figure = figure_module.Figure(
        figsize=(_WIDTH_INCHES, height * len(shown) + 0.6), layout="constrained"
    )
    panels = figure.subplots(len(shown), squeeze=False)[:, 0]
    for axes, (dtype, n) in zip(panels, shown, strict=True):
        cells = [cell for cell in found[dtype, n] if len(set(cell["shape"])) == 1]
        lines = _draw_lines(axes, results["titles"], cells, n, all_lines)
        peak = results["machine"]["roofline"][str(n)]["peak_gflops"][dtype]
        axes.axhline(peak, color=_PEAK, linestyle="--", linewidth=1.2)
        _decorate(axes, cells, f"{dtype}, {count(n)}")
        last = max((cell["shape"][0] for cell in cells), default=1)
        ends = [*lines, (f"peak {speed(peak)}", _PEAK, (last, peak))]
        _label_ends(axes, ends, 0.75 * height)  # the rest is for title and ticks
    panels[-1].set_xlabel("n, for matrices n x n", fontsize=_POINTS)
    cpu = "\n".join(textwrap.wrap(results["machine"]["cpu"], _TITLE_COLUMNS))
    figure.suptitle(f"From the naive loop to BLAS\n{cpu}", fontsize=_POINTS + 1)
    buffer = io.BytesIO()
    figure.savefig(buffer, format=kind, dpi=200)
    return buffer.getvalue()


def _decorate(axes: Axes, cells: list[Cell], title: str) -> None:
    """Set title, scales, ticks and frame of a panel."""
    ticker = require("matplotlib.ticker", "plot")
    axes.set_title(title, fontsize=_POINTS, loc="left")
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.xaxis.set_major_formatter(ticker.ScalarFormatter())
    axes.yaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:g}"))
    axes.set_xticks([cell["shape"][0] for cell in cells])
    axes.minorticks_off()
    axes.tick_params(labelsize=_POINTS)
    axes.margins(y=0.08)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_ylabel("GFLOP/s", fontsize=_POINTS)


def _draw_lines(
    axes: Axes, titles: Mapping[str, str], cells: list[Cell], n_threads: int, all_lines: bool
) -> list[tuple[str, str, tuple[float, float]]]:
    """Plot a line for each rung; return the text, the colour and the last point of each."""
    ends = []
    for name, title in titles.items():
        # On one thread, parallel=True is the loop ikj.
        few = name in _FEW and not (name == "parallel" and n_threads == 1)
        points = [
            (cell["shape"][0], cell["rungs"][name]["gflops"])
            for cell in cells
            if "gflops" in cell["rungs"].get(name, {})
        ]
        if not points or not (all_lines or few):
            continue
        style: dict[str, Any] = {"color": _COLOURS.get(name, _OWN), "linewidth": 1.5}
        if name in (BLAS.name, BLAS_FUSED.name):
            style = {"color": "black", "linewidth": 1.8}
        if name in ("fused", BLAS_FUSED.name):
            style |= {"linestyle": ":"}
        axes.plot(*zip(*points, strict=True), marker="o", markersize=3, **style)
        label = _LABELS.get(name, title)
        ends.append((f"{label} {speed(points[-1][1])}", style["color"], points[-1]))
    return ends


def _label_ends(
    axes: Axes, ends: list[tuple[str, str, tuple[float, float]]], inches: float
) -> None:
    """Write a text right of the panel, of that height, for each line's end, none upon another."""
    low, high = map(math.log, axes.get_ylim())
    heights = [(math.log(y) - low) / (high - low) for _, _, (_, y) in ends]
    gap = 1.2 * _POINTS / 72 / inches
    for (text, colour, point), place in zip(ends, spread(heights, gap), strict=True):
        axes.annotate(
            text,
            point,
            xytext=(1.07, place),
            textcoords="axes fraction",
            color=colour,
            fontsize=_POINTS,
            verticalalignment="center",
            annotation_clip=False,
            arrowprops={
                "arrowstyle": "-",
                "color": colour,
                "linewidth": 0.6,
                "alpha": 0.6,
                "relpos": (0, 0.5),
                "shrinkA": 0,
            },
        )


def spread(heights: Sequence[float], gap: float) -> list[float]:
    """Return heights near the given ones, in the same order, at least a gap apart.

    Parameters
    ----------
    heights : sequence of float
        In any order.
    gap : float
        Least distance between two of the results.

    Examples
    --------
    >>> from fastnn.ladder.report import spread
    >>> [round(height, 2) for height in spread([0.5, 0.52, 0.1], 0.1)]
    [0.46, 0.56, 0.1]
    """
    order = sorted(range(len(heights)), key=heights.__getitem__)
    groups: list[tuple[float, list[int]]] = []  # the centre of each, and its members
    for k in order:
        groups.append((heights[k], [k]))
        while len(groups) > 1:
            (lower, below), (upper, above) = groups[-2:]
            n_below, n_above = len(below), len(above)
            if upper - lower >= gap * (n_below + n_above) / 2:
                break
            centre = (lower * n_below + upper * n_above) / (n_below + n_above)
            groups[-2:] = [(centre, below + above)]
    places = [0.0] * len(heights)
    for centre, members in groups:
        for rank, k in enumerate(members):
            places[k] = centre + gap * (rank - (len(members) - 1) / 2)
    return places


_PAGE = string.Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>fastnn bench: from the naive loop to BLAS</title>
<style>
:root { color-scheme: light; }
body { font: 16px/1.55 system-ui, sans-serif; color: #222; background: #fff; margin: 0 auto;
  max-width: 62rem; padding: 1.5rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.25rem; margin-top: 2.2rem; }
h3 { font-size: 1.05rem; margin-bottom: .3rem; }
p.machine { color: #555; font-size: .9rem; }
img { width: 390px; max-width: 100%; height: auto; }
div.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .85rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; font-weight: 600; padding: .8rem 0 .3rem; }
th, td { padding: .2rem .6rem; text-align: right; white-space: nowrap; }
th[scope=row] { text-align: left; font-weight: 400; }
thead th { border-bottom: 1px solid #999; } tbody tr:nth-child(even) { background: #f5f5f5; }
pre { background: #f5f5f5; padding: .8rem; overflow-x: auto; font-size: .82rem; line-height: 1.4; }
.speed { color: #555; font-weight: 400; }
</style>
</head>
<body>
<h1>From the naive loop to BLAS</h1>
<p class="machine">$machine</p>
$reading
<h2>Plot</h2>
<p>Products of square matrices. Each line is a rung; the dashed line is the speed of a loop that
does nothing but multiply-adds in registers. The tables have all rungs.</p>
<p><img alt="GFLOP/s of each rung over the size of the matrices"
src="data:image/png;base64,$image"></p>
<h2>Results</h2>
<p>GFLOP/s, medians over rounds in which each rung is timed once. A shape AxBxC is the product of
x (A, B) and w (B, C). $none: too slow to be measured. Before it was timed, the result of every rung
was compared with the product in float64, element by element.</p>
$tables
<h2>Rungs</h2>
$rungs
</body>
</html>
""")


def page(results: Results, all_lines: bool = False) -> str:
    """Return an HTML page with all results, the plot, and each rung with its code.

    Parameters
    ----------
    results : dict
        Result of `fastnn.ladder.measure.climb`.
    all_lines : bool, default=False
        Whether the plot has all rungs; see `plot`.

    Returns
    -------
    str
        HTML that refers to no other file and to no network address.

    Raises
    ------
    MissingExtraError
        If matplotlib is not installed.
    """
    return _PAGE.substitute(
        machine="<br>\n".join(map(html.escape, machine_lines(results))),
        reading="\n".join(_reading_html(*part) for part in read(results)),
        image=base64.b64encode(plot(results, all_lines=all_lines)).decode(),
        none=_NONE,
        tables="\n".join(_table_html(results, *item) for item in groups(results).items()),
        rungs="\n".join(_rung_html(rung, results) for rung in (*LADDER, BLAS, BLAS_FUSED)),
    )


def _reading_html(heading: str, lines: list[str]) -> str:
    items = "\n".join(f"<li>{html.escape(line)}</li>" for line in lines)
    return f"<h2>{html.escape(heading)}</h2>\n<ul>\n{items}\n</ul>"


def _table_html(results: Results, group: Group, cells: list[Cell]) -> str:
    dtype, n = group
    heads = "".join(f'<th scope="col">{html.escape(head)}</th>' for head in columns(cells))
    body = "\n".join(
        f'<tr><th scope="row">{html.escape(title)}</th>'
        + "".join(f"<td>{html.escape(text)}</td>" for text in texts)
        + "</tr>"
        for title, texts in rows(results, cells)
    )
    return (
        f'<div class="wide"><table>\n<caption>{dtype}, {count(n)}</caption>\n'
        f'<thead><tr><th scope="col"></th>{heads}</tr></thead>\n'
        f"<tbody>\n{body}\n</tbody>\n</table></div>"
    )


def _rung_html(rung: Rung, results: Results) -> str:
    speeds = [cell["rungs"].get(rung.name, {}).get("gflops") for cell in results["cells"]]
    best = max((value for value in speeds if value is not None), default=None)
    shown = f' <span class="speed">up to {speed(best)} GFLOP/s</span>' if best else ""
    code = f"\n<pre><code>{html.escape(rung.source())}</code></pre>" if rung.code else ""
    return f"<h3>{html.escape(rung.title)}{shown}</h3>\n<p>{html.escape(rung.about)}</p>{code}"
