"""The time of a training step: nets with targets of their own, and a random sample of nets."""

from pathlib import Path

from contest import cells
from contest.context import Standing, geometric_mean
from contest.report import Section, Table, mark, number
from contest.team import Team, ask

TITLE = "Training steps"

# Nets with fewer operations a step are not expected to come near the machine's peak.
_LARGE_FLOPS, _LARGE_FRACTION = 50e6, 0.75

# In the sample, who is so many times slower than the best rival in a first round takes no further
# part.
_WITHIN = 2.0

# Compiling takes PyTorch half a minute for each net of the sample. It saves about this much a
# layer, in seconds, and this part of the rest: where that cannot make it the best, it is left out.
_COMPILED_SAVES, _COMPILED_PART = 3e-4, 0.2
_GRID_MEAN, _GRID_LEAST = 2.0, 1.0
_GRID_MAX_FLOPS = 3e9


def _measure(context, team, cell):
    """Return the standing of a cell, and the seconds that each first call took more."""
    context.log(f"{cell.name}: {cell.flops / 1e6:.3g} MFLOP a step, {cell.steps} steps an epoch")
    first = team.each(team.workers, "prepare", cell, context.warm_seconds)
    seconds = team.take_turns(first, context.rounds, "round", context.seconds)
    team.each(team.workers, "release")
    return Standing(seconds), first


def _measure_best(context, team, cell):
    """Return the same, of those rivals alone that may be the best one."""
    context.log(f"{cell.name}: {cell.flops / 1e6:.3g} MFLOP a step, {cell.steps} steps an epoch")
    quick = [worker for worker in team.workers if not worker.entry.compiles_long]
    first = {}
    for worker in quick:
        warm_seconds = context.warm_seconds if worker.entry.ours else context.seconds
        first |= team.each([worker], "prepare", cell, warm_seconds)
    seconds = team.take_turns(first, 1, "round", context.seconds)
    best = min((s for w, s in seconds.items() if not w.entry.ours), default=0.0)
    running = [w for w, s in seconds.items() if w.entry.ours or s <= _WITHIN * best]
    eager = min((s for w, s in seconds.items() if w.entry.name == "torch"), default=0.0)
    hoped = (eager - _COMPILED_SAVES * len(cell.shapes)) * (1 - _COMPILED_PART)
    if hoped < best:
        late = [worker for worker in team.workers if worker.entry.compiles_long]
        more = team.all_at_once(late, "prepare", cell, context.seconds)
        first |= more
        running += more
    seconds |= team.take_turns(running, context.rounds, "round", context.seconds)
    team.each(team.workers, "release")
    return Standing(seconds), first


def _record(cell, standing, first, fraction):
    best = standing.best_rival
    return {
        "cell": cell.name,
        "flops": cell.flops,
        "target": cell.target,
        "seconds": standing.by_name(),
        "first_call_seconds": {str(worker): seconds for worker, seconds in first.items()},
        "ratio": standing.ratio,
        "best_rival": str(best[0]) if best else None,
        "fraction_of_peak": fraction,
    }


