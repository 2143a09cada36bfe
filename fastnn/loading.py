"""`load`: give back a model from its file, whatever kind of model it is."""

import os

from fastnn.data.table_encoder import METADATA_KEY
from fastnn.errors import ModelFileError
from fastnn.files import storage
from fastnn.network import Sequential
from fastnn.table_model import TableModel

__all__ = ["load"]

# Entry of the metadata -> the class that `unpack` makes a model of. A file with none is a net's.
_KINDS = {METADATA_KEY: TableModel}


def load(path: str | os.PathLike[str]) -> Sequential | TableModel:
    """Load a model of any kind, as its file says. Nothing in the file is executed.

    Parameters
    ----------
    path : str or path-like
        A file that `fastnn train`, `TableModel.save`, `Sequential.save` or `Checkpoint` wrote.

    Returns
    -------
    Sequential or TableModel
        A net for a file of `Sequential.save` or `Checkpoint`; for a file of `fastnn train` a
        `TableModel`, which predicts on frames and has the net inside.

    Raises
    ------
    OSError
        If there is no such file, or it cannot be read.
    ModelFileError
        If it is damaged, or is not a model file of this package.
    MissingExtraError
        If the model is of a table, and scikit-learn or pandas is missing.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> import fastnn
    >>> net = fastnn.Sequential([fastnn.Affine(3, 2)], seed=0)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder) / "net.safetensors"
    ...     net.save(path)
    ...     same = fastnn.load(path)
    >>> bool((same.params == net.params).all())
    True
    """
    net, metadata, tensors = storage.read(path)
    for entry, kind in _KINDS.items():
        if entry in metadata:
            try:
                return kind.unpack(net, metadata, tensors)
            except ModelFileError as error:
                raise ModelFileError(f"path {os.fspath(path)!r}: {error}") from error
    return net
