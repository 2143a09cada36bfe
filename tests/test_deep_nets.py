"""Normalisation, dropout and residual blocks: alone, and in the compiled step."""

import copy
import pickle

import numpy as np
import pytest
from scipy import sparse

from fastnn import (
    ELU,
    GELU,
    SELU,
    SGD,
    Adam,
    Affine,
    BatchNorm,
    Dropout,
    EarlyStopping,
    HardTanh,
    Identity,
    LayerNorm,
    LeakyReLU,
    Mish,
    NAdam,
    Regularization,
    ReLU,
    Residual,
    Sequential,
    Sigmoid,
    SiLU,
    Softmax,
    Softplus,
    Tanh,
)
from fastnn.training import Objective, Trainer

# Widths around vectors and panels of both dtypes, and of more than one panel.
NETS = {
    "batch norm": lambda: [
        *(Affine(5, 30), BatchNorm(30), ReLU(), Affine(30, 17), Tanh(), BatchNorm(17)),
        Affine(17, 3),
    ],
    "batch norm at both ends": lambda: [
        *(BatchNorm(5), Affine(5, 9), ReLU(), Affine(9, 3), BatchNorm(3)),
    ],
    "batch norm twice": lambda: [
        *(Affine(5, 53), BatchNorm(53), BatchNorm(53), LeakyReLU(0.1), Affine(53, 3)),
    ],
    "softmax after batch norm": lambda: [
        *(Affine(5, 26), BatchNorm(26), Softmax(), Affine(26, 3)),
    ],
    "layer norm": lambda: [
        *(LayerNorm(5), Affine(5, 30), LayerNorm(30), ReLU(), Affine(30, 53), LayerNorm(53)),
        *(Sigmoid(), Affine(53, 3)),
    ],
    "dropout": lambda: [
        *(Dropout(0.2, seed=1), Affine(5, 30), ReLU(), Dropout(0.5, seed=2), LeakyReLU(0.2)),
        Affine(30, 3),
    ],
    "activations from their input": lambda: [
        *(ELU(0.5), Affine(5, 30), GELU(), Affine(30, 26), BatchNorm(26), Mish(), ReLU()),
        *(Residual([SiLU(), Affine(26, 26), GELU("tanh")]), Softplus(), SELU(), Affine(26, 3)),
        HardTanh(),
    ],
    "residual": lambda: [
        *(Affine(5, 30), ReLU(), Residual([Affine(30, 30), ReLU(), Affine(30, 30)]), ReLU()),
        Affine(30, 3),
    ],
    "residual that ends in an activation": lambda: [
        *(Affine(5, 7), Residual([Affine(7, 7), Tanh()]), Residual([Tanh()]), Affine(7, 3)),
    ],
    "residual within residual": lambda: [
        Residual([Affine(5, 9), Tanh(), Residual([Affine(9, 9), ReLU()]), Affine(9, 5)]),
        *(Affine(5, 30), Tanh()),
        Residual(
            [
                Residual([Affine(30, 30), BatchNorm(30), ReLU()]),
                *(Dropout(0.3, seed=3), LayerNorm(30), Residual([Residual([Affine(30, 30)])])),
            ]
        ),
        *(Residual([Dropout(0.1, seed=4)]), Residual([Identity()]), Affine(30, 3)),
    ],
}

with_nets = pytest.mark.parametrize("name", NETS)
with_dtypes = pytest.mark.parametrize("dtype", ["float32", "float64"])


def make_net(name, dtype="float64", seed=0):
    net = Sequential(NETS[name](), seed=seed, dtype=dtype)
    net.params += np.random.default_rng(seed).normal(0, 0.1, net.n_params)  # biases too
    return net


def make_data(n=150, seed=1):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, 5)), rng.integers(0, 3, n)


