"""Integer codes by which Python tells a kernel what to do, and the record of one plan operation.

Kernels take no functions as arguments: a choice is an integer, made outside the inner loop.
"""

import numpy as np

# Kinds of operation in a plan.
AFFINE, ACTIVATION = 0, 1

# Activations.
IDENTITY, RELU, LEAKY_RELU, LOGISTIC, TANH, SOFTMAX, STEP = range(7)

# Losses. The softmax cross-entropy takes integer labels or rows of target probabilities.
SQUARED_ERROR, BINARY_CROSS_ENTROPY, SOFTMAX_CROSS_ENTROPY, SOFTMAX_CROSS_ENTROPY_DENSE = range(4)

# Update rules. GRADIENT writes the gradient to a vector and leaves the parameters alone.
SGD, MOMENTUM, NESTEROV, RMSPROP, ADAM, ADAMW, GRADIENT = range(7)

# Where the hyperparameters of a rule lie in its float64 vector.
LEARNING_RATE, BETA_1, BETA_2, EPSILON, WEIGHT_DECAY = range(5)
N_HYPERPARAMETERS = 5

OPERATION = np.dtype(
    [
        ("kind", np.int64),
        ("n_in", np.int64),
        ("n_out", np.int64),
        # The activation applied to the result, and its slope for negative input (leaky ReLU).
        ("activation", np.int64),
        ("slope", np.float64),
        # Where the input and the result lie in the workspace, and how far their rows are apart.
        ("x", np.int64),
        ("ldx", np.int64),
        ("out", np.int64),
        ("ldo", np.int64),
        # Weight panels in the parameters: start, distance of panels, distance of rows (0: packed).
        ("w", np.int64),
        ("panel_step", np.int64),
        ("ldw", np.int64),
        ("b", np.int64),
        # Panels of the transposed weights, for the gradient with respect to the input.
        ("wt", np.int64),
        # Whether that gradient is needed, and whether the input came out of a ReLU whose
        # derivative is then applied in the same tile.
        ("needs_dx", np.int64),
        ("masks_dx", np.int64),
        # Whether this operation must apply its own activation's derivative to its gradient.
        ("own_derivative", np.int64),
    ]
)
"""One step of a plan: an affine layer with its activation, or an activation alone."""

ACTIVATION_CODES = {
    "identity": IDENTITY,
    "relu": RELU,
    "leaky_relu": LEAKY_RELU,
    "logistic": LOGISTIC,
    "tanh": TANH,
    "softmax": SOFTMAX,
    "step": STEP,
}
"""Activations by their name."""
