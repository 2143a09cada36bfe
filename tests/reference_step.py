"""A whole training run in plain NumPy: what the compiled training step must reproduce.

Nothing here uses the package, so that both cannot be wrong in the same way. Arithmetic stays in the
type of the parameters (float32 or float64); only the means over an epoch are taken in float64.

Networks are chains of affine layers, each followed by an activation:

* `sizes`: ``[n_inputs, ..., n_outputs]``, L + 1 numbers for L layers.
* `activations`: L names from ACTIVATIONS, or ``("leaky_relu", negative_slope)``.
* `loss`: a name from LOSSES. Cross-entropies take logits: give the last layer "identity".
* `optimizer`: ``{"name": name, **settings}`` with a name from OPTIMIZERS; settings left out come
  from there. "clip_value" and "clip_norm" go with any.
* `params`: ``[(w (I, O), b (O,)), ...]``, copied.

Rows are taken from ``order`` in slices of `batch_size`; the last batch may be smaller and its
gradient is the mean over the rows that it has. `alpha` is scikit-learn's penalty: a batch of B rows
adds ``0.5 * alpha * ||w||^2 / B`` to its loss and ``alpha * w / B`` to the gradient of each w;
biases are free. `regularization` is a dict, or one for each layer, of "l1" and "l2" (penalties that
do not depend on B), "weight_decay" (in units of the learning rate; that of the optimizer without
it) and "max_norm".
"""

import math

import numpy as np

# --- activations: forward(z), and backward(dout, out) in terms of the output ----------------------


def _logistic(z):
    power = np.exp(-np.abs(z))  # at most 1
    return np.where(z >= 0, 1 / (1 + power), power / (1 + power))


def _softmax(z):
    power = np.exp(z - z.max(axis=1, keepdims=True))
    return power / power.sum(axis=1, keepdims=True)


def _softmax_backward(dout, out):
    return out * (dout - (dout * out).sum(axis=1, keepdims=True))


ACTIVATIONS = {
    "identity": (lambda z: z, lambda dout, out: dout),
    "relu": (lambda z: np.where(z <= 0, 0, z), lambda dout, out: np.where(out <= 0, 0, dout)),
    "leaky_relu": (
        lambda z, slope=0.01: np.where(z <= 0, slope * z, z),
        lambda dout, out, slope=0.01: np.where(out <= 0, slope * dout, dout),
    ),
    "logistic": (_logistic, lambda dout, out: dout * out * (1 - out)),
    "tanh": (np.tanh, lambda dout, out: dout * (1 - out * out)),
    "softmax": (_softmax, _softmax_backward),
    "step": (lambda z: np.heaviside(z, 0).astype(z.dtype), lambda dout, out: np.zeros_like(dout)),
}
ACTIVATIONS["sigmoid"] = ACTIVATIONS["logistic"]


# --- losses: (out (B, O), target) -> loss of each row (B,), gradient of their mean (B, O) ---------


def _columns(target, out):
    """Return targets of shape (B, O) in the type of `out`; a vector is one column."""
    return np.asarray(target, out.dtype).reshape(out.shape)


def _mse(out, target):
    error = out - _columns(target, out)
    return (error**2).mean(axis=1), 2 * error / error.size


def _squared_error(out, target):
    error = out - _columns(target, out)
    return 0.5 * (error**2).sum(axis=1), error / len(error)


def _binary_cross_entropy_sum(z, target):
    t = _columns(target, z)
    loss = np.maximum(z, 0) - z * t + np.log1p(np.exp(-np.abs(z)))
    return loss.sum(axis=1), (_logistic(z) - t) / len(z)


def _binary_cross_entropy(z, target):
    row_loss, dz = _binary_cross_entropy_sum(z, target)
    return row_loss / z.shape[1], dz / z.shape[1]


