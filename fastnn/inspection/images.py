"""Weights, samples and attributions as images."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastnn.inspection.checks import (
    DIVERGING,
    check_axes,
    check_image_shape,
    check_labels,
    check_weight_matrix,
    given_or_new,
    largest,
)
from fastnn.validation import as_array, check_finite, check_flag, check_integer

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from fastnn.inspection.checks import FittedEstimator
    from fastnn.layers import Layer


def weights_as_images(
    layer_or_w: Layer | FittedEstimator | ArrayLike, image_shape: tuple[int, int]
) -> NDArray[Any]:
    """Return the weights of each neuron of a layer as an image.

    A neuron has one weight for each pixel of its input. A bright pixel raises its output if the
    weight is positive, and lowers it if the weight is negative.

    Parameters
    ----------
    layer_or_w : Layer, fitted estimator or array_like of shape (I, O)
        A layer with weights, an estimator for the first of its layers, or the weights: each column
        is one neuron.
    image_shape : tuple of (int, int)
        Height and width of the input, with I = H * W.

    Returns
    -------
    ndarray of shape (O, H, W)
        A copy, in the dtype of the weights and native byte order.

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


def plot_images(
    images: ArrayLike,
    ax: Axes | None = None,
    *,
    titles: Iterable[object] | None = None,
    n_columns: int | None = None,
    signed: bool = True,
    shared_scale: bool = True,
) -> NDArray[np.float64]:
    """Draw images in a grid.

    Parameters
    ----------
    images : array_like of shape (N, H, W)
        Finite numbers.
    ax : matplotlib.axes.Axes or None, default=None
        Axes to draw on; None makes a new figure with pyplot.
    titles : sequence or None, default=None
        N texts, one above each image.
    n_columns : int or None, default=None
        Images in a row; None makes the grid about square.
    signed : bool, default=True
        If True, zero is white, negative numbers are red and positive ones blue, on a scale that is
        symmetric around zero. If False, the smallest number is white and the largest black.
    shared_scale : bool, default=True
        Whether all images share one colour scale; if False, each has its own.

    Returns
    -------
    ndarray of shape (H', W')
        The whole grid as one image: numbers from -1 (0 if not `signed`) to 1, NaN between the
        images.

    Raises
    ------
    ValueError
        If the images are not finite numbers of that shape, or another argument is out of range.
    MissingExtraError
        If matplotlib is not installed.

    Examples
    --------
    >>> import numpy as np
    >>> from matplotlib.figure import Figure
    >>> from fastnn.inspection import plot_images
    >>> plot_images(np.ones((6, 8, 8)), Figure().subplots(), n_columns=3).shape
    (17, 26)
    """
    check_axes(ax)
    array = as_array("images", images)
    if array.dtype.kind not in "biuf" or array.ndim != 3 or array.size == 0:
        raise ValueError(
            f"images must be numbers of the shape (N, H, W), got shape {array.shape} and dtype "
            f"{array.dtype}"
        )
    check_finite("images", array)
    signed = check_flag("signed", signed)
    shared_scale = check_flag("shared_scale", shared_scale)
    n, height, width = array.shape
    texts = check_labels("titles", titles, n)
    if n_columns is None:
        n_columns = int(np.ceil(np.sqrt(n)))
    n_columns = min(check_integer("n_columns", n_columns, 1), n)

    ax = given_or_new(ax)
    # The images are one pixel apart; there is space for a line of text above them with titles.
    gap = 1 if texts is None else max(1, round(0.4 * height))
    n_rows = -(-n // n_columns)
    mosaic = np.full((n_rows * (height + gap) - gap, n_columns * (width + 1) - 1), np.nan)
    scaled = _to_unit(array.astype(np.float64), signed, shared_scale)
    for k, image in enumerate(scaled):
        top, left = k // n_columns * (height + gap), k % n_columns * (width + 1)
        mosaic[top : top + height, left : left + width] = image
        if texts is not None:
            middle = left + (width - 1) / 2
            ax.text(middle, top - 0.8, texts[k], ha="center", va="bottom", fontsize="small")
    cmap, least = (DIVERGING, -1) if signed else ("gray_r", 0)
    ax.imshow(mosaic, cmap=cmap, vmin=least, vmax=1, interpolation="nearest")
    ax.set(xticks=[], yticks=[])  # axis("off") would also hide the axis labels
    ax.spines[:].set_visible(False)
    if texts is not None:
        ax.set_ylim(top=-0.5 - gap)
    return mosaic


def _to_unit(images: NDArray[np.float64], signed: bool, shared: bool) -> NDArray[np.float64]:
    """Scale images (N, H, W) in place, together or one by one, to -1..1 or to 0..1."""
    groups = images[None] if shared else images
    for group in groups:
        if signed:
            group /= largest(group)
        else:
            group -= group.min()
            group /= group.max() or 1.0
    return images