def softmax_gradient(z, labels):
    """Gradient of the mean cross-entropy with respect to logits, and the losses of the rows."""
    shifted = z.astype("float64") - z.max(axis=1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    rows = np.arange(len(z))
    p = np.exp(log_p)
    p[rows, labels] -= 1
    return p / len(z), -log_p[rows, labels]


def train_by_hand(net, X, y, batch_size, learning_rate, order):
    """Train an epoch with the layers' own methods; return the mean loss."""
    total = 0.0
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        dout, losses = softmax_gradient(net.forward(X[rows], training=True), y[rows])
        total += losses.sum()
        net.backward(dout)
        for layer in net.layers:
            for name, value in layer.params.items():
                value -= learning_rate * layer.grads[name]
    return total / len(order)


@with_nets
@with_dtypes
@pytest.mark.parametrize("n_threads", [1, 2])
def test_a_compiled_step_does_what_the_layers_do(name, dtype, n_threads):
    compiled, by_hand = make_net(name, dtype), make_net(name, dtype)
    X, y = make_data()
    tolerance = 1e-12 if dtype == "float64" else 1e-4
    trainer = Trainer(compiled, "softmax_cross_entropy", SGD(0.02), 64, n_threads=n_threads)
    trainer.use_all_threads = True
    trainer.set_data(X, y)
    for epoch in range(2):
        order = np.random.default_rng(epoch).permutation(len(X))
        loss, penalty = trainer.run_epoch(order)
        assert penalty == 0
        expected = train_by_hand(by_hand, X, y, 64, 0.02, order)
        np.testing.assert_allclose(loss, expected, rtol=tolerance)
    trainer.sync()
    for ours, right in zip(compiled.tensors(), by_hand.tensors(), strict=True):
        for array, expected in zip(ours, right, strict=True):
            np.testing.assert_allclose(array, expected, rtol=tolerance, atol=tolerance)


@with_nets
@with_dtypes
def test_the_layers_predict_what_the_compiled_net_does(name, dtype):
    net = make_net(name, dtype)
    X, y = make_data(70)
    net.fit(X, y, epochs=1, batch_size=35)
    tolerance = 1e-12 if dtype == "float64" else 1e-4
    np.testing.assert_allclose(net.forward(X), net.predict(X), rtol=tolerance, atol=tolerance)


@with_nets
def test_gradients_at_evaluation_are_those_of_central_differences(name):
    net = make_net(name)
    X, y = make_data(8)
    net.fit(*make_data(), epochs=1, batch_size=50)  # running statistics of some kind
    dout, _ = softmax_gradient(net.forward(X), y)
    dx = net.backward(dout)
    step = 1e-6

    def loss():
        return softmax_gradient(net.forward(X), y)[1].mean()

    for place in [(0, 0), (3, 2), (7, 4)]:
        value = X[place]
        X[place] = value + step
        above = loss()
        X[place] = value - step
        below = loss()
        X[place] = value
        np.testing.assert_allclose(dx[place], (above - below) / (2 * step), rtol=1e-4, atol=1e-8)


@with_nets
def test_saved_loaded_copied_and_pickled_nets_are_the_same(name, tmp_path):
    net = make_net(name, "float32")
    X, y = make_data()
    net.fit(X, y, epochs=2, batch_size=50)
    out = net.predict(X)
    net.save(tmp_path / "net.safetensors")
    for other in (
        Sequential.load(tmp_path / "net.safetensors"),
        copy.deepcopy(net),
        copy.copy(net),
        pickle.loads(pickle.dumps(net)),
    ):
        assert repr(other) == repr(net)
        np.testing.assert_array_equal(other.predict(X), out)
        np.testing.assert_array_equal(other.memory, net.memory)
    copied, again = copy.deepcopy(net), copy.deepcopy(net)
    copied.fit(X, y, epochs=1, batch_size=50)
    again.fit(X, y, epochs=1, batch_size=50)
    np.testing.assert_array_equal(copied.memory, again.memory)
    assert not np.array_equal(copied.memory, net.memory)


def test_a_state_of_another_net_is_refused():
    with_noise = Trainer(make_net("dropout"), "mse", "adam", 8)
    layers = [Affine(5, 30), Affine(30, 3)]
    without = Trainer(Sequential(layers, seed=0, dtype="float64"), "mse", "adam", 8)
    with pytest.raises(ValueError, match="state must come from a trainer of the same"):
        without.restore(with_noise.state())


@with_nets
def test_the_gradient_vector_is_that_of_the_layers(name):
    net = make_net(name)
    X, y = make_data(40)
    objective = Objective(net, "softmax_cross_entropy", X, y)
    loss, gradient = objective(objective.parameters())
    by_hand = make_net(name)
    dout, losses = softmax_gradient(by_hand.forward(X, training=True), y)
    by_hand.backward(dout)
    np.testing.assert_allclose(loss, losses.mean(), rtol=1e-12)
    leaves = [layer for layer in by_hand.leaves() if layer.params]
    first = [next(iter(layer.grads.values())).ravel() for layer in leaves]
    second = [[*layer.grads.values()][1] for layer in leaves]
    np.testing.assert_allclose(gradient, np.concatenate(first + second), rtol=1e-9, atol=1e-12)


def test_sparse_samples_go_through_normalisation_and_residual_blocks():
    X, y = make_data()
    X[np.abs(X) < 0.7] = 0
    dense, thin = make_net("residual"), make_net("residual")
    dense.fit(X, y, epochs=2, batch_size=32)
    thin.fit(sparse.csr_array(X), y, epochs=2, batch_size=32)
    np.testing.assert_array_equal(dense.params, thin.params)
    dense, thin = make_net("batch norm"), make_net("batch norm")
    dense.fit(X, y, epochs=2, batch_size=32)
    thin.fit(sparse.csr_array(X), y, epochs=2, batch_size=32)
    np.testing.assert_array_equal(dense.memory, thin.memory)


# --- batch normalisation --------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "batch_size"), [(1, 8), (9, 8), (17, 4), (5, 1)])
def test_a_batch_of_one_row_is_refused_before_any_training(n, batch_size):
    net = make_net("batch norm")
    before = net.memory.copy()
    message = r"^batch_size must leave at least 2 rows for each batch with BatchNorm, got \d+ for"
    with pytest.raises(ValueError, match=message):
        net.fit(*make_data(n), batch_size=batch_size)
    np.testing.assert_array_equal(net.memory, before)
    with pytest.raises(ValueError, match=r"^x must have at least 2 rows in training, got 1$"):
        BatchNorm(2).forward(np.ones((1, 2)), training=True)


def test_an_order_that_leaves_one_row_is_refused():
    trainer = Trainer(make_net("batch norm"), "softmax_cross_entropy", "sgd", 8)
    trainer.set_data(*make_data(16))
    with pytest.raises(ValueError, match="the last batch has 1"):
        trainer.run_epoch(np.arange(9))


def test_running_statistics_come_near_those_of_the_data():
    rng = np.random.default_rng(0)
    X = rng.normal([1.0, -20.0], [0.1, 5.0], size=(4000, 2))
    net = Sequential([BatchNorm(2), Affine(2, 2)], seed=0)
    net.fit(X, X[:, 1] > -20, epochs=5, batch_size=100)
    buffers = net.layers[0].buffers
    np.testing.assert_allclose(buffers["running_mean"], [1, -20], rtol=0.1)
    np.testing.assert_allclose(np.sqrt(buffers["running_variance"]), [0.1, 5], rtol=0.2)


def test_the_mean_of_a_column_far_from_zero_costs_no_digits():
    rng = np.random.default_rng(0)
    X = rng.normal(1e4, 1.0, size=(64, 3)).astype("float32")
    net = Sequential([BatchNorm(3), Affine(3, 1)], seed=0)
    trainer = Trainer(net, "mse", SGD(1e-9), 64)
    trainer.set_data(X, np.zeros(64))
    loss, _ = trainer.run_epoch(np.arange(64))
    x = X.astype("float64")
    normal = (x - x.mean(axis=0)) / np.sqrt(x.var(axis=0) + 1e-5)
    np.testing.assert_allclose(loss, (normal @ net.layers[1].params["w"]).var(), rtol=1e-2)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: BatchNorm(0), r"^n_features must be an integer >= 1, got 0$"),
        (lambda: BatchNorm(3, momentum=1.5), r"^momentum must be a number in \[0, 1\], got 1.5$"),
        (lambda: BatchNorm(3, epsilon=0), r"^epsilon must be a finite number > 0, got 0$"),
        (lambda: LayerNorm(3, epsilon=-1), r"^epsilon must be a finite number > 0, got -1$"),
        (lambda: LayerNorm(2.5), r"^n_features must be an integer >= 1, got 2.5$"),
        (lambda: Dropout(1.0), r"^rate must be a number in \[0, 1\), got 1.0$"),
        (lambda: Dropout(-0.1), r"^rate must be a number in \[0, 1\), got -0.1$"),
        (lambda: Dropout("half"), r"^rate must be a number in \[0, 1\), got 'half'$"),
        (lambda: Dropout(0.5, seed=-1), r"^seed must be an integer >= 0, got -1$"),
        (
            lambda: Dropout(0.5, seed=2**63),
            r"^seed must be an integer <= 9223372036854775807, got ",
        ),
        (lambda: Residual([]), r"^layers must be a list of at least one layer, got \[\]$"),
        (lambda: Residual("ReLU"), r"^layers must be a list of at least one layer, got "),
    ],
)
def test_a_wrong_argument_is_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_block_of_other_shapes_is_refused():
    with pytest.raises(
        ValueError, match=r"^layers\[1\] must return as many columns as it takes, 8, got 16: Resid"
    ):
        Sequential([Affine(4, 8), Residual([Affine(8, 16), ReLU()]), Affine(16, 2)])
    with pytest.raises(
        ValueError, match=r"^layers\[1\].layers\[0\] must take the 8 outputs before"
    ):
        Sequential([Affine(4, 8), Residual([Affine(7, 8)]), Affine(8, 2)])
    with pytest.raises(ValueError, match=r"^layers\[1\] must take the 8 outputs before it, got B"):
        Sequential([Affine(4, 8), BatchNorm(7)])


