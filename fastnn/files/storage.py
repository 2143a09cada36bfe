"""Reading a saved net together with what was saved beside it."""

from fastnn.files.model_file import read_model
from fastnn.network import from_file_parts


def read(path):
    """Read a model file with all that `Sequential.save` put there.

    Parameters
    ----------
    path : str or path-like

    Returns
    -------
    net : Sequential
    metadata : dict of str to str
    tensors : dict of str to ndarray
        The arrays saved beside the parameters.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ModelFileError
        If it is damaged, or is not a model file of this package.
    """
    header, metadata, tensors = read_model(path)
    return from_file_parts(path, header, tensors), metadata, tensors
