"""The time of training until a net is good, on real data."""

import math
import statistics
import tempfile
from pathlib import Path

import numpy as np

from contest.context import Standing
from contest.goals import GOALS, read
from contest.report import Section, Table, number
from contest.team import Team

_SEEDS = 3
_MAX_EPOCHS = 40


def _learn(context, team, workers, goal, seed):
    """Train in turns until all are good; return the seconds that each took, and the epochs."""
    team.each(workers, "begin", seed)
    seconds = dict.fromkeys(workers, 0.0)
    epochs = dict.fromkeys(workers, 0)
    running = list(workers)
    while running:
        for worker, (spent, score) in team.each(running, "epoch").items():
            seconds[worker] += spent
            epochs[worker] += 1
            if score >= goal.score:
                running.remove(worker)
            elif epochs[worker] == _MAX_EPOCHS:
                running.remove(worker)
                seconds[worker] = math.inf
                team.log(f"{worker} did not reach it in {_MAX_EPOCHS} epochs, but {score:.4f}")
        running = [worker for worker in running if worker.alive]
    return seconds, epochs


def run(context):
    """Train on all data that are there."""
    seeds = range(1 if context.quick else _SEEDS)
    section = Section(
        "Time to a good net",
        "Seconds of training until the test set is predicted so well, without the time of looking, "
        f"which is after each epoch, and of compiling; median of {len(seeds)} seeds. In brackets: "
        "epochs. Adam, float32; each library draws its own initial parameters.",
    )
    found = [goal for goal in GOALS if (context.data / goal.source).exists()]
    section.notes += [
        f"{goal.title} is left out: there is no {context.data / goal.source}"
        for goal in GOALS
        if goal not in found
    ]
    if not found:
        return [section]
    results = {}
    with (
        tempfile.TemporaryDirectory() as folder,
        Team(context.entries, "accuracy", context.noting(section)) as team,
    ):
        for goal in found:
            context.log(f"{goal.title}: {goal.score_name} of {goal.score}")
            cell, *arrays = read(goal, context.data)
            path = Path(folder, "data.npz")
            np.savez(path, **dict(zip(("X", "y", "X_test", "y_test"), arrays, strict=True)))
            workers = list(team.each(team.workers, "study", path, cell, goal))
            runs = [_learn(context, team, workers, goal, seed) for seed in seeds]
            team.each(team.workers, "release")
            medians = {w: statistics.median(seconds[w] for seconds, _ in runs) for w in workers}
            epochs = {w: statistics.median(epochs[w] for _, epochs in runs) for w in workers}
            results[goal] = cell, Standing(medians), epochs
    columns = list(
        dict.fromkeys(w for _, standing, _ in results.values() for w in standing.seconds)
    )
    section.table = Table(["data", "net", "goal", *map(str, columns), "ratio"])
    for goal, (cell, standing, epochs) in results.items():
        times = [
            f"{number(standing.seconds[w])} ({epochs[w]:g})" if w in standing.seconds else "-"
            for w in columns
        ]
        ratio = standing.ratio
        section.table.rows.append(
            [
                goal.title,
                cell.name,
                f"{goal.score_name} {goal.score:g}",
                *times,
                "-" if ratio is None else f"{ratio:.2f}",
            ]
        )
        section.data.append(
            {
                "data": goal.title,
                "cell": cell.name,
                "goal": goal.score,
                "seconds": standing.by_name(),
                "epochs": {str(worker): count for worker, count in epochs.items()},
                "ratio": ratio,
            }
        )
        if ratio is not None:
            section.judge(
                f"{goal.title}: {ratio:.2f} times as fast as {standing.best_rival[0]}, target 1",
                ratio >= 1,
            )
    return [section]
