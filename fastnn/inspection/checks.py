"""Checks of what users give to this package, and colours that its pictures share."""

import numpy as np

from fastnn.errors import require, shown
from fastnn.layers import Layer
from fastnn.network import Sequential
from fastnn.validation import as_array, check_finite, check_inputs, check_integer

POSITIVE, NEGATIVE = "#2166ac", "#b2182b"
"""Blue and red, told apart by the colour-blind, too: the ends of `DIVERGING`."""

DIVERGING = "RdBu"
"""Colours of signed numbers: red below zero, white at zero, blue above."""

TRAIN, VALIDATION = "#1f77b4", "#d95f02"


def check_net(net):
    """Return a net, or raise ValueError if it is none."""
    if not isinstance(net, Sequential):
        raise ValueError(f"net must be a Sequential, got {shown(net)}")
    return net


def check_rows(net, X, name="X"):
    """Return finite samples X (N, I) of the net's dtype, N at least 1, or raise ValueError."""
    x = check_inputs(X, check_net(net).dtype, net.n_inputs, name)
    if len(x) == 0:
        raise ValueError(f"{name} must have at least 1 row, got 0")
    return x


def check_row(net, x):
    """Return one finite sample x (I,) or (1, I) as (1, I), or raise ValueError."""
    x = as_array("x", x)
    row = check_rows(net, x[None] if x.ndim == 1 else x, "x")
    if len(row) != 1:
        raise ValueError(f"x must be one input, got {len(row)} rows")
    return row


def check_table(name, values):
    """Return a table of finite numbers (N, I), N and I at least 1, or raise ValueError."""
    array = as_array(name, values)
    if array.dtype.kind not in "biuf":
        raise ValueError(f"{name} must be numeric, got dtype {array.dtype}")
    if array.ndim != 2 or array.size == 0:
        raise ValueError(f"{name} must have rows and columns, got shape {array.shape}")
    check_finite(name, array)
    return array


def check_weight_matrix(name, layer_or_w):
    """Return the weights (I, O) of a layer that has some, or those given, or raise ValueError."""
    if isinstance(layer_or_w, Layer):
        w = layer_or_w.params.get("w")
        if w is None or w.ndim != 2:
            raise ValueError(
                f"{name} must be weights or a layer with some, got {shown(layer_or_w)}"
            )
        return w
    return check_table(name, layer_or_w)


def check_image_shape(image_shape, n_pixels):
    """Return (height, width) of images with so many pixels, or raise ValueError."""
    try:
        height, width = image_shape
    except (TypeError, ValueError):
        raise ValueError(f"image_shape must be (height, width), got {shown(image_shape)}") from None
    height = check_integer("image_shape[0]", height, 1)
    width = check_integer("image_shape[1]", width, 1)
    if height * width != n_pixels:
        raise ValueError(
            f"image_shape must have {n_pixels} pixels, got {height} x {width} = {height * width}"
        )
    return height, width


def check_labels(name, labels, n):
    """Return n labels as a list of str, or None for None, or raise ValueError."""
    if labels is None:
        return None
    try:
        labels = [str(label) for label in labels]
    except TypeError:
        raise ValueError(f"{name} must be a sequence, got {shown(labels)}") from None
    if len(labels) != n:
        raise ValueError(f"{name} must have {n} entries, got {len(labels)}")
    return labels


def check_axes(ax):
    """Return matplotlib axes, or raise ValueError.

    Raises
    ------
    MissingExtraError
        If matplotlib is not installed.
    """
    if not isinstance(ax, require("matplotlib.axes", "plot").Axes):
        raise ValueError(f"ax must be a matplotlib Axes, got {shown(ax)}")
    return ax


def largest(values):
    """Return the largest absolute value, as a scale for colours: 1 where all are zero."""
    return float(np.nanmax(np.abs(values))) or 1.0
