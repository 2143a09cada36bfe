"""Weights, samples and attributions as images: what a neuron looks for, and where."""

import numpy as np

from fastnn.inspection.checks import (
    DIVERGING,
    check_axes,
    check_image_shape,
    check_labels,
    check_weight_matrix,
    largest,
)
from fastnn.validation import as_array, check_finite, check_flag, check_integer


def weights_as_images(layer_or_w, image_shape):
    """Return what each neuron of a layer looks for, as an image.

    The weights of a neuron have the shape of its input. Where that is an image, a large positive
    weight says "bright here speaks for me", a negative one "bright here speaks against me".

    Parameters
    ----------
    layer_or_w : Layer or array_like (I, O)
        A layer with weights, or its weights: each column is one neuron.
    image_shape : (int, int)
        Height and width of the input, I = H * W.

    Returns
    -------
    ndarray (O, H, W)
        In the dtype of the weights, in native byte order: a copy.

    Raises
    ------
    ValueError
        If the layer has no weights, or the shape does not fit.

    Examples
    --------
    >>> from fastnn import Affine
    >>> from fastnn.inspection import weights_as_images
    >>> weights_as_images(Affine(784, 16, seed=0), (28, 28)).shape
    (16, 28, 28)
    """
    w = check_weight_matrix("layer_or_w", layer_or_w)
    images = w.T.reshape(-1, *check_image_shape(image_shape, len(w)))
    return images.astype(w.dtype.newbyteorder("="))


def plot_images(images, ax, *, titles=None, n_columns=None, signed=True, shared_scale=True):
    """Draw images in a grid.

    Parameters
    ----------
    images : array_like (N, H, W)
    ax : matplotlib.axes.Axes
    titles : sequence, optional
        N texts, one above each image.
    n_columns : int, optional
        Images in a row; by default about as many as there are rows.
    signed : bool, default True
        Whether zero is white, negative numbers are red and positive ones blue, on a scale that is
        symmetric around zero; else the least number is white and the greatest black.
    shared_scale : bool, default True
        Whether all images have one scale of colours; else each has its own.

    Returns
    -------
    ndarray (rows, columns)
        The one large image that was drawn, with numbers from -1 (or 0, if not `signed`) to 1, NaN
        between the images.

    Examples
    --------
    >>> import numpy as np
    >>> from matplotlib.figure import Figure
    >>> from fastnn.inspection import plot_images
    >>> plot_images(np.ones((6, 8, 8)), Figure().subplots(), n_columns=3).shape
    (17, 26)
    """
    check_axes(ax)
    images = as_array("images", images)
    if images.dtype.kind not in "biuf" or images.ndim != 3 or images.size == 0:
        raise ValueError(
            f"images must be numbers of the shape (N, H, W), got shape {images.shape} and dtype "
            f"{images.dtype}"
        )
    check_finite("images", images)
    signed = check_flag("signed", signed)
    shared_scale = check_flag("shared_scale", shared_scale)
    n, height, width = images.shape
    titles = check_labels("titles", titles, n)
    if n_columns is None:
        n_columns = int(np.ceil(np.sqrt(n)))
    n_columns = min(check_integer("n_columns", n_columns, 1), n)

    # One pixel apart, and room for a line of text where there are titles.
    gap = 1 if titles is None else max(1, round(0.4 * height))
    n_rows = -(-n // n_columns)
    mosaic = np.full((n_rows * (height + gap) - gap, n_columns * (width + 1) - 1), np.nan)
    scaled = _to_unit(images.astype(np.float64), signed, shared_scale)
    for k, image in enumerate(scaled):
        top, left = k // n_columns * (height + gap), k % n_columns * (width + 1)
        mosaic[top : top + height, left : left + width] = image
        if titles is not None:
            middle = left + (width - 1) / 2
            ax.text(middle, top - 0.8, titles[k], ha="center", va="bottom", fontsize="small")
    cmap, least = (DIVERGING, -1) if signed else ("gray_r", 0)
    ax.imshow(mosaic, cmap=cmap, vmin=least, vmax=1, interpolation="nearest")
    ax.set(xticks=[], yticks=[])  # not axis("off"), which would hide a label as well
    ax.spines[:].set_visible(False)
    if titles is not None:
        ax.set_ylim(top=-0.5 - gap)
    return mosaic


def _to_unit(images, signed, shared):
    """Scale images (N, H, W), together or each by itself, to -1..1 or to 0..1."""
    groups = [images] if shared else images
    for group in groups:
        if signed:
            group /= largest(group)
        else:
            group -= group.min()
            group /= group.max() or 1.0
    return images