@pytest.mark.parametrize("layer", [BatchNorm(3), LayerNorm(3), Dropout(0.5), Residual([Tanh()])])
def test_a_gradient_without_a_forward_pass_is_refused(layer):
    with pytest.raises(RuntimeError, match="backward needs a forward pass before it"):
        layer.backward(np.ones((2, 3)))


# --- dropout --------------------------------------------------------------------------------------


def test_dropout_draws_anew_for_each_batch_and_each_fit():
    layer = Dropout(0.5, seed=0)
    ones = np.ones((20, 20))
    first, second = layer.forward(ones, training=True), layer.forward(ones, training=True)
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(Dropout(0.5, seed=0).forward(ones, training=True), first)

    net = make_net("dropout")
    X, y = make_data()
    net.fit(X, y, epochs=2, batch_size=50)
    assert net.layers[0].step == net.layers[3].step == 6
    net.fit(X, y, epochs=1, batch_size=50)
    assert net.layers[0].step == 9


def test_layers_without_seeds_take_other_ones_from_the_nets():
    def make(seed):
        return Sequential([Dropout(0.5), Affine(3, 3), Dropout(0.5), Affine(3, 1)], seed=seed)

    net, same, other = make(0), make(0), make(1)
    seeds = [layer.noise_seed for layer in net.layers if isinstance(layer, Dropout)]
    assert len(set(seeds)) == 2
    assert seeds == [layer.noise_seed for layer in same.layers if isinstance(layer, Dropout)]
    assert net.layers[0].noise_seed != other.layers[0].noise_seed
    np.testing.assert_array_equal(net.params, same.params)


