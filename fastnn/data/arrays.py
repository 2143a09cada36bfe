"""Read arrays: ``.npz`` files, and folders of IDX files such as those of MNIST."""

from __future__ import annotations

import dataclasses
import gzip
import math
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastnn.data.dataset import UNREADABLE, Dataset, one_line, source_name
from fastnn.errors import DataError

# The third byte of an IDX file is the code of its type; numbers are big-endian.
_IDX_DTYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_IDX_IMAGES = "{}-images-idx3-ubyte"
_IDX_LABELS = "{}-labels-idx1-ubyte"


def load_npz(path: Path) -> Dataset:
    """Load an ``.npz`` file with the arrays ``X`` (N, ...) and, if there is a target, ``y`` (N,).

    Parameters
    ----------
    path : pathlib.Path
        Read without pickles.

    Returns
    -------
    Dataset
        ``X`` flattened to (N, I); booleans and float16 become float32.

    Raises
    ------
    DataError
        If the file is damaged, an array is missing or has another shape or type, or a number is
        not finite.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> import numpy as np
    >>> from fastnn.data.arrays import load_npz
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder) / "squares.npz"
    ...     np.savez(path, X=np.ones((5, 2, 2)), y=np.arange(5))
    ...     load_npz(path).X.shape
    (5, 4)
    """
    if not zipfile.is_zipfile(path):
        raise DataError(f"{path}: cannot be read as .npz: it is not a complete zip file")
    try:
        # Given a path, np.load would leave a damaged file open.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            found = {name: arrays[name] for name in arrays.files if name in ("X", "y")}
            names = ", ".join(arrays.files) or "none"
    except (*UNREADABLE, AttributeError, TypeError) as error:
        raise DataError(f"{path}: cannot be read as .npz: {one_line(error)}") from error
    if "X" not in found:
        raise DataError(f"{path}: there is no array 'X', only: {names}")
    X, y = found["X"], found.get("y")
    if X.ndim < 2 or not X.size or X.dtype.kind not in "biuf":
        raise DataError(
            f"{path}: X must hold numbers in the shape (rows, features), got {X.dtype} {X.shape}"
        )
    X = X.reshape(len(X), math.prod(X.shape[1:]))
    X = X.astype(np.float32) if X.dtype in (np.bool_, np.float16) else X
    _check_finite(X, f"{path}: X")
    if y is not None:
        y = _check_target(y, len(X), path)
    return Dataset(
        name=source_name(path),
        X=X,
        y=y,
        feature_names=[f"column_{i}" for i in range(X.shape[1])],
        target_name="y",
        target_index=X.shape[1],
        has_header=False,
    )


def _check_target(y: NDArray[Any], n_rows: int, path: Path) -> NDArray[Any]:
    """Return a target as numbers (N,), or as text of dtype object, or raise `DataError`."""
    if y.shape not in ((n_rows,), (n_rows, 1)) or y.dtype.kind not in "biufU":
        raise DataError(
            f"{path}: y must hold numbers or text in the shape ({n_rows},), got {y.dtype} {y.shape}"
        )
    y = y.reshape(n_rows)
    if y.dtype.kind == "f":
        _check_finite(y, f"{path}: y")
    return y.astype(str).astype(object) if y.dtype.kind in "bU" else y


def _check_finite(array: NDArray[Any], where: str) -> None:
    bad = ~np.isfinite(array)
    if bad.any():
        n_rows = int(bad.reshape(len(array), -1).any(axis=1).sum())
        raise DataError(f"{where} has NaN or infinite values, in {n_rows} of {len(array)} rows")


def load_idx_folder(folder: Path) -> Dataset:
    """Load a folder of IDX files with the names of MNIST.

    Parameters
    ----------
    folder : pathlib.Path
        Holds ``train-images-idx3-ubyte``, ``train-labels-idx1-ubyte`` and the same two files with
        ``t10k`` for the test set; each may be compressed (``.gz``), and labels may be missing.

    Returns
    -------
    Dataset
        Images flattened to (N, H * W), float32: uint8 pixels are divided by 255.

    Raises
    ------
    DataError
        If there are no images, or a file is damaged.
    """
    train, test = (_load_idx_pair(folder, part) for part in ("train", "t10k"))
    if train is None:
        if test is None:
            wanted = " or ".join(_IDX_IMAGES.format(part) for part in ("train", "t10k"))
            raise DataError(f"{folder}: the folder holds no {wanted} (.gz)")
        return test
    if test is not None and len(train.feature_names) != len(test.feature_names):
        raise DataError(f"{folder}: the images of train and t10k differ in size")
    return dataclasses.replace(train, test=test)


def _load_idx_pair(folder: Path, part: str) -> Dataset | None:
    """Load the images and labels of ``train`` or ``t10k``; return None if there are no images."""
    images_path = _find_idx_file(folder / _IDX_IMAGES.format(part))
    labels_path = _find_idx_file(folder / _IDX_LABELS.format(part))
    if images_path is None:
        return None
    images = _read_idx(images_path)
    if images.ndim < 2 or not images.size:
        raise DataError(f"{images_path}: holds no images, but numbers of shape {images.shape}")
    X = images.reshape(len(images), -1)
    X = X / np.float32(255) if X.dtype == np.uint8 else X.astype(np.float32)
    _check_finite(X, str(images_path))
    y = None
    if labels_path is not None:
        y = _check_target(_read_idx(labels_path).astype(np.int64), len(X), labels_path)
    return Dataset(
        name=source_name(folder),
        X=X,
        y=y,
        feature_names=[f"pixel_{i}" for i in range(X.shape[1])],
        target_name="label",
        target_index=X.shape[1],
        has_header=False,
        standardise=False,
    )


def _find_idx_file(path: Path) -> Path | None:
    """Return the path of a file or, if it does not exist, of its compressed version, or None."""
    candidates = (path, path.with_name(f"{path.name}.gz"))
    return next((candidate for candidate in candidates if candidate.is_file()), None)


def _read_idx(path: Path) -> NDArray[Any]:
    """Read one IDX file: two zero bytes, type, number of dimensions, sizes, numbers.

    The format is described on the page of the original MNIST files (LeCun, Cortes and Burges).
    """
    try:
        with (gzip.open if path.suffix == ".gz" else open)(path, "rb") as file:
            content = file.read()
    except UNREADABLE as error:
        raise DataError(f"{path}: cannot be read: {one_line(error)}") from error
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] not in _IDX_DTYPES:
        raise DataError(f"{path}: is not an IDX file")
    dtype, n_dims = np.dtype(_IDX_DTYPES[content[2]]), content[3]
    start = 4 + 4 * n_dims
    shape = [int.from_bytes(content[i : i + 4], "big") for i in range(4, start, 4)]
    expected = start + dtype.itemsize * math.prod(shape)
    if len(content) != expected:
        raise DataError(
            f"{path}: is damaged: {expected} bytes expected for the shape {tuple(shape)}, "
            f"got {len(content)}"
        )
    return np.frombuffer(content, dtype, offset=start).reshape(shape)
