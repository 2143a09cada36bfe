"""Run with a side: nets of all kinds on memory between pages that nobody may touch.

``python tests/guarded_memory.py end`` puts each array that kernels get by its address right before
a page that may be neither read nor written, ``start`` right behind one: a kernel that leaves its
array ends the process with SIGSEGV. What is left between the array and the page, less than two
cache lines, holds NaN, and must still do so in the end. ``plain`` does the same on ordinary memory.
All print a digest of all results, which must not depend on that, and the fields of jobs whose
arrays were not guarded. ``short`` gives a kernel an array that is too small, and must not survive.
"""

import ctypes
import gc
import hashlib
import mmap
import sys

import numpy as np

PAGE = mmap.PAGESIZE
_LINES = 128
_CANARY = 0xFF  # bytes of it are NaN in every type of float
_starts = set()  # addresses of guarded arrays
_slack = []  # what is left between them and their page
_counts = {"arrays": 0, "touched": 0}
_inputs = []  # copies that kernels read, alive
_unguarded = set()
_TABLES = ("operations", "blocks", "tasks", "cost_before", "segments")
_READ_ONLY = ("batch_weight", "hyperparameters", "labels", "loss_parameters", "rates")


def guarded_bytes(n, side):
    """Return n bytes, all zero, at that side of guarded pages."""
    libc = ctypes.CDLL(None, use_errno=True)
    room = -(-max(n, 1) // _LINES) * _LINES
    pages = -(-room // PAGE)
    memory = mmap.mmap(-1, (pages + 2) * PAGE)
    base = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    for page in (base, base + (pages + 1) * PAGE):
        if libc.mprotect(ctypes.c_void_p(page), PAGE, 0):
            raise OSError(ctypes.get_errno(), "mprotect")
    start = PAGE + (pages * PAGE - room if side == "end" else 0)
    everything = np.frombuffer(memory, np.uint8, room, start)
    everything[n:] = _CANARY
    _starts.add(base + start)
    _slack.append(everything[n:])
    return everything[:n]


def install(side):
    """Let all memory of jobs, plans and workspaces be guarded: before fastnn's parts are loaded."""
    from fastnn.engine import plan
    from fastnn.kernels import memory

    taken = {"fastnn.engine.predictor", "fastnn.training.memory", "fastnn.network"}
    assert not taken & {*sys.modules}, "they have the functions that are replaced here"

    def aligned_zeros(n, dtype):
        return guarded_bytes(n * np.dtype(dtype).itemsize, side).view(dtype)

    def guarded_copy(array):
        order = "F" if array.flags.f_contiguous and not array.flags.c_contiguous else "C"
        copy = aligned_zeros(array.size, array.dtype).reshape(array.shape, order=order)
        copy[...] = array
        return copy

    class Numpy:
        """NumPy, but for the arrays that results are written to."""

        def __getattr__(self, name):
            return getattr(np, name)

        def empty(self, shape, dtype=float):
            return aligned_zeros(int(np.prod(shape)), dtype).reshape(shape)

        zeros = empty

    class Table(np.ndarray):
        """A table of a plan. Copies of it are guarded too."""

        def copy(self, order="C"):
            return guarded_copy(self)

    build = plan.build

    def guarded_build(*arguments, **options):
        plan = build(*arguments, **options)
        tables = {name: value for name, value in plan._asdict().items() if name in _TABLES}
        assert len(tables) == len(_TABLES)
        return plan._replace(**{name: guarded_copy(t).view(Table) for name, t in tables.items()})

    set_field = memory.Job.__setitem__

    def watched(job, name, value):
        is_array = isinstance(value, np.ndarray) and value.size > 0
        if is_array and memory.address_of(value) not in _starts:
            if name in _READ_ONLY:
                value = guarded_copy(value)
                _inputs.append(value)
            else:
                _unguarded.add(name)
        set_field(job, name, value)

    def guarded_kernels(row, *more):
        """Return kernels of ordinary arrays that work on guarded copies of them."""

        def on_copies(kernel):
            def run(out, *arguments):
                result = guarded_copy(out)
                kernel(result, *(guarded_copy(a) if np.ndim(a) else a for a in arguments))
                out[...] = result

            return run

        return [*map(on_copies, array_kernels(row, *more))]

    if side != "plain":
        memory.aligned_zeros, memory.Job.__setitem__ = aligned_zeros, watched
        plan.build = guarded_build
        from fastnn import linalg
        from fastnn.engine import predictor
        from fastnn.kernels.activations import array_kernels
        from fastnn.layers import activations
        from fastnn.training import memory as of_training

        linalg.np = predictor.np = of_training.np = Numpy()
        linalg.array_kernels = activations.array_kernels = guarded_kernels
        return guarded_copy
    return np.array


def release():
    """Count the arrays beside which somebody has written, and let all go that are not in use."""
    _counts["arrays"] += len(_slack)
    _counts["touched"] += sum(bool((slack != _CANARY).any()) for slack in _slack)
    _inputs.clear()
    _slack.clear()  # a process may have some ten thousand pieces of memory
    gc.collect()


class Results:
    """A digest of arrays."""

    def __init__(self):
        self._sum = hashlib.sha256()

    def add(self, array):
        self._sum.update(np.ascontiguousarray(array).tobytes())

    def __repr__(self):
        return self._sum.hexdigest()


def nets(fastnn, n_inputs, n_outputs, dtype):
    """Yield nets that have every kind of layer between them, of widths around the tile's."""
    elementwise = [fastnn.ELU(), fastnn.SELU(), fastnn.GELU(), fastnn.GELU("tanh"), fastnn.SiLU()]
    elementwise += [fastnn.Softplus(), fastnn.Mish(), fastnn.HardTanh()]
    functions = [fastnn.ReLU(), fastnn.LeakyReLU(), fastnn.Sigmoid(), fastnn.Tanh()]
    functions += [fastnn.Softmax(), fastnn.Step(), fastnn.Identity()]
    width = 17
    layers = [fastnn.Affine(n_inputs, width)]
    for function in functions:
        layers += [function, fastnn.Affine(width, width + 1, bias=False)]
        width += 1
    yield fastnn.Sequential([*layers, fastnn.Affine(width, n_outputs)], seed=1, dtype=dtype)
    layers = [fastnn.LayerNorm(n_inputs), fastnn.Affine(n_inputs, 33)]
    for function in elementwise:
        layers += [fastnn.Residual([fastnn.Affine(33, 5), function, fastnn.Affine(5, 33)])]
    layers += [fastnn.Dropout(0.3, seed=2), fastnn.Affine(33, n_outputs)]
    yield fastnn.Sequential(layers, seed=2, dtype=dtype)
    block = fastnn.Residual([fastnn.BatchNorm(9), fastnn.ReLU(), fastnn.Affine(9, 9)])
    short = fastnn.Regularization(l1=0.01, max_norm=1.0)
    layers = [fastnn.Affine(n_inputs, 9, regularization=short), fastnn.BatchNorm(9), block]
    layers += [fastnn.LayerNorm(9), fastnn.Affine(9, n_outputs)]
    yield fastnn.Sequential(layers, seed=3, dtype=dtype)


def train_everything(guard, results):
    """Train and predict with all losses, optimizers and layers; put all numbers into `results`."""
    import scipy.sparse

    import fastnn
    from fastnn import losses, optimizers
    from fastnn.training import Trainer

    # The seven losses and the six rules, with and without a limit of the gradient.
    rng = np.random.default_rng(0)
    rules = [fastnn.SGD(), fastnn.SGD(momentum=0.9), fastnn.SGD(momentum=0.9, nesterov=True)]
    rules += [optimizers.get(name) for name in ("rmsprop", "adam", "adamw", "adagrad", "nadam")]
    rules += [fastnn.Adam(clip_norm=0.5), fastnn.SGD(clip_value=0.1, clip_norm=1.0)]
    kinds = [losses.get(name) for name in losses._BY_NAME] + [losses.Huber(0.5)]
    turn = 0
    for dtype in ("float32", "float64"):
        for n_rows, n_inputs, n_outputs, batch in ((2, 1, 1, 2), (37, 5, 3, 11), (131, 33, 17, 66)):
            x = guard(rng.standard_normal((n_rows, n_inputs)).astype(dtype))
            targets = rng.random((n_rows, n_outputs)).astype(dtype)
            labels = rng.integers(0, n_outputs, n_rows)
            weights = guard(rng.random(n_rows))
            for loss in kinds:
                dense = [guard(targets)] + [guard(labels)] * (loss.name == "softmax_cross_entropy")
                for y in dense:
                    for net in nets(fastnn, n_inputs, n_outputs, dtype):
                        turn += 1
                        rule = rules[turn % len(rules)]
                        trainer = Trainer(net, loss, rule, batch, 1e-3, 1 + turn % 2)
                        trainer.use_all_threads = True
                        data = x
                        if turn % 3 == 0 and isinstance(net.layers[0], fastnn.Affine):
                            rows = scipy.sparse.csr_array(np.where(x > 0, x, 0))
                            data = net.check_samples(rows)
                            data.data, data.indices = guard(data.data), guard(data.indices)
                            data.indptr = guard(data.indptr)
                        trainer.set_data(data, y, weights if turn % 2 else None)
                        for _ in range(2):
                            trainer.run_epoch(guard(rng.permutation(n_rows)))
                        trainer.sync()
                        results.add(net.params)
                        for part in (x, guard(x[:1]), guard(x[:2])):
                            results.add(net.predict(part, n_threads=1 + turn % 2))
                            results.add(net.freeze().predict(part))
                        results.add(net.predict(data))
                        if turn % 5 == 0:
                            results.add(net.backward(np.ones_like(net.forward(x))))
                        del trainer, data
                        if turn % 3 == 0:
                            release()
            for m, k, n in ((1, 1, 1), (n_rows, n_inputs, n_outputs), (7, 3, 65), (70, 257, 33)):
                a, b, bias = rng.random((m, k)), rng.random((k, n)), rng.random(n)
                a, b, bias = (guard(array.astype(dtype)) for array in (a, b, bias))
                for options in ({}, {"bias": bias, "activation": "relu"}, {"n_threads": 2}):
                    results.add(fastnn.matmul(a, b, out=guard(np.zeros((m, n), dtype)), **options))
                    results.add(fastnn.matmul(a, guard(np.asfortranarray(b)), **options))
    return turn


def give_too_little(guard):
    """Train on activations for which there is too little memory."""
    import fastnn
    from fastnn.training import Trainer

    trainer = Trainer(fastnn.Sequential([fastnn.Affine(40, 700)], seed=0), "mse", "sgd", 64)
    trainer.set_data(np.ones((64, 40)), np.ones((64, 700)))
    memory = trainer.memory
    memory.acts = guard(np.zeros(len(memory.acts) - PAGE // 2, np.float32))
    trainer.run_epoch(np.arange(64))


if __name__ == "__main__":
    how = sys.argv[1]
    guard = install("end" if how == "short" else how)
    if how == "short":
        give_too_little(guard)
    results = Results()
    fits = train_everything(guard, results)
    release()
    print(results, fits, _counts["arrays"], _counts["touched"], ",".join(sorted(_unguarded)))