def test_a_net_without_dropout_begins_as_before():
    layers = [Affine(4, 3), ReLU(), Affine(3, 2)]
    net = Sequential(layers, seed=3)
    rng = np.random.default_rng(3)
    w = Affine(4, 3, init="he_uniform", seed=rng).params["w"]
    np.testing.assert_array_equal(net.layers[0].params["w"], w)


def test_a_rate_of_zero_changes_nothing():
    X, y = make_data()
    with_it = Sequential([Affine(5, 9), Dropout(0.0, seed=1), Affine(9, 3)], seed=0)
    without = Sequential([Affine(5, 9), Affine(9, 3)], seed=0)
    for net in (with_it, without):
        net.fit(X, y, epochs=2, batch_size=32)
    np.testing.assert_array_equal(with_it.params, without.params)


# --- PyTorch --------------------------------------------------------------------------------------


@pytest.mark.peers
@pytest.mark.parametrize(
    "name", ["batch norm", "batch norm at both ends", "layer norm", "residual"]
)
def test_training_follows_pytorch(name):
    torch = pytest.importorskip("torch")
    nn = torch.nn

    class Around(nn.Module):
        def __init__(self, block):
            super().__init__()
            self.block = block

        def forward(self, x):
            return x + self.block(x)

    def translate(layer):
        simple = {ReLU: nn.ReLU, Tanh: nn.Tanh, Sigmoid: nn.Sigmoid}
        if type(layer) in simple:
            return simple[type(layer)]()
        if isinstance(layer, Residual):
            return Around(nn.Sequential(*map(translate, layer.layers)))
        if isinstance(layer, Affine):
            module = nn.Linear(layer.n_inputs, layer.n_outputs)
            names = ("w", "b")
        else:
            kind = nn.BatchNorm1d if isinstance(layer, BatchNorm) else nn.LayerNorm
            module, names = kind(layer.n_features), ("gamma", "beta")
        module = module.double()
        with torch.no_grad():
            module.weight[:] = torch.from_numpy(layer.params[names[0]].T.copy())
            module.bias[:] = torch.from_numpy(layer.params[names[1]].copy())
        return module

    net = make_net(name)
    model = nn.Sequential(*map(translate, net.layers))
    X, y = make_data()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for start in range(0, len(X), 50):
        optimizer.zero_grad()
        out = model(torch.from_numpy(X[start : start + 50]))
        nn.functional.cross_entropy(out, torch.from_numpy(y[start : start + 50])).backward()
        optimizer.step()
    net.fit(X, y, optimizer=SGD(0.1), epochs=1, batch_size=50, shuffle=False)
    model.eval()
    with torch.no_grad():
        expected = model(torch.from_numpy(X)).numpy()
    np.testing.assert_allclose(net.predict(X), expected, rtol=1e-9, atol=1e-11)


