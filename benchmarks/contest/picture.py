"""The time of a training step as a picture: bars by net and library, on a logarithmic axis."""

_COLOURS = {
    "fastnn": "#d1495b",
    "jax": "#30638e",
    "torch": "#8d99ae",
    "torch.compile": "#c5ccd8",
    "numpy": "#edae49",
    "scikit-learn": "#6a994e",
}


def draw(section, path):
    """Draw the steps; a library counts with its faster number of threads.

    Parameters
    ----------
    section : contest.report.Section
        What `contest.sections.steps.run` returned first.
    path : path-like
    """
    from matplotlib.figure import Figure

    records = sorted(section.data, key=lambda record: record["flops"])
    times = {}
    for k, record in enumerate(records):
        for worker, seconds in record["seconds"].items():
            by_net = times.setdefault(worker.rpartition(" ")[0], {})
            by_net[k] = min(seconds * 1e6, by_net.get(k, float("inf")))
    names = [name for name in _COLOURS if name in times]
    figure = Figure(figsize=(max(6, 1.6 * len(records) + 1), 4.8), layout="constrained")
    axes = figure.subplots()
    width = 0.84 / max(len(names), 1)
    for position, name in enumerate(names):
        shift = (position - (len(names) - 1) / 2) * width
        at = [k + shift for k in times[name]]
        axes.bar(at, times[name].values(), width * 0.92, label=name, color=_COLOURS[name])
    axes.set_yscale("log")
    axes.set_xlim(-0.6, len(records) - 0.4)
    axes.set_ylim(bottom=min(min(by_net.values()) for by_net in times.values()) / 2)
    axes.set_ylabel("µs per training step (shorter is faster)")
    axes.set_xticks(range(len(records)), [r["cell"].replace("@", "\n@ ") for r in records])
    axes.tick_params(axis="x", length=0, labelsize=8)
    axes.grid(axis="y", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right", "bottom"):
        axes.spines[side].set_visible(False)
    figure.legend(loc="outside upper center", ncols=len(names), frameon=False)
    figure.savefig(path, dpi=150)
