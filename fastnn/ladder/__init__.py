"""The ladder from the naive dot product to BLAS: ``fastnn bench``.

`rungs` has the loops, each a step up from the one before; `measure` checks and times them beside
NumPy's BLAS; `roofline` measures what the machine could do at most; `reading` says what the figures
mean, and `report` shows them. `fitting` does the same for training.
"""

__all__ = ["WrongRungError"]


class WrongRungError(Exception):
    """A loop does not compute the product; the message names it. It gets no number."""