def test_the_first_weights_follow_the_next_activation():
    after = {
        "he_uniform": [ReLU(), LeakyReLU(), GELU(), SiLU(), ELU(), Mish(), Softplus()],
        "lecun_normal": [SELU()],
        "glorot_uniform": [Tanh(), Sigmoid(), Softmax(), HardTanh(), Identity(), Affine(40, 2)],
    }
    for init, others in after.items():
        expected = Affine(30, 40, init=init, seed=0).params["w"]
        for other in others:
            net = Sequential([Affine(30, 40), other], seed=0)
            np.testing.assert_array_equal(net.layers[0].params["w"], expected)
            # Normalisation and dropout between the two change nothing.
            layers = [Affine(30, 40), BatchNorm(40), Dropout(0.5, seed=0), copy.deepcopy(other)]
            net = Sequential(layers, seed=0)
            np.testing.assert_array_equal(net.layers[0].params["w"], expected)
    last = Sequential([Affine(30, 40)], seed=0).layers[0].params["w"]
    np.testing.assert_array_equal(last, Affine(30, 40, init="glorot_uniform", seed=0).params["w"])
    within = Sequential([Residual([Affine(40, 40), ReLU()]), Affine(40, 2)], seed=0)
    expected = Affine(40, 40, init="he_uniform", seed=0).params["w"]
    np.testing.assert_array_equal(within.layers[0].params["0.w"], expected)


