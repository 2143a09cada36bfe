"""Did my change make anything slower? Compares two versions of fastnn, and fails if it did.

With nothing else running::

    python -m pip install -e ".[bench,sklearn]"
    python benchmarks/compare.py main          # what lies in the working tree, beside main
    python benchmarks/compare.py v0.1 HEAD     # one commit beside another

Both versions run the asv suite of this checkout, with this Python. README.md, beside this file,
says how the verdict is found and why. The exit status is 0 if nothing is slower, 1 if something
is, 2 if something could not be measured.
"""

import argparse
import itertools
import json
import math
import os
import re
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
HOME = ROOT / ".asv" / "compare"

# All that is called a ratio, on a number of threads, which is the last parameter.
RATIOS = r"track_time_ratio_vs_\w+\(.*\b{threads}\)$"
# Compiling takes half a minute a time, so what a process pays once has a run of its own.
STARTUP = r"bench_startup\."

# Two threads meet for a tenth of a millisecond here. Where the scheduler puts them, beside those
# of the rival that still spin, decides: the same code took 1.8 and 4 times as long.
LUCK_ON_THREADS = r"bench_step\.PredictionRatio"

# How many times as long a benchmark may take as in the base. A single figure must be beyond what
# noise does to it; the mean of all has less noise, and finds what is a little slower everywhere.
LIMITS = {
    f"^{STARTUP}": 1.25,
    r", [2-9]\d*\)$": 1.6,
    r"": 1.12,
}
MEAN_LIMIT = 1.04
MEAN = "geometric mean of one thread"
MIN_FOR_MEAN = 10
ROUNDS, CONFIRMING_ROUNDS = 3, 4


class MeasuringError(Exception):
    """There are no figures to judge by."""


@dataclass(frozen=True)
class Row:
    """What became of one benchmark: medians of the ratios to the rival, None where it fails."""

    name: str
    base: float | None
    head: float | None

    @property
    def limit(self):
        """How many times the base it may be."""
        if self.name == MEAN:
            return MEAN_LIMIT
        return next(limit for pattern, limit in LIMITS.items() if re.search(pattern, self.name))

    @property
    def change(self):
        """How many times as long it takes, or None."""
        return None if self.base is None or self.head is None else self.head / self.base

    @property
    def is_slower(self):
        """Whether that is too long."""
        return self.change is not None and self.change > self.limit

    @property
    def is_broken(self):
        """Whether it runs in the base only."""
        return self.base is not None and self.head is None


def judge(base, head):
    """Compare two versions.

    Parameters
    ----------
    base, head : list of dict of str to (float or None)
        For each round, ratios to the rival by the name of the benchmark.

    Returns
    -------
    list of Row
        The last is the geometric mean of those on one thread, without startup, that both have,
        unless they are few.
    """
    sides = [base, head]
    names = sorted({name for side in sides for figures in side for name in figures})
    rows = [Row(name, *(_median(side, name) for side in sides)) for name in names]
    both = [
        row
        for row in rows
        if row.change is not None and row.name.endswith(" 1)") and "bench_startup." not in row.name
    ]
    if len(both) >= MIN_FOR_MEAN:
        means = [
            math.exp(statistics.mean(math.log(getattr(row, side)) for row in both))
            for side in ("base", "head")
        ]
        rows.append(Row(MEAN, *means))
    return rows


def _median(rounds, name):
    found = [figures[name] for figures in rounds if figures.get(name) is not None]
    return statistics.median(found) if found else None


def suspects(rows):
    """Return what must be measured again, as pairs: names, and a regular expression of benchmarks.

    First those that seem slower, which is quick. Then, if the mean does, all that it is of.
    """
    slower = [row.name for row in rows if row.is_slower]
    single = [name for name in slower if name != MEAN]
    pairs = []
    if single:
        pairs.append((single, "|".join(f"^{re.escape(name)}$" for name in single)))
    if MEAN in slower:
        pairs.append(([MEAN], rf"^(?!{STARTUP}).*" + RATIOS.format(threads=1)))
    return pairs


def confirmed(names, rows):
    """Return the names of what is slower in a second measurement, among those it was made for."""
    return [row.name for row in rows if row.is_slower and row.name in names]


