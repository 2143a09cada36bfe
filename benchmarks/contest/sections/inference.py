"""The time of a prediction, called from Python with NumPy's arrays."""

import numpy as np

from contest.cells import Cell
from contest.context import Standing
from contest.report import Section, Table, mark, number
from contest.team import Team

_NETS = ("784-128-10@1", "20-64-64-2@1", "784-512-512-10@1")
_TARGETS = {1: 1.3, 32: 1.1, 1024: 1.0}
_TOLERANCE = 1e-4


def _expected(cell, x):
    """Return the net's outputs, computed in float64 by the formula."""
    out = x.astype(np.float64)
    for k, (w, b) in enumerate(cell.weights()):
        out = out @ w.astype(np.float64) + b
        if k < len(cell.shapes) - 1:
            out = np.maximum(out, 0)
    return out


def run(context):
    """Measure some nets with few and many rows."""
    section = Section(
        "Inference",
        "Microseconds a call from Python, NumPy's arrays in and out, in float32; all outputs are "
        "checked. Columns as for training.",
    )
    records = []
    with Team(context.entries, "inference", context.noting(section)) as team:
        for name in _NETS:
            cell = Cell.parse(name)
            net = name.partition("@")[0]
            for rows, target in _TARGETS.items():
                context.log(f"inference of {net}, {rows} rows")
                rng = np.random.default_rng(rows)
                x = rng.standard_normal((rows, cell.sizes[0]), dtype=cell.dtype)
                expected = _expected(cell, x)
                outs = team.each(team.workers, "prepare_calls", cell, x, context.seconds)
                right = []
                for worker, out in outs.items():
                    error = np.abs(out - expected).max()
                    if out.shape == expected.shape and error < _TOLERANCE * np.abs(expected).max():
                        right.append(worker)
                    else:
                        section.judge(f"{worker}, {net}, {rows} rows: the outputs are right", False)
                standing = Standing(
                    team.take_turns(right, context.rounds, "round_of_calls", context.seconds)
                )
                team.each(team.workers, "release")
                records.append((net, rows, target, standing))
                best = standing.best_rival
                section.data.append(
                    {
                        "net": net,
                        "rows": rows,
                        "target": target,
                        "seconds": standing.by_name(),
                        "ratio": standing.ratio,
                        "best_rival": str(best[0]) if best else None,
                    }
                )
                if standing.ratio is not None:
                    section.judge(
                        f"inference, {net}, {rows} rows: {standing.ratio:.2f} times as fast as "
                        f"{best[0]}, target {target:g}",
                        standing.ratio >= target,
                    )
    columns = list(dict.fromkeys(worker for *_, standing in records for worker in standing.seconds))
    section.table = Table(["net", "rows", *map(str, columns), "ratio / target"])
    for net, rows, target, standing in records:
        times = [
            number(standing.seconds[w] * 1e6) if w in standing.seconds else "-" for w in columns
        ]
        ratio = "-" if standing.ratio is None else mark(standing.ratio, target)
        section.table.rows.append([net, str(rows), *times, ratio])
    return [section]
