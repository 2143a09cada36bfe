"""How fastnn's own step depends on widths and on the dtype, and how much memory a fit takes."""

import json
import statistics
from dataclasses import replace
from pathlib import Path

from contest import cells
from contest.cells import Cell
from contest.report import Section, Table, number
from contest.rivals import ENTRIES, OURS
from contest.team import Team, ask

_WIDTHS, _BATCH = range(1, 131), 128
_FIRST_JUDGED, _NEIGHBOURS, _CLIFF = 33, 5, 1.6
_SHOWN, _NEARLY_CLIFF = 10, 1.2
_FLOAT64_RATIO = 2.3
_MEBIBYTE = 2**20
_MAX_MEMORY = 60 * _MEBIBYTE


def run(context):
    """Measure all three."""
    with Team([ENTRIES[OURS]], "steps", context.log) as team:
        if not team.workers:
            return []
        return [_widths(context, team), _dtypes(context, team), _memory(context)]


def _seconds(context, team, cell, rounds):
    team.each(team.workers, "prepare", cell, context.seconds)
    return statistics.median(
        spent
        for _ in range(rounds)
        for spent in team.each(team.workers, "round", context.seconds).values()
    )


def _widths(context, team):
    widths = _WIDTHS[9::20] if context.quick else _WIDTHS
    section = Section(
        "No cliffs",
        f"fastnn's step of W-W-10 @ {_BATCH} in float32, for W from {widths[0]} to {widths[-1]}: "
        f"picoseconds an operation, and how many times that of its neighbours, the median of "
        f"{2 * _NEIGHBOURS} around it. The table has every "
        f"tenth width, and those over {_NEARLY_CLIFF} times their neighbours.",
        Table(["W", "ps/FLOP", "of neighbours"]),
    )
    context.log(f"widths {widths[0]} to {widths[-1]}")
    # In several passes, so that a disturbance does not look like a cliff.
    passes = 2 if context.quick else 3
    tries = {width: [] for width in widths}
    for _ in range(passes):
        for width in widths:
            cell = Cell((width, width, 10), _BATCH)
            tries[width].append(_seconds(context, team, cell, 1) / cell.flops)
    cost = {width: statistics.median(tried) for width, tried in tries.items()}
    cliffs = []
    for k, width in enumerate(widths):
        around = [*widths[max(k - _NEIGHBOURS, 0) : k], *widths[k + 1 : k + 1 + _NEIGHBOURS]]
        factor = cost[width] / statistics.median(cost[other] for other in around)
        section.data.append({"width": width, "seconds_per_flop": cost[width], "factor": factor})
        judged = width >= _FIRST_JUDGED
        if width % _SHOWN == 0 or (judged and factor > _NEARLY_CLIFF):
            section.table.rows.append([str(width), number(cost[width] * 1e12), f"{factor:.2f}"])
        if judged and factor > _CLIFF:
            cliffs.append(f"{width} ({factor:.2f})")
    if context.quick:  # there are no neighbours to compare with
        return section
    section.judge(
        f"widths from {_FIRST_JUDGED}: none takes more than {_CLIFF} times as long an operation as "
        f"its neighbours" + (f", but {', '.join(cliffs)}" if cliffs else ""),
        not cliffs,
    )
    return section


def _dtypes(context, team):
    section = Section(
        "float64 beside float32",
        "fastnn's step in microseconds, and how many times as long float64 takes.",
        Table(["net", "float32", "float64", "ratio"]),
    )
    for cell in cells.targets()[:: 4 if context.quick else 1]:
        context.log(f"float64 of {cell.name}")
        tries = {dtype: [] for dtype in cells.DTYPES}
        for _ in range(2 if context.quick else 3):
            for dtype, tried in tries.items():
                tried.append(_seconds(context, team, replace(cell, dtype=dtype), 2))
        single, double = (statistics.median(tried) for tried in tries.values())
        section.data.append({"cell": cell.name, "float32": single, "float64": double})
        section.table.rows.append(
            [cell.name, number(single * 1e6), number(double * 1e6), f"{double / single:.2f}"]
        )
        section.judge(
            f"{cell.name}: float64 takes {double / single:.2f} times as long as float32, "
            f"target at most {_FLOAT64_RATIO}",
            double / single <= _FLOAT64_RATIO,
        )
    return section


def _memory(context):
    context.log("memory of a fit")
    section = Section(
        "Memory",
        "Most memory of a process that imports fastnn, makes data as large as MNIST's and trains "
        "784-128-10, in MiB: before the fit, how much the fit adds, and how much of that the first "
        "fit of all takes to load the compiled kernels.",
        Table(["", "MiB"]),
    )
    script = Path(__file__).parents[1] / "memory.py"
    for _ in range(2):  # the first may have to compile
        answer = ask(script)
    found = json.loads(answer)
    section.data.append(found)
    for name, key in (
        ("before the fit", "before"),
        ("the fit adds", "fit"),
        ("of that: kernels", "kernels"),
    ):
        section.table.rows.append([name, f"{found[key] / _MEBIBYTE:.0f}"])
    section.judge(
        f"a fit adds {found['fit'] / _MEBIBYTE:.0f} MiB, target at most {_MAX_MEMORY // _MEBIBYTE}",
        found["fit"] <= _MAX_MEMORY,
    )
    return section