def table(rows):
    """Return rows as text, the worst first."""
    lines = [f"{'change':>7} {'limit':>6} {'base':>8} {'head':>8}  benchmark"]
    for row in sorted(rows, key=lambda row: -(row.change or math.inf)):
        base, head = ("-" if value is None else f"{value:.3f}" for value in (row.base, row.head))
        change = "-" if row.change is None else f"{row.change:.2f}"
        mark = "  SLOWER" if row.is_slower else "  BROKEN" if row.is_broken else ""
        lines.append(f"{change:>7} {row.limit:>6.2f} {base:>8} {head:>8}  {row.name}{mark}")
    return "\n".join(lines)


def git(*arguments, **options):
    """Return what git prints."""
    done = subprocess.run(
        ["git", *arguments], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True, **options
    )
    return done.stdout.strip()


def working_tree():
    """Return a commit of what lies in the folder `fastnn` now, which belongs to no branch.

    Neither the index nor any file is touched. Its date is that of HEAD: the same content has the
    same name, and need not be compiled again.
    """
    date = git("show", "--no-patch", "--format=%cI", "HEAD")
    who = {
        f"GIT_{role}_{field}": value
        for role in ("AUTHOR", "COMMITTER")
        for field, value in (("NAME", "compare"), ("EMAIL", "compare"), ("DATE", date))
    }
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | who | {"GIT_INDEX_FILE": str(Path(folder, "index"))}
        git("read-tree", "HEAD", env=environment)
        git("add", "--all", "--", "fastnn", env=environment)
        tree = git("write-tree", env=environment)
        if tree == git("rev-parse", "HEAD^{tree}"):
            return git("rev-parse", "HEAD")
        return git("commit-tree", tree, "-p", "HEAD", "-m", "The working tree", env=environment)


class Version:
    """A commit, its files in a folder of their own, and its figures.

    Parameters
    ----------
    label : {"base", "head"}
    commit : str
    """

    def __init__(self, label, commit):
        self.label, self.commit = label, commit
        self.folder = HOME / commit[:12]
        if not self.folder.exists():
            # Not a worktree, which git would have to be told to forget. Files have the date of
            # the commit, by which Numba knows what it has compiled from them.
            self.folder.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=HOME) as folder:
                archive = Path(folder, "archive.tar")
                git("archive", f"--output={archive}", commit, "fastnn")
                with tarfile.open(archive) as files:
                    files.extractall(Path(folder, "version"), filter="data")
                Path(folder, "version").rename(self.folder)

    def run(self, pattern):
        """Run benchmarks once; return the figures by name, None where one failed."""
        tree = str(self.folder)
        environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("OMP_", "GOMP_", "OPENBLAS_", "MKL_", "NUMBA_"))
        }
        # asv drops PYTHONPATH from its own path if there is no ASV_PYTHONPATH, and the processes
        # that benchmarks start know only PYTHONPATH.
        environment |= dict.fromkeys(("PYTHONPATH", "ASV_PYTHONPATH", "FASTNN_BENCH_TREE"), tree)
        environment["NUMBA_CACHE_DIR"] = str(self.folder / "numba_cache")
        with tempfile.TemporaryDirectory(dir=HOME) as folder:
            config = json.loads((ROOT / "asv.conf.json").read_text())
            config |= {
                "repo": str(ROOT),
                "branches": ["HEAD"],
                "benchmark_dir": str(ROOT / config["benchmark_dir"]),
                "results_dir": str(Path(folder, "results")),
            }
            Path(folder, "asv.conf.json").write_text(json.dumps(config))
            command = [sys.executable, "-m", "asv", "run", "--config", "asv.conf.json"]
            command += ["--environment", f"existing:{sys.executable}", "--show-stderr"]
            command += ["--set-commit-hash", self.commit, "--bench", pattern]
            done = subprocess.run(
                command,
                cwd=folder,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            try:
                figures = read_results(Path(folder, "results"))
            except MeasuringError as error:
                raise MeasuringError(f"{self.label}: {error}:\n{done.stdout}") from None
        if done.returncode:
            print(done.stdout)
        # asv keeps a row for those that it was not asked for.
        return {name: value for name, value in figures.items() if re.search(pattern, name)}


def read_results(folder):
    """Return the figures of the one file of results that asv has written, by benchmark.

    Raises
    ------
    MeasuringError
        If there is no such file, or no figure in it.
    """
    files = [path for path in folder.glob("*/*.json") if path.name != "machine.json"]
    if len(files) != 1:
        raise MeasuringError(f"asv wrote {len(files)} files of results")
    data = json.loads(files[0].read_text())
    figures = {}
    for benchmark, columns in data["results"].items():
        row = dict(zip(data["result_columns"], columns, strict=False))
        sets = list(itertools.product(*row["params"]))
        values = row["result"] or [None] * len(sets)
        for parameters, value in zip(sets, values, strict=True):
            name = f"{benchmark}({', '.join(parameters)})"
            figures[name] = None if value is None or math.isnan(value) else float(value)
    if not figures:
        raise MeasuringError("asv ran no benchmark")
    return figures


def measure(versions, pattern, rounds):
    """Run benchmarks of both versions in turns; return for each a list of rounds.

    Which comes first alternates: what drifts meets both alike.
    """
    figures = {version.label: [] for version in versions}
    for number in range(rounds):
        for version in versions if number % 2 == 0 else versions[::-1]:
            began = time.perf_counter()
            figures[version.label].append(version.run(pattern))
            seconds = time.perf_counter() - began
            print(f"round {number + 1} of {rounds}: {version.label}, {seconds:.0f} s", flush=True)
    return [figures[version.label] for version in versions]


def ensure_machine_is_known():
    """Let asv describe this machine, without which it does not run."""
    if not Path("~/.asv-machine.json").expanduser().exists():
        command = [sys.executable, "-m", "asv", "machine", "--yes"]
        subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)


