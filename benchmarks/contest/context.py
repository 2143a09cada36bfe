"""What all sections of a run share."""

import statistics
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Context:
    """The settings of a run.

    Parameters
    ----------
    entries : list of contest.rivals.Entry
        Who takes part: our own library and what is installed of the others.
    machine : dict
        What `machine.describe` returns.
    rounds : int
        Of each measurement; their median counts.
    seconds : float
        A round takes at least so long.
    quick : bool
        Whether to measure only a little of everything.
    cells : list of contest.cells.Cell
    grid, seed : int
        Size and seed of the random sample of cells.
    data : pathlib.Path
        Folder of real data.
    log : callable
        Takes a line about how it is going.
    """

    entries: list
    machine: dict
    rounds: int
    seconds: float
    quick: bool
    cells: list
    grid: int
    seed: int
    data: Path
    log: callable

    def noting(self, section):
        """Return a function that logs a line, and adds it to a section's notes."""

        def note(line):
            self.log(line)
            section.notes.append(line)

        return note

    @property
    def warm_seconds(self):
        """How long each contestant runs before it is measured.

        Long enough for our own training loop to try numbers of threads, as it does every 0.3 s.
        """
        return self.seconds if self.quick else 0.7

    def fraction_of_peak(self, flops, seconds, dtype):
        """Return the part of all cores' peak that was reached."""
        return flops / seconds / self.machine["peak_flops"][dtype]["all"]


@dataclass(frozen=True)
class Standing:
    """One measurement of all contestants.

    Parameters
    ----------
    seconds : dict of contest.team.Worker to float
    """

    seconds: dict

    @property
    def ours(self):
        """Our own time, or None."""
        return next((s for w, s in self.seconds.items() if w.entry.ours), None)

    @property
    def best_rival(self):
        """The pair (worker, seconds) of the fastest other one, or None."""
        rivals = [(w, s) for w, s in self.seconds.items() if not w.entry.ours]
        return min(rivals, key=lambda pair: pair[1], default=None)

    @property
    def ratio(self):
        """How many times as long as we the fastest other one takes, or None."""
        if self.ours is None or self.best_rival is None:
            return None
        return self.best_rival[1] / self.ours

    def by_name(self):
        """Return the seconds under the workers' names."""
        return {str(worker): seconds for worker, seconds in self.seconds.items()}


def geometric_mean(values):
    """Return the geometric mean."""
    return statistics.geometric_mean(values)