@pytest.mark.parametrize("with_data", [True, False])
@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("as_sparse", [True, False])
@pytest.mark.parametrize(
    "duplicate", [copy.deepcopy, lambda trainer: pickle.loads(pickle.dumps(trainer))]
)
def test_a_copy_of_a_trainer_goes_on_alone(duplicate, as_sparse, weighted, with_data):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(22, 5)), rng.integers(0, 3, 22)
    data = sparse.csr_array(X) if as_sparse else X, y, rng.uniform(0, 2, 22) if weighted else None
    layers = [Affine(5, 30), BatchNorm(30), Dropout(0.5), ReLU(), Affine(30, 3)]
    net = Sequential(layers, seed=0, dtype="float64")
    optimizer = NAdam(0.01, clip_norm=0.5)
    rule = Regularization(l2=0.1, max_norm=1.0)
    trainer = Trainer(net, "softmax_cross_entropy", optimizer, 8, 0.1, regularization=rule)
    trainer.set_data(*data)
    trainer.learning_rate = 0.02
    trainer.run_epoch(np.arange(22))
    if not with_data:
        trainer.release_data()

    twin = duplicate(trainer)
    if not with_data:
        trainer.set_data(*data)
        twin.set_data(*data)
    expected = [trainer.run_epoch(np.arange(22)) for _ in range(2)]
    trainer.sync()
    assert [twin.run_epoch(np.arange(22)) for _ in range(2)] == expected
    twin.sync()
    assert twin._net is not net
    np.testing.assert_array_equal(twin._net.params, net.params)
    for name, values in net.layers[1].buffers.items():
        np.testing.assert_array_equal(twin._net.layers[1].buffers[name], values)


def test_early_stopping_restores_the_running_statistics_of_the_best_epoch():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(40, 5)), rng.integers(0, 2, 40)  # nothing to learn: it overfits
    validation = rng.normal(size=(40, 5)), rng.integers(0, 2, 40)
    net = Sequential([Affine(5, 50), BatchNorm(50), ReLU(), Affine(50, 2)], seed=0)
    stopping = EarlyStopping(patience=3)
    history = net.fit(
        X, y, epochs=500, optimizer=Adam(0.01), batch_size=10, validation_data=validation,
        callbacks=[stopping],
    )  # fmt: skip
    assert len(history) == stopping.best_epoch + 1 + 3
    assert net.loss(*validation) == min(history["val_loss"])


def test_a_seed_of_numpy_can_be_saved(tmp_path):
    net = Sequential([Affine(3, 2), Dropout(0.5, seed=np.int64(4))], seed=0)
    net.save(tmp_path / "net.safetensors")
    assert Sequential.load(tmp_path / "net.safetensors").layers[1].noise_seed == 4


@pytest.mark.parametrize("width", [1, 4])
def test_a_block_alone_must_return_as_many_columns_as_it_takes(width):
    with pytest.raises(ValueError, match=f"as many columns as x has, 5, got {width}"):
        Residual([Affine(5, width)]).forward(np.ones((2, 5)))


def test_running_statistics_follow_the_calls_of_an_objective():
    X, y = make_data()
    net = Sequential([BatchNorm(5), Affine(5, 3)], seed=0, dtype="float64")
    objective = Objective(net, "softmax_cross_entropy", X + 3, y)
    theta = objective.parameters()
    first = objective(theta)[0]
    np.testing.assert_allclose(net.layers[0].buffers["running_mean"], 0.1 * (X + 3).mean(axis=0))
    for _ in range(300):
        assert objective(theta)[0] == first
    np.testing.assert_allclose(net.layers[0].buffers["running_mean"], (X + 3).mean(axis=0))
    assert net.loss(X + 3, y) == pytest.approx(first, rel=1e-2)
    np.testing.assert_array_equal(objective.parameters(), theta)
