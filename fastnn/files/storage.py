"""Read a saved net together with the metadata and arrays that were saved with it."""

import os
from typing import Any

from numpy.typing import NDArray

from fastnn.files.model_file import read_model
from fastnn.network import Sequential, from_file_parts


def read(
    path: str | os.PathLike[str],
) -> tuple[Sequential, dict[str, str], dict[str, NDArray[Any]]]:
    """Read everything that `Sequential.save` has written.

    Parameters
    ----------
    path : str or path-like
        Model file.

    Returns
    -------
    net : Sequential
        The saved net.
    metadata : dict of str to str
        The metadata saved with it.
    tensors : dict of str to ndarray
        The arrays saved with it, without the net's parameters.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ModelFileError
        If it is damaged, or is not a model file of this package.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> from fastnn import Affine, Sequential
    >>> from fastnn.files.storage import read
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder) / "m.safetensors"
    ...     Sequential([Affine(3, 2)], seed=0).save(path, metadata={"unit": "kg"})
    ...     net, metadata, tensors = read(path)
    >>> net.n_outputs, metadata, tensors
    (2, {'unit': 'kg'}, {})
    """
    header, metadata, tensors = read_model(path)
    return from_file_parts(path, header, tensors), metadata, tensors
