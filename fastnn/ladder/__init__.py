"""``fastnn bench``: matrix products from the naive loop to BLAS, a ladder of optimisations.

`loops` has the loops, `rungs` describes each of them, `measure` checks and times them together with
NumPy's BLAS, `roofline` measures the limits of the machine, `reading` summarises the results and
`report` shows them. `fitting` compares training with other libraries.
"""

__all__ = ["WrongRungError"]


class WrongRungError(Exception):
    """A loop computes a wrong product, so it is not timed; the message names it."""