def parse_arguments():
    """Return what the command line says."""
    parser = argparse.ArgumentParser(
        description="Fails if a version of fastnn is slower than another."
    )
    parser.add_argument("base", help="a commit, branch or tag to compare with")
    parser.add_argument("head", nargs="?", help="another one; default: the working tree")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="default: %(default)s")
    parser.add_argument(
        "--threads", type=int, default=1, help="of the benchmarks; default: %(default)s"
    )
    parser.add_argument(
        "--startup", action="store_true", help="compiling and first fits instead: takes long"
    )
    parser.add_argument("--bench", help="only those whose name this regular expression matches")
    arguments = parser.parse_args()
    if arguments.rounds < 1 or arguments.threads < 1:
        parser.error("--rounds and --threads must be at least 1")
    return arguments


def main():
    """Measure, measure what seems slower again, and tell.

    Returns
    -------
    int
        The exit status.
    """
    arguments = parse_arguments()
    pattern = ".*" + RATIOS.format(threads=arguments.threads)
    if arguments.threads > 1:
        pattern = rf"(?!{LUCK_ON_THREADS}){pattern}"
    pattern = rf"^(?{'=' if arguments.startup else '!'}{STARTUP}){pattern}"
    if arguments.bench:
        pattern = f"^(?=.*(?:{arguments.bench})){pattern}"
    base = git("rev-parse", "--verify", f"{arguments.base}^{{commit}}")
    if arguments.head is None:
        head = working_tree()
    else:
        head = git("rev-parse", "--verify", f"{arguments.head}^{{commit}}")
    ensure_machine_is_known()
    print(f"base {base[:12]}, head {head[:12]}, {arguments.threads} thread(s)")
    versions = [Version("base", base), Version("head", head)]
    rows = judge(*measure(versions, pattern, arguments.rounds))
    print(table(rows))
    broken = [row.name for row in rows if row.is_broken]
    if not any(row.change for row in rows):
        raise MeasuringError("no benchmark runs in both versions")
    for names, again in suspects(rows):
        print("\nSome seem slower. They are measured again.")
        second = judge(*measure(versions, again, CONFIRMING_ROUNDS))
        print(table(second))
        slower = confirmed(names, second)
        if slower:
            print("\nSlower, in both measurements: " + ", ".join(slower))
            return 1
    if broken:
        print("\nDoes not run any more: " + ", ".join(broken))
        return 2
    print("\nNothing is slower.")
    return 0


if __name__ == "__main__":
    try:
        status = main()
    except (MeasuringError, subprocess.CalledProcessError) as error:
        print(f"not measured: {error}", file=sys.stderr)
        status = 2
    sys.exit(status)