def _softmax_cross_entropy(z, target):
    """Take integer labels (B,), or rows of class weights (B, O)."""
    target = np.asarray(target)
    if target.ndim == 1:
        target = np.eye(z.shape[1])[target]
    t = _columns(target, z)
    shifted = z - z.max(axis=1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    dz = (np.exp(log_p) * t.sum(axis=1, keepdims=True) - t) / len(z)
    return -(t * log_p).sum(axis=1), dz


def _mae(out, target):
    error = out - _columns(target, out)
    return np.abs(error).mean(axis=1), np.sign(error) / error.size


def _huber(out, target, delta=0.5):
    error = out - _columns(target, out)
    far = np.abs(error) > delta
    loss = np.where(far, delta * (np.abs(error) - 0.5 * delta), 0.5 * error**2)
    return loss.mean(axis=1), np.where(far, delta * np.sign(error), error) / error.size


def _quantile(out, target):
    """The quantiles of the outputs go from 0.1 up; a single target is that of each output."""
    target = np.asarray(target, out.dtype).reshape(len(out), -1)
    error = out - target
    q = np.linspace(0.1, 0.8, out.shape[1], dtype=out.dtype)
    slope = np.where(error > 0, 1 - q, np.where(error < 0, -q, 0))
    return (slope * error).mean(axis=1), slope / error.size


def _smoothed_binary_cross_entropy(z, target, smoothing=0.2):
    t = _columns(target, z)
    return _binary_cross_entropy(z, t * (1 - smoothing) + smoothing / 2)


def _smoothed_softmax_cross_entropy(z, target, smoothing=0.2):
    target = np.asarray(target)
    t = np.eye(z.shape[1])[target] if target.ndim == 1 else target
    return _softmax_cross_entropy(z, t * (1 - smoothing) + smoothing / z.shape[1])


LOSSES = {
    "mse": _mse,  # mean over rows and outputs
    "squared_error": _squared_error,  # half the sum over outputs, mean over rows
    "binary_cross_entropy": _binary_cross_entropy,  # mean over rows and outputs
    "binary_cross_entropy_sum": _binary_cross_entropy_sum,  # sum over outputs, mean over rows
    "softmax_cross_entropy": _softmax_cross_entropy,  # mean over rows
    "mae": _mae,  # mean over rows and outputs
    "huber": _huber,  # mean over rows and outputs, delta 0.5
    "quantile": _quantile,  # mean over rows and outputs
    "smoothed_binary_cross_entropy": _smoothed_binary_cross_entropy,  # by 0.2
    "smoothed_softmax_cross_entropy": _smoothed_softmax_cross_entropy,  # by 0.2
}


# --- optimizers -----------------------------------------------------------------------------------

OPTIMIZERS = {
    "sgd": {"learning_rate": 0.01, "momentum": 0.0, "nesterov": False},
    "rmsprop": {"learning_rate": 1e-3, "rho": 0.9, "epsilon": 1e-7},
    "adam": {"learning_rate": 1e-3, "beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-8},
    "adamw": {
        "learning_rate": 1e-3,
        "beta_1": 0.9,
        "beta_2": 0.999,
        "epsilon": 1e-8,
        "weight_decay": 0.01,
    },
    "adagrad": {"learning_rate": 0.01, "epsilon": 1e-10},
    "nadam": {"learning_rate": 2e-3, "beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-8},
}


def _nadam_momentum(beta_1, t):
    return beta_1 * (1 - 0.5 * 0.96 ** (t * 0.004))


def _update(p, state, g, t, name, learning_rate, **settings):
    """Overwrite one parameter array and its two memory arrays; t counts updates from 1."""
    first, second = state
    if name == "sgd":
        keep = settings["momentum"]
        first[:] = keep * first - learning_rate * g
        p += keep * first - learning_rate * g if settings["nesterov"] else first
    elif name == "rmsprop":
        rho = settings["rho"]
        second[:] = rho * second + (1 - rho) * g**2
        p -= learning_rate * g / (np.sqrt(second) + settings["epsilon"])
    elif name == "adagrad":
        second += g**2
        p -= learning_rate * g / (np.sqrt(second) + settings["epsilon"])
    else:
        beta_1, beta_2 = settings["beta_1"], settings["beta_2"]
        first[:] = beta_1 * first + (1 - beta_1) * g
        second[:] = beta_2 * second + (1 - beta_2) * g**2
        if name == "nadam":
            now, later = _nadam_momentum(beta_1, t), _nadam_momentum(beta_1, t + 1)
            product = math.prod(_nadam_momentum(beta_1, k) for k in range(1, t + 1))
            mean = later * first / (1 - product * later) + (1 - now) * g / (1 - product)
            root = np.sqrt(second / (1 - beta_2**t))
            p -= learning_rate * mean / (root + settings["epsilon"])
            return
        step_size = learning_rate * math.sqrt(1 - beta_2**t) / (1 - beta_1**t)
        p -= step_size * first / (np.sqrt(second) + settings["epsilon"])


# --- the run --------------------------------------------------------------------------------------


class ReferenceTrainer:
    """Train as `fastnn.training.Trainer` does; see the top of this file for the arguments.

    Parameters
    ----------
    sizes, activations, loss, optimizer, params
        The network and how it learns.
    X : array-like of shape (N, I)
        Converted to the type of the parameters.
    y : array-like of shape (N,) or (N, O)
        Targets, as the loss takes them.
    batch_size : int
        Rows of a batch.
    alpha : float
        L2 penalty on the weights.
    regularization : dict or list of dict, optional
        What holds the weights of all layers back, or those of each.

    Attributes
    ----------
    params : list of (w, b)
        Updated in place by `run_epoch`.
    learning_rate : float
        May be changed between epochs.
    step_count : int
        Number of updates so far.
    """

    def __init__(
        self,
        sizes,
        activations,
        loss,
        optimizer,
        params,
        X,
        y,
        batch_size,
        alpha=0.0,
        regularization=None,
    ):
        assert len(sizes) - 1 == len(activations) == len(params)
        self.params = [(np.array(w), np.array(b)) for w, b in params]
        for (w, b), n_inputs, n_outputs in zip(self.params, sizes[:-1], sizes[1:], strict=True):
            assert w.shape == (n_inputs, n_outputs)
            assert b.shape == (n_outputs,)
        self.dtype = self.params[0][0].dtype
        self.activations = [
            (name, ()) if isinstance(name, str) else (name[0], name[1:]) for name in activations
        ]
        self.loss = LOSSES[loss]
        self.settings = OPTIMIZERS[optimizer["name"]] | optimizer
        self.learning_rate = self.settings.pop("learning_rate")
        self._clip_value = self.settings.pop("clip_value", np.inf)
        self._clip_norm = self.settings.pop("clip_norm", np.inf)
        decay = self.settings.pop("weight_decay", 0.0)
        if not isinstance(regularization, list):
            regularization = [regularization or {}] * len(params)
        none = {"l1": 0.0, "l2": 0.0, "weight_decay": decay, "max_norm": np.inf}
        self._regularization = [none | given for given in regularization]
        assert all(len(given) == 4 for given in self._regularization)
        self.X, self.y = np.asarray(X, self.dtype), np.asarray(y)
        self.batch_size, self.alpha = batch_size, float(alpha)
        self.step_count = 0
        self._states = [(np.zeros_like(p), np.zeros_like(p)) for p in self._flat(self.params)]

    @staticmethod
    def _flat(pairs):
        return [array for pair in pairs for array in pair]

    def forward(self, x):
        """Return the input and the output of every layer, (B, size) each."""
        outs = [np.asarray(x, self.dtype)]
        for (w, b), (name, slope) in zip(self.params, self.activations, strict=True):
            outs.append(ACTIVATIONS[name][0](outs[-1] @ w + b, *slope))
        return outs

    def gradients(self, x, y):
        """Return the loss of each row (B,) and [(dw, db), ...] of the mean loss plus penalty."""
        outs = self.forward(x)
        row_loss, dout = self.loss(outs[-1], y)
        grads = []
        for layer in reversed(range(len(self.params))):
            w = self.params[layer][0]
            name, slope = self.activations[layer]
            dz = ACTIVATIONS[name][1](dout, outs[layer + 1], *slope)
            rule = self._regularization[layer]
            dw = outs[layer].T @ dz + self.alpha * w / len(dz)
            dw += rule["l1"] * np.sign(w) + rule["l2"] * w
            grads.insert(0, (dw, dz.sum(axis=0)))
            dout = dz @ w.T
        return row_loss, grads

    def penalty(self, n_rows):
        """Return what is added to the loss of a batch of some rows, in float64."""
        total = 0.0
        for (w, _), rule in zip(self.params, self._regularization, strict=True):
            w = w.astype(np.float64)
            l2 = rule["l2"] + self.alpha / n_rows
            total += rule["l1"] * np.abs(w).sum() + 0.5 * l2 * (w**2).sum()
        return total

    def clip(self, grads):
        """Clip the gradients of all parameters, in place: by value, then by their norm together."""
        for g in grads:
            np.clip(g, -self._clip_value, self._clip_value, out=g)
        norm = np.sqrt(sum((g.astype(np.float64) ** 2).sum() for g in grads))
        if norm > self._clip_norm:
            for g in grads:
                g *= self._clip_norm / norm

    def run_epoch(self, order):
        """Make one pass over the rows in `order`; return the mean loss of a row, and the penalty.

        Both are taken before each update and divided by the rows seen; scikit-learn's loss curve
        is their sum.
        """
        data_loss = penalty = 0.0
        for start in range(0, len(order), self.batch_size):
            rows = order[start : start + self.batch_size]
            row_loss, grads = self.gradients(self.X[rows], self.y[rows])
            data_loss += row_loss.sum(dtype=np.float64)
            penalty += len(rows) * self.penalty(len(rows))
            self.step_count += 1
            grads = self._flat(grads)
            self.clip(grads)
            for (w, _), rule in zip(self.params, self._regularization, strict=True):
                w -= self.learning_rate * rule["weight_decay"] * w  # biases do not decay
            for p, state, g in zip(self._flat(self.params), self._states, grads, strict=True):
                _update(
                    p,
                    state,
                    g,
                    self.step_count,
                    learning_rate=float(self.learning_rate),
                    **self.settings,
                )
            for (w, _), rule in zip(self.params, self._regularization, strict=True):
                norms = np.linalg.norm(w, axis=0)
                too_long = norms > rule["max_norm"]
                w[:, too_long] *= rule["max_norm"] / norms[too_long]
        return data_loss / len(order), penalty / len(order)


def train(sizes, activations, loss, optimizer, params, X, y, orders, batch_size, alpha=0.0, **more):
    """Train for one epoch per entry of `orders`; see the top of this file for the arguments.

    Parameters
    ----------
    orders : iterable of integer arrays
        The rows to visit in each epoch, in this order.

    Returns
    -------
    params : list of (w, b)
        The trained parameters, in the type of those given.
    losses : list of (data_loss, penalty)
        One pair per epoch, as `ReferenceTrainer.run_epoch` returns it.
    """
    trainer = ReferenceTrainer(
        sizes, activations, loss, optimizer, params, X, y, batch_size, alpha, **more
    )
    losses = [trainer.run_epoch(order) for order in orders]
    return trainer.params, losses
