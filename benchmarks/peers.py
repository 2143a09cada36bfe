"""fastnn beside scikit-learn, PyTorch, JAX, ONNX Runtime and NumPy, on this machine.

One command measures everything, in turns, and says which targets are met. Install what it compares
with, and let nothing else run meanwhile::

    python -m pip install -e ".[peers]"
    python benchmarks/peers.py --markdown benchmarks/RESULTS.md --plot peers.png --json peers.json

It has these sections, of which ``--only`` picks some:

- ``steps``: the time of a training step of some nets, part of the machine's peak
- ``grid``: the same for a random sample of nets, which ``--grid`` and ``--seed`` choose
- ``inference``: the time of a prediction from Python
- ``matmul``: matrix products
- ``accuracy``: the time of training to a given accuracy on real data, which ``--data`` names
- ``widths``: layers of all widths, float64 beside float32, and the memory that a fit takes

How it measures: each library has a process of its own for each number of threads, set up before
that process imports it. Exactly one of them works at any moment, and they take turns, so that
whatever else the machine does meets all alike. The median of the rounds counts. A rival that is
not installed is left out. ``--quick`` measures a little of everything, to see that it works.
"""

import argparse
import dataclasses
import datetime
import importlib.metadata
import json
import shlex
import signal
import sys
import time
from pathlib import Path

# What `contest` holds is imported where it is used, and has no __init__.py: asv imports whatever it
# takes for a part of its suite, and this does not belong to it.
SECTIONS = ("steps", "grid", "inference", "matmul", "accuracy", "widths")

PACKAGES = (
    "numpy",
    "numba",
    "scikit-learn",
    "torch",
    "jax",
    "optax",
    "onnxruntime",
)

HERE = Path(__file__).parent


def parse(arguments=None):
    """Return the settings of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--only", metavar="SECTION,...", help="sections to run; default: all")
    add("--cells", metavar="NET,...", help="nets of `steps`, such as 784-128-10@128")
    add("--rivals", metavar="NAME,...", help="rivals to compare with; default: all installed")
    add("--rounds", type=int, help="of each measurement; default: 9, or 2 with --quick")
    add("--seconds", type=float, help="least time of a round; default: 0.05, or 0.02")
    add("--grid", type=int, metavar="N", help="nets of the random sample; default: 40, or 2")
    add("--seed", type=int, default=0, help="of the random sample; default: 0")
    add("--data", type=Path, help="folder of real data; default: shared/data beside the checkout")
    add("--quick", action="store_true", help="measure a little of everything")
    add("--json", type=Path, metavar="FILE", help="write all figures there")
    add("--plot", type=Path, metavar="FILE", help="draw the steps there")
    add("--markdown", type=Path, metavar="FILE", help="write the tables there")
    found = parser.parse_args(arguments)
    for name, usual, quick in (("rounds", 9, 2), ("seconds", 0.05, 0.02), ("grid", 40, 2)):
        if getattr(found, name) is None:
            setattr(found, name, quick if found.quick else usual)
        if getattr(found, name) <= 0:
            parser.error(f"--{name} must be greater than 0")
    found.only = found.only.split(",") if found.only else list(SECTIONS)
    for name in found.only:
        if name not in SECTIONS:
            parser.error(f"--only: no section {name!r}; there are {', '.join(SECTIONS)}")
    if found.data is None:
        found.data = HERE.resolve().parents[1] / "shared" / "data"
    return parser, found


def choose(parser, names):
    """Return the contestants, and lines about those that are left out."""
    from contest.rivals import ENTRIES, OURS

    names = list(ENTRIES) if names is None else [OURS, *names.split(",")]
    entries, left_out = [], []
    for name in dict.fromkeys(names):
        if name not in ENTRIES:
            parser.error(f"--rivals: no {name!r}; there are {', '.join(ENTRIES)}")
        if missing := ENTRIES[name].missing:
            left_out.append(f"{name} is left out: {', '.join(missing)} not installed")
        else:
            entries.append(ENTRIES[name])
    return entries, left_out


def versions():
    """Return the versions of all libraries, and what NumPy's BLAS says of itself."""
    from contest.team import ask

    found = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {"packages": found, "blas": ask(HERE / "contest" / "blas_info.py").strip()}


BEGAN = time.monotonic()


def log(line):
    """Say how it is going."""
    print(f"{time.monotonic() - BEGAN:6.0f} s  {line}", file=sys.stderr, flush=True)


def stop(*_):
    """End in good order when asked to end, and so end all other processes too."""
    raise SystemExit("stopped")


def main():
    """Run the sections, and tell the results."""
    parser, settings = parse()
    signal.signal(signal.SIGTERM, stop)
    from contest import cells, report
    from contest.context import Context
    from contest.noise import Noise
    from contest.sections import load
    from contest.sections.steps import TITLE as STEPS_TITLE
    from contest.team import ask

    try:
        names = settings.cells.split(",") if settings.cells else cells.TARGETS
        chosen = [cells.Cell.parse(name) for name in names]
    except ValueError as error:
        parser.error(f"--cells: {error}")
    entries, left_out = choose(parser, settings.rivals)
    for line in left_out:
        log(line)
    log("peak of this machine")
    tries = ["--tries", "2"] if settings.quick else []
    machine = json.loads(ask(HERE / "machine.py", "--json", *tries))
    about = versions()
    context = Context(
        entries=entries,
        machine=machine,
        rounds=settings.rounds,
        seconds=settings.seconds,
        quick=settings.quick,
        cells=chosen,
        grid=settings.grid,
        seed=settings.seed,
        data=settings.data,
        log=log,
    )
    date = datetime.datetime.now(datetime.UTC).date().isoformat()
    command = shlex.join(["python", "benchmarks/peers.py", *sys.argv[1:]])
    lines = report.head(machine, about, date, command, left_out)
    print("\n".join(lines), flush=True)
    sections = []
    for name in settings.only:
        noise = Noise()
        found = load(name)(context)
        if found and (line := noise.tell()):
            found[0].notes.insert(0, line)
        for section in found:
            sections.append(section)
            lines += section.lines()
            print("\n".join(section.lines()), flush=True)
        # After each section, so that a run which is stopped loses only the one it was in.
        end = report.summary(sections)
        if settings.markdown:
            text = "\n".join([*lines, *end]).rstrip() + "\n"
            settings.markdown.write_text(text, encoding="utf-8")
        if settings.json:
            everything = {
                "date": date,
                "command": command,
                "machine": machine,
                "versions": about,
                "left_out": left_out,
                "sections": [dataclasses.asdict(section) for section in sections],
            }
            settings.json.write_text(json.dumps(everything, indent=1) + "\n", encoding="utf-8")
    print("\n".join(end))
    pictured = [section for section in sections if section.title == STEPS_TITLE]
    if settings.plot and pictured and pictured[0].data:
        from contest.picture import draw

        draw(pictured[0], settings.plot)


if __name__ == "__main__":
    main()
