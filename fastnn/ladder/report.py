"""Reports of the results: tables for the terminal, a plot, and an HTML page."""

from __future__ import annotations

import base64
import html
import io
import string
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

import rich.box
from rich.table import Table

from fastnn.errors import require
from fastnn.ladder.measure import Cell, Results, count, name_of
from fastnn.ladder.reading import read
from fastnn.ladder.rungs import BLAS, BLAS_FUSED, LADDER, Rung

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

Group: TypeAlias = tuple[str, int]
"""What the cells of a table share: dtype and number of threads."""

# In the order of the rungs, from pale to saturated.
_COLOURS = {
    "python": "#9e9e9e",
    "ijk": "#c7b42e",
    "ikj": "#e8a33d",
    "transposed": "#e0703a",
    "parallel": "#c8385a",
    "blocked": "#8e3b8f",
    "tiled": "#4a56b0",
    "packed": "#1f8a70",
    "fused": "#57b894",
}
_OWN = "#d40055"  # a loop of the user
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


def plot(results: Results, kind: str = "png") -> bytes:
    """Plot GFLOP/s over the size of square matrices: a line for each rung, and the peak.

    Parameters
    ----------
    results : dict
        Result of `fastnn.ladder.measure.climb`.
    kind : {"png", "svg", "pdf"}, default="png"
        Format of the image.

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
    ticker = require("matplotlib.ticker", "plot")
    found = groups(results)
    dtypes = list(dict.fromkeys(dtype for dtype, _ in found))
    # Only the smallest and the largest number of threads are plotted.
    threads = sorted({n for _, n in found})
    threads = [threads[0], threads[-1]] if len(threads) > 1 else threads
    figure = figure_module.Figure(
        figsize=(4.6 * len(threads) + 2.6, 3.6 * len(dtypes) + 0.5), layout="constrained"
    )
    panels = figure.subplots(len(dtypes), len(threads), squeeze=False, sharex=True, sharey="row")
    handles: dict[str, Line2D] = {}
    for r, dtype in enumerate(dtypes):
        for c, n in enumerate(threads):
            axes = panels[r][c]
            cells = [cell for cell in found[dtype, n] if len(set(cell["shape"])) == 1]
            _draw_lines(axes, results["titles"], cells, handles)
            peak = results["machine"]["roofline"][str(n)]["peak_gflops"][dtype]
            line = axes.axhline(peak, color="0.25", linestyle="--", linewidth=1.2)
            handles["FMA peak of the machine"] = line
            axes.annotate(
                f"{peak:.3g}",
                (0, peak),
                xycoords=("axes fraction", "data"),
                xytext=(4, 3),
                textcoords="offset points",
                color="0.25",
                fontsize=8,
            )
            axes.set_title(f"{dtype}, {count(n)}", fontsize=10)
            axes.set_xscale("log", base=2)
            axes.set_yscale("log")
            axes.xaxis.set_major_formatter(ticker.ScalarFormatter())
            axes.yaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:g}"))
            axes.set_xticks([cell["shape"][0] for cell in cells])
            axes.minorticks_off()
            axes.margins(y=0.08)
            axes.grid(alpha=0.25)
            axes.spines[["top", "right"]].set_visible(False)
            if r == len(dtypes) - 1:
                axes.set_xlabel("n, for matrices n x n")
            if c == 0:
                axes.set_ylabel("GFLOP/s")
    order = [title for title in results["titles"].values() if title in handles]
    order = [*[title for title in handles if title not in order], *reversed(order)]
    figure.legend(
        [handles[title] for title in order], order, loc="outside right upper", frameon=False
    )
    figure.suptitle(f"From the naive loop to BLAS: {results['machine']['cpu']}", fontsize=11)
    buffer = io.BytesIO()
    figure.savefig(buffer, format=kind, dpi=140)
    return buffer.getvalue()


def _draw_lines(
    axes: Axes, titles: Mapping[str, str], cells: list[Cell], handles: dict[str, Line2D]
) -> None:
    """Plot a line for each rung; add it to the handles under the title of the rung."""
    for name, title in titles.items():
        points = [
            (cell["shape"][0], cell["rungs"][name]["gflops"])
            for cell in cells
            if "gflops" in cell["rungs"].get(name, {})
        ]
        if not points:
            continue
        style: dict[str, Any] = {"color": _COLOURS.get(name, _OWN), "linewidth": 1.5}
        if name in (BLAS.name, BLAS_FUSED.name):
            style = {"color": "black", "linewidth": 1.8}
        if name in ("fused", BLAS_FUSED.name):
            style |= {"linestyle": ":"}
        (handles[title],) = axes.plot(*zip(*points, strict=True), marker="o", markersize=3, **style)


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
img { max-width: 100%; height: auto; }
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
does nothing but multiply-adds in registers. The dotted lines also add a bias and apply
ReLU.</p>
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


def page(results: Results) -> str:
    """Return an HTML page with all results, the plot, and each rung with its code.

    Parameters
    ----------
    results : dict
        Result of `fastnn.ladder.measure.climb`.

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
        image=base64.b64encode(plot(results)).decode(),
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
