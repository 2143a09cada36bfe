"""The matrix product, beside NumPy's: `fastnn.matmul` and the BLAS behind `numpy.matmul`."""

from contest.context import Standing, geometric_mean
from contest.report import Section, Table, number
from contest.team import Team, n_cores

_SIZES = (8, 12, 16, 24, 32, 48, 64, 96, 100, 128, 200, 256, 384, 512, 768, 1024, 2048)
_SHAPES = ((128, 784, 128), (1, 784, 128), (512, 512, 10), (10_000, 54, 64))  # M, K, N
_TRANSPOSED_SIZES = (32, 100, 256, 1024)
_QUICK_SIZES, _QUICK_SHAPES, _QUICK_TRANSPOSED = (8, 64, 256), ((128, 784, 128),), (64,)

# As it is, or the transpose of a contiguous matrix: of a, of b, of both.
_LAYOUTS = ("nn", "tn", "nt", "tt")

_SMALL, _SMALL_MEAN, _LEAST = 256, 1.2, 1.0


def _tasks(quick):
    """Yield (shape, dtype, layout, n_threads), by shape."""
    sizes, shapes = (_QUICK_SIZES, _QUICK_SHAPES) if quick else (_SIZES, _SHAPES)
    transposed = _QUICK_TRANSPOSED if quick else _TRANSPOSED_SIZES
    for shape in [*((size,) * 3 for size in sizes), *shapes]:
        square = len(set(shape)) == 1
        layouts = _LAYOUTS if square and shape[0] in transposed else _LAYOUTS[:1]
        for layout in layouts:
            for dtype in ("float32", "float64"):
                for n_threads in sorted({1, n_cores()}):
                    yield shape, dtype, layout, n_threads


def run(context):
    """Measure all shapes."""
    section = Section(
        "Matrix products",
        "Microseconds of `fastnn.matmul(a, b, out=out)` and of `np.matmul(a, b, out=out)` on the "
        "same number of threads, each in a process of its own, median of rounds in turns. `t` is "
        "an operand that is the transpose of a contiguous matrix.",
    )
    results = {}
    with Team(context.entries, "products", context.noting(section)) as team:
        previous = None
        if len({worker.entry for worker in team.workers}) < 2:
            section.notes.append("Left out: NumPy does not take part.")
            return [section]
        for task in _tasks(context.quick):
            shape, dtype, layout, n_threads = task
            if shape != previous:
                context.log("product of " + " x ".join(map(str, shape)))
                previous = shape
            pair = [w for w in team.workers if w.entry.ours or w.n_threads == n_threads]
            ready = team.each(pair, "prepare_products", *task, context.seconds)
            if len(ready) < 2:
                section.judge(f"{shape} {dtype} {layout}: both products are right", False)
                continue
            standing = Standing(
                team.take_turns(ready, context.rounds, "round_of_calls", context.seconds)
            )
            team.each(ready, "release")
            results[task] = standing.ours, standing.best_rival[1]
    columns = [(dtype, n) for dtype in ("float32", "float64") for n in sorted({1, n_cores()})]
    headers = ["M x K x N", "layout"]
    for dtype, n_threads in columns:
        headers += [f"{dtype} x{n_threads}", "numpy", "ratio"]
    section.table = Table(headers)
    for shape, layout in dict.fromkeys((task[0], task[2]) for task in results):
        row = [" x ".join(map(str, shape)), layout]
        for dtype, n_threads in columns:
            pair = results.get((shape, dtype, layout, n_threads))
            if pair is None:
                row += ["-"] * 3
                continue
            ratio = pair[1] / pair[0]
            flag = "" if ratio >= _LEAST else " **!**"
            row += [number(pair[0] * 1e6), number(pair[1] * 1e6), f"{ratio:.2f}{flag}"]
        section.table.rows.append(row)
    for (shape, dtype, layout, n_threads), (ours, theirs) in results.items():
        section.data.append(
            {
                "shape": shape,
                "dtype": dtype,
                "layout": layout,
                "n_threads": n_threads,
                "seconds": {"fastnn": ours, "numpy": theirs},
                "ratio": theirs / ours,
            }
        )
    _judge(section)
    return [section]


def _judge(section):
    if not section.data:
        return
    worst = min(section.data, key=lambda record: record["ratio"])
    slower = sum(record["ratio"] < _LEAST for record in section.data)
    section.judge(
        f"matrix products: {slower} of {len(section.data)} are slower than NumPy's, least ratio "
        f"{worst['ratio']:.2f} ({' x '.join(map(str, worst['shape']))} {worst['layout']}, "
        f"{worst['dtype']}, {worst['n_threads']} threads), target {_LEAST:g}",
        slower == 0,
    )
    small = [
        r["ratio"]
        for r in section.data
        if len(set(r["shape"])) == 1 and r["shape"][0] < _SMALL and r["layout"] == "nn"
    ]
    if small:
        mean = geometric_mean(small)
        section.judge(
            f"matrix products: geometric mean {mean:.2f} of the squares below {_SMALL}, "
            f"target {_SMALL_MEAN:g}",
            mean >= _SMALL_MEAN,
        )
