"""The plain loops that anybody can read: what every operation of this package means.

Start here to see how a network computes, from the dot product of one perceptron to the update of
its weights. The fast kernels do the same with other loops, and are tested against these.

Conventions
-----------
Shapes. ``B`` rows in the batch, ``I`` inputs of a layer, ``O`` outputs: ``x (B, I)``,
``w (I, O)``, ``b (O,)``, ``out (B, O)``. A layer computes ``z = x @ w + b``, then an activation
``out = f(z)``.

Gradients. ``dz`` is short for dL/dz, the gradient of the loss L with respect to z, and has the
shape of ``z``. Every operation comes as a pair: ``forward`` computes the result, ``backward``
turns the gradient of the result into the gradient of the argument, by the chain rule.

Results come first and are overwritten, never accumulated, unless the docstring says so. Nothing is
returned, allocated or checked: the callers check shapes.

Types. All arrays of a call have one type, float32 or float64, and sums are kept in that type.
Numbers such as a learning rate are rounded to it once, before the loop, because a single float64
would pull the whole loop up to float64. Arrays may be strided. NaN is never hidden.
"""

from fastnn.kernels.reference.activations import (
    identity_backward,
    identity_forward,
    leaky_relu_backward,
    leaky_relu_forward,
    logistic_backward,
    logistic_forward,
    relu_backward,
    relu_forward,
    softmax_backward,
    softmax_forward,
    step_backward,
    step_forward,
    tanh_backward,
    tanh_forward,
)
from fastnn.kernels.reference.dropout import dropout_mask
from fastnn.kernels.reference.elementwise import (
    elu_backward,
    elu_forward,
    gelu_backward,
    gelu_forward,
    gelu_tanh_backward,
    gelu_tanh_forward,
    hard_tanh_backward,
    hard_tanh_forward,
    mish_backward,
    mish_forward,
    selu_backward,
    selu_forward,
    silu_backward,
    silu_forward,
    softplus_backward,
    softplus_forward,
)
from fastnn.kernels.reference.losses import (
    binary_cross_entropy,
    huber,
    mae,
    mse,
    poisson,
    quantile,
    smooth_targets,
    softmax_cross_entropy,
    softmax_cross_entropy_dense,
)
from fastnn.kernels.reference.normalisation import (
    batch_norm_backward,
    batch_norm_backward_fixed,
    batch_norm_forward,
    column_statistics,
    layer_norm_backward,
    layer_norm_forward,
)
from fastnn.kernels.reference.products import (
    affine_backward_input,
    affine_backward_weight,
    affine_forward,
    dot,
    matmul,
)
from fastnn.kernels.reference.updates import (
    adagrad,
    adam,
    adam_step_size,
    adamw,
    clip_by_norm,
    clip_by_value,
    max_norm,
    momentum,
    nadam,
    nadam_momentum,
    nadam_step_sizes,
    nesterov,
    penalty,
    penalty_backward,
    rmsprop,
    sgd,
    weight_decay,
)

__all__ = [
    "adagrad",
    "adam",
    "adam_step_size",
    "adamw",
    "affine_backward_input",
    "affine_backward_weight",
    "affine_forward",
    "batch_norm_backward",
    "batch_norm_backward_fixed",
    "batch_norm_forward",
    "binary_cross_entropy",
    "clip_by_norm",
    "clip_by_value",
    "column_statistics",
    "dot",
    "dropout_mask",
    "elu_backward",
    "elu_forward",
    "gelu_backward",
    "gelu_forward",
    "gelu_tanh_backward",
    "gelu_tanh_forward",
    "hard_tanh_backward",
    "hard_tanh_forward",
    "huber",
    "identity_backward",
    "identity_forward",
    "layer_norm_backward",
    "layer_norm_forward",
    "leaky_relu_backward",
    "leaky_relu_forward",
    "logistic_backward",
    "logistic_forward",
    "mae",
    "matmul",
    "max_norm",
    "mish_backward",
    "mish_forward",
    "momentum",
    "mse",
    "nadam",
    "nadam_momentum",
    "nadam_step_sizes",
    "nesterov",
    "penalty",
    "penalty_backward",
    "poisson",
    "quantile",
    "relu_backward",
    "relu_forward",
    "rmsprop",
    "selu_backward",
    "selu_forward",
    "sgd",
    "silu_backward",
    "silu_forward",
    "smooth_targets",
    "softmax_backward",
    "softmax_cross_entropy",
    "softmax_cross_entropy_dense",
    "softmax_forward",
    "softplus_backward",
    "softplus_forward",
    "step_backward",
    "step_forward",
    "tanh_backward",
    "tanh_forward",
    "weight_decay",
]