def run(context):
    """Measure the cells that were asked for."""
    steps = Section(
        TITLE,
        "Microseconds a step, median of interleaved rounds: gathering a batch, forward, backward, "
        "Adam; shuffled each epoch. Behind the @ of a net's name is the batch. `x1` and `x2` are "
        "numbers of threads; fastnn may use all and decides by itself. The last columns: how many "
        "times as long the best rival takes, over the target; fastnn's part of the peak of all "
        "cores.",
    )
    once = Section(
        "First call",
        "Seconds that the first epoch takes longer than the next: mostly compiling, which JAX and "
        "torch.compile do for each net, fastnn once for each dtype, and keeps on disk.",
    )
    if not context.quick:
        seconds = ask(Path(__file__).parents[1] / "compile_time.py").strip()
        once.notes.append(
            f"The first step of fastnn on a machine, with nothing on disk: {seconds} s."
        )
    records = []
    with Team(context.entries, "steps", context.noting(steps)) as team:
        for cell in context.cells:
            standing, first = _measure(context, team, cell)
            if standing.ours is None:
                steps.judge(f"{cell.name}: fastnn runs", False)
                continue
            fraction = context.fraction_of_peak(cell.flops, standing.ours, cell.dtype)
            records.append((cell, standing, first))
            steps.data.append(_record(cell, standing, first, fraction))
            if standing.ratio is not None:
                steps.judge(
                    f"{cell.name}: {standing.ratio:.2f} times as fast as "
                    f"{standing.best_rival[0]}, target {cell.target:g}",
                    standing.ratio >= cell.target,
                )
    columns = list(
        dict.fromkeys(worker for _, standing, _ in records for worker in standing.seconds)
    )
    steps.table = Table(["net", *map(str, columns), "ratio / target", "of peak"])
    once.table = Table(["net", *map(str, columns)])
    for (cell, standing, first), record in zip(records, steps.data, strict=True):
        times = [
            number(standing.seconds[w] * 1e6) if w in standing.seconds else "-" for w in columns
        ]
        ratio = "-" if standing.ratio is None else mark(standing.ratio, cell.target)
        steps.table.rows.append([cell.name, *times, ratio, f"{record['fraction_of_peak']:.0%}"])
        firsts = [f"{first[w]:.2f}" if w in first else "-" for w in columns]
        once.table.rows.append([cell.name, *firsts])
    _judge_large(steps)
    return [steps, once]


def _judge_large(section):
    large = [record for record in section.data if record["flops"] >= _LARGE_FLOPS]
    if not large:
        return
    worst = min(large, key=lambda record: record["fraction_of_peak"])
    reached = sum(record["fraction_of_peak"] >= _LARGE_FRACTION for record in large)
    section.judge(
        f"{section.title}: {reached} of {len(large)} nets with {_LARGE_FLOPS / 1e6:g} MFLOP a step "
        f"or more reach {_LARGE_FRACTION:.0%} of the peak of all cores, the least "
        f"{worst['fraction_of_peak']:.0%} ({worst['cell']})",
        reached == len(large),
    )


def run_grid(context):
    """Measure a random sample of nets."""
    section = Section(
        "A random sample of nets",
        f"{context.grid} nets drawn with the seed {context.seed}: widths 1 to 2048, 1 to 6 hidden "
        "layers, batches 1 to 4096, both dtypes, three activations, classification and "
        f"regression, at most {_GRID_MAX_FLOPS / 1e9:g} GFLOP a step. Microseconds a step.",
        Table(["net", "MFLOP", "fastnn", "best rival", "its time", "ratio", "of peak"]),
    )
    with Team(context.entries, "steps", context.noting(section)) as team:
        for cell in cells.sample(context.grid, context.seed, _GRID_MAX_FLOPS):
            standing, first = _measure_best(context, team, cell)
            if standing.ratio is None:
                section.notes.append(f"{cell.name}: no comparison")
                continue
            fraction = context.fraction_of_peak(cell.flops, standing.ours, cell.dtype)
            section.data.append(_record(cell, standing, first, fraction))
            best, seconds = standing.best_rival
            context.log(f"    {standing.ratio:.2f} times as fast as {best}, {fraction:.0%} of peak")
            section.table.rows.append(
                [
                    cell.name,
                    number(cell.flops / 1e6),
                    number(standing.ours * 1e6),
                    str(best),
                    number(seconds * 1e6),
                    f"{standing.ratio:.2f}" + ("" if standing.ratio >= _GRID_LEAST else " **!**"),
                    f"{fraction:.0%}",
                ]
            )
    ratios = {record["cell"]: record["ratio"] for record in section.data}
    if ratios:
        worst = min(ratios, key=ratios.get)
        mean = geometric_mean(ratios.values())
        section.judge(
            f"random sample: least ratio {ratios[worst]:.2f} ({worst}), target {_GRID_LEAST:g}",
            ratios[worst] >= _GRID_LEAST,
        )
        section.judge(
            f"random sample: geometric mean of the ratios {mean:.2f}, target {_GRID_MEAN:g}",
            mean >= _GRID_MEAN,
        )
        _judge_large(section)
    return [section]
