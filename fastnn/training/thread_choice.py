"""How long a kernel trains before it comes back to Python, and on how many threads."""

import math

from fastnn.runtime import threads

# Kernels come back to Python this often, so that Ctrl-C, callbacks and progress bars work.
SECONDS_PER_CALL = 0.08
_FIRST_GUESS_FLOPS_PER_SECOND = 5e9

# Now and then a short call tries the other number of threads: after so many seconds of training,
# at once for a new net, soon after a change of mind, since a single slow call may have caused it,
# then more and more rarely; and after so many times as long as the trial is going to take.
_SECONDS_BETWEEN_TRIALS = 0.3
_SECONDS_AFTER_CHANGE = 0.02
_SECONDS_BEFORE_FIRST_TRIAL = 0.002
_SECONDS_PER_TRIAL = 0.004
_WAKING_COUNTS_BELOW = 0.02  # seconds of a call
_REST_AFTER_TRIAL = 50
_REST_BEFORE_FIRST_TRIAL = 4


class Pace:
    """Decides how many steps the next call of the kernel makes, and on how many threads.

    A guess comes from the work in a step; from then on the measured time of a step decides, and
    goes on deciding: when another process takes a core, a team whose members wait for each other
    at every step is slower than one thread alone. The result is the same bits either way.

    Parameters
    ----------
    flops : float
        Of a step.
    n_threads : int
        The most to use.
    fixed : bool
        Whether to use all of them always.
    """

    def __init__(self, flops: float, n_threads: int, fixed: bool) -> None:
        self._guess = max(flops, 1) / _FIRST_GUESS_FLOPS_PER_SECOND
        self._seconds: dict[int, float] = {}  # of a step, by number of threads
        self._choices = [n_threads]
        while self._choices[-1] > 1 and not fixed:
            self._choices.append(self._choices[-1] // 2)
        limit = n_threads if fixed else threads.worthwhile(flops, n_threads)
        self._best = next(n for n in self._choices if n <= limit)
        self._tries_more = False  # or fewer, in turn
        self._again: int | None = None  # a number of threads that has only been woken
        self._last = n_threads, math.inf  # threads and seconds of a step, of the last call
        self._since_trial = 0.0
        self._rest = _SECONDS_BEFORE_FIRST_TRIAL  # the guess is a rough one

    def next_call(self) -> tuple[int, int]:
        """Return (number of threads, number of steps)."""
        if self._again is not None:
            return self._again, self._steps(self._again, _SECONDS_PER_TRIAL)
        n_threads, seconds = self._best, SECONDS_PER_CALL
        longest = self._seconds.get(self._best, self._guess) * self._best  # of a step
        times = _REST_AFTER_TRIAL if len(self._seconds) > 1 else _REST_BEFORE_FIRST_TRIAL
        if self._since_trial >= max(self._rest, times * longest):
            k = self._choices.index(self._best)
            neighbours = [*self._choices[max(k - 1, 0) : k], *self._choices[k + 1 : k + 2]]
            possible = [n for n in neighbours if n == threads.at_most(n)]
            self._tries_more = not self._tries_more
            if possible:
                pick = possible[0] if self._tries_more else possible[-1]
                n_threads, seconds = pick, _SECONDS_PER_TRIAL
        return n_threads, self._steps(n_threads, seconds)

    def _steps(self, n_threads: int, seconds: float) -> int:
        """Return how many steps take so long."""
        return max(1, int(seconds / self._seconds.get(n_threads, self._guess)))

    def record(self, n_threads: int, steps: int, seconds: float) -> None:
        """Take note of how long a call took."""
        last_threads, last_step = self._last
        step = max(seconds / steps, 1e-9)
        self._last = n_threads, step
        was_asleep = n_threads > last_threads and seconds < _WAKING_COUNTS_BELOW
        if was_asleep and n_threads != self._best and self._again is None:
            self._again = n_threads  # its threads had to wake, or even to start
            return
        self._again = None
        # A single slow call, such as the first after a pause, changes nothing.
        self._seconds[n_threads] = min(step, last_step) if n_threads == last_threads else step
        was_trial, before = n_threads != self._best, self._best
        self._since_trial = 0.0 if was_trial else self._since_trial + seconds
        self._best = min(self._seconds, key=self._seconds.__getitem__)
        if self._best != before:
            self._rest = _SECONDS_AFTER_CHANGE
        elif was_trial:
            self._rest = min(4 * self._rest, _SECONDS_BETWEEN_TRIALS)
