"""JAX: a whole epoch is one compiled call, whose buffers are used again for the next."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from contest.rivals.base import LEARNING_RATE, Rival

_ACTIVATIONS = {"relu": jax.nn.relu, "tanh": jnp.tanh, "logistic": jax.nn.sigmoid}


def forward(activation, params, x):
    """Return the net's outputs for the rows of x."""
    *hidden, (w, b) = params
    for hidden_w, hidden_b in hidden:
        x = _ACTIVATIONS[activation](x @ hidden_w + hidden_b)
    return x @ w + b


class Jax(Rival):
    """An epoch is a `lax.scan` of steps.

    The order of the samples is drawn by NumPy: `jax.random.permutation` sorts random keys, which
    takes longer than many a net's steps.
    """

    def build(self):
        cell, X, y = self.cell, self.X, self.y
        # Indices and counters are 32 bits wide where the arithmetic is.
        jax.config.update("jax_enable_x64", cell.dtype == "float64")
        self._optimizer = optimizer = optax.adam(LEARNING_RATE)
        n_samples = len(X)

        def loss(params, x, y):
            out = forward(cell.activation, params, x)
            if not self.classifies:
                return jnp.mean((out - y) ** 2)
            return optax.softmax_cross_entropy_with_integer_labels(out, y).mean()

        def epoch(params, state, X, y, order):
            def step(carry, indices):
                params, state = carry
                grads = jax.grad(loss)(params, X[indices], y[indices])
                updates, state = optimizer.update(grads, state, params)
                return (optax.apply_updates(params, updates), state), None

            whole = n_samples // cell.batch * cell.batch
            carry, _ = jax.lax.scan(step, (params, state), order[:whole].reshape(-1, cell.batch))
            if whole < n_samples:
                carry, _ = step(carry, order[whole:])
            return carry

        self._epoch = jax.jit(epoch, donate_argnums=(0, 1))
        self._predict = jax.jit(lambda params, x: forward(cell.activation, params, x))
        self._data = jnp.array(X), jnp.array(y.astype(np.int32) if self.classifies else y)

    def reset(self, seed):
        self._params = [(jnp.array(w), jnp.array(b)) for w, b in self.cell.weights(seed)]
        self._state = self._optimizer.init(self._params)
        self._rng = np.random.default_rng(seed)

    def run_epochs(self, count):
        for _ in range(count):
            order = self._rng.permutation(len(self.X)).astype(np.int32)
            self._params, self._state = self._epoch(self._params, self._state, *self._data, order)
        jax.block_until_ready((self._params, self._state))

    def predict(self, X):
        out = np.asarray(self._predict(self._params, X))
        return out.argmax(axis=1) if self.classifies else out

    def prepare_inference(self, cell, weights):
        jax.config.update("jax_enable_x64", cell.dtype == "float64")
        params = [(jnp.array(w), jnp.array(b)) for w, b in weights]
        compiled = jax.jit(lambda x: forward(cell.activation, params, x))
        return lambda x: np.asarray(compiled(x))

    def release(self):
        super().release()
        jax.clear_caches()
