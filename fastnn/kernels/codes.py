"""Integer codes by which Python tells a kernel what to do, and the columns of a plan.

Kernels take no functions as arguments: a choice is an integer, made outside the inner loop.
"""

# Activations.
IDENTITY, RELU, LEAKY_RELU, LOGISTIC, TANH, SOFTMAX, STEP = range(7)

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

# Losses. The softmax cross-entropy takes integer labels or rows of target probabilities.
(
    SQUARED_ERROR,
    BINARY_CROSS_ENTROPY,
    SOFTMAX_CROSS_ENTROPY,
    SOFTMAX_CROSS_ENTROPY_DENSE,
    POISSON,
) = range(5)

# Update rules. GRADIENT writes the gradient to a vector and leaves the parameters alone.
SGD, MOMENTUM, NESTEROV, RMSPROP, ADAM, ADAMW, GRADIENT = range(7)

# Where the hyperparameters of a rule lie in its float64 vector.
LEARNING_RATE, BETA_1, BETA_2, EPSILON, WEIGHT_DECAY = range(5)
N_HYPERPARAMETERS = 5

# Kinds of operation in a plan: an affine layer with its activation, or an activation alone.
AFFINE, ACTIVATION = range(2)

# A plan is a table of int64 with a row for each operation. Its columns:
(
    KIND,
    N_IN,
    N_OUT,
    FUNCTION,  # the activation applied to the result
    # Where the panels of the input and of the result begin in the workspace, and their distance.
    X_AT,
    X_PANEL,
    OUT_AT,
    OUT_PANEL,
    # Weights in the parameters: start, and the distance of panels where they are packed.
    W_AT,
    W_PANEL,
    B_AT,
    HAS_BIAS,
    WT_AT,  # panels of the transposed weights, for the gradient with respect to the input
    NEEDS_DX,  # whether that gradient is needed
    MASKS_DX,  # whether the input came from a ReLU whose derivative is applied in the same tile
    OWN_DERIVATIVE,  # whether the operation applies its own activation's derivative
) = range(16)
N_COLUMNS = 16
