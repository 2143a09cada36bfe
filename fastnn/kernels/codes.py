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

# Losses. The softmax cross-entropy takes integer labels or rows of target probabilities. The
# absolute error is twice that of the quantile 1/2.
(
    SQUARED_ERROR,
    BINARY_CROSS_ENTROPY,
    SOFTMAX_CROSS_ENTROPY,
    SOFTMAX_CROSS_ENTROPY_DENSE,
    POISSON,
    HUBER,
    QUANTILE,
) = range(7)

# Update rules. GRADIENT writes the gradient to a vector and leaves the parameters alone.
SGD, MOMENTUM, NESTEROV, RMSPROP, ADAM, ADAGRAD, NADAM, GRADIENT = range(8)

# Where the hyperparameters of a rule lie in its float64 vector. MOMENTUM_PRODUCT is NAdam's memory:
# the product of the momenta of all updates so far.
LEARNING_RATE, BETA_1, BETA_2, EPSILON, CLIP_VALUE, MOMENTUM_PRODUCT = range(6)
N_HYPERPARAMETERS = 6

# Kinds of operation in a plan: an affine layer, an activation of one row after the other, a kernel
# of its own for some rows (`fastnn.kernels.operation`), one for some columns of the whole batch, a
# sum with an earlier result, and the place where the two terms of that sum part.
AFFINE, ACTIVATION, EXTERN, BATCH, ADD, FORK = range(6)

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
    # ADD: the second term. FORK: the result of its ADD, whose gradient flows back to here too.
    OTHER_AT,
    # EXTERN and BATCH: addresses of kernels; a place for what they remember from the way forward
    # (and among the gradients for those of their parameters), in vectors STATE_STEP apart.
    FORWARD,
    BACKWARD,
    ACTIVATE,  # any operation's: the activation, unless a product does it on its way
    DIFFERENTIATE,
    SUM_GRADIENT,
    CONSTRAIN,  # any layer's: what is done to its weights after an update
    STATE_AT,
    STATE_STEP,
    # How many vectors of parameters they have: none, or a scale at W_AT and a shift at B_AT, or
    # running statistics as well.
    N_VECTORS,
    MEAN_AT,
    VARIANCE_AT,
    # Dropout: where its random numbers come from.
    SEED,
    FIRST_STEP,
) = range(30)
N_COLUMNS = 30
VECTORS = (W_AT, B_AT, MEAN_AT, VARIANCE_AT)

# Beside it, a table of float64: up to three numbers of the layer itself, the slope of the
# activation for negative input (leaky ReLU), and of the weights penalties, decay and largest norm.
OWN, SLOPE, L1, L2, DECAY, MAX_NORM = 0, 3, 4, 5, 6, 7
N_NUMBERS = 8
