"""Trained weights are the same bits as ever: on each CPU with fused multiply-add, after any change.

`golden/make_golden_bits.py` says what is trained, and writes the digests that are expected here.
After a change that is meant to move bits::

    python -m tests.reliability.golden.make_golden_bits

After one that adds a layer, a loss, an optimizer or an option, to its tables too::

    python -m tests.reliability.golden.make_golden_bits --add
"""

import inspect
import json
import os
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

import fastnn
from fastnn import Dropout, Regularization, Residual, Sequential, losses, optimizers
from fastnn.layers import LAYERS, Activation
from tests.reliability.golden import make_golden_bits as golden

ROOT = Path(__file__).parent.parent.parent
CASES = golden.read()
MIXED = [case for case, _ in CASES if "other" not in case]

needs_fused_multiply_add = pytest.mark.skipif(
    not golden.has_fused_multiply_add(),
    reason="without fused multiply-add each product is rounded before its sum, so bits differ",
)


# --- the bits -------------------------------------------------------------------------------------


def message_of(lines, n_trainings):
    """Return what a failed comparison says."""
    shown = "\n  ".join(lines[:5] + ["..."] * (len(lines) > 5))
    return (
        f"{len(lines)} of {n_trainings} trainings gave other bits than ever before:\n  {shown}\n"
        f"`{golden.COMMAND} --check` shows all of them; without --check it writes the new digests"
    )


@needs_fused_multiply_add
@pytest.mark.parametrize("dtype", golden.DTYPES)
@pytest.mark.parametrize("name", golden.NETS)
def test_the_weights_of_a_net_are_the_golden_ones(name, dtype):
    some = [(case, digests) for case, digests in CASES if case.get("net") == name]
    assert some
    lines = golden.differences(some, (dtype,))
    assert not lines, message_of(lines, len(some))


@needs_fused_multiply_add
@pytest.mark.parametrize("dtype", golden.DTYPES)
@pytest.mark.parametrize("name", [x for x in golden.OTHERS if golden.can_run({"other": x})])
def test_the_numbers_of_all_else_are_the_golden_ones(name, dtype):
    some = [(case, digests) for case, digests in CASES if case.get("other") == name]
    assert len(some) == 1
    lines = golden.differences(some, (dtype,))
    assert not lines, message_of(lines, 1)


if "FASTNN_VECTOR_BYTES" not in os.environ:  # whoever sets it runs this whole file at that width

    @needs_fused_multiply_add
    @pytest.mark.slow  # kernels are compiled anew
    @pytest.mark.parametrize("vector_bytes", [16, 32, 64])
    def test_each_vector_width_gives_the_golden_bits(vector_bytes, tmp_path_factory):
        folder = tmp_path_factory.getbasetemp() / f"kernels_{vector_bytes}"
        paths = os.pathsep.join([str(ROOT), str(ROOT / "tests"), *sys.path])
        environment = os.environ | {
            "PYTHONPATH": paths,
            "FASTNN_VECTOR_BYTES": str(vector_bytes),
            "NUMBA_CACHE_DIR": str(folder),
        }
        command = [sys.executable, *golden.COMMAND.split()[1:], "--check", "--few"]
        done = subprocess.run(
            command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False
        )
        said = done.stdout + done.stderr
        assert f"vectors of {8 * vector_bytes} bits" in said, said
        assert done.returncode == 0, said


# --- the digests ----------------------------------------------------------------------------------


def split_mix_64(state):
    """Return a number of SplitMix64 as its authors wrote it, with integers of any length."""
    z = state * 0x9E3779B97F4A7C15 % 2**64
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB % 2**64
    return z ^ (z >> 31)


def test_parameters_and_samples_are_those_of_the_generator():
    expected = [(split_mix_64((8 << 32) + k) >> 43) / 2**20 - 1 for k in range(1, 7)]
    assert golden.fractions((2, 3), 7).ravel().tolist() == expected
    assert golden.integers(6, 5, 7).tolist() == [int((x + 1) * 2**20) % 5 for x in expected]
    many = golden.fractions(10_000, 1)
    assert len(np.unique(many)) > 9900
    assert abs(many.mean()) < 0.02 and abs(many.std() - 3**-0.5) < 0.01


def test_a_digest_sees_the_last_bit():
    array = golden.fractions(100, 1).astype("float32")
    first = golden.digest_of(array)
    assert first == golden.digest_of(array.copy())
    assert first != golden.digest_of(array.reshape(10, 10))
    assert first != golden.digest_of(array.astype("float64"))
    array[50] = np.nextafter(array[50], np.float32(9))
    assert first != golden.digest_of(array)
    with pytest.raises(AssertionError):
        golden.digest_of([1.0, np.nan])


def test_a_training_moves_each_parameter_and_repeats_itself():
    case = MIXED[0] | {"net": "layer norm of 7", "limits": "none", "weights": "none"}
    for dtype in golden.DTYPES:
        net, history, _ = golden.train(case, dtype)
        assert (net.params != golden.make_net(case, dtype).params).mean() > 0.9
        assert len(history) == golden.EPOCHS
        assert golden.digests_of(case, dtype) == golden.digests_of(case, dtype)


def test_what_differs_is_named():
    case, digests = next(pair for pair in CASES if pair[0].get("net") == "narrow")
    right = {dtype: golden.digests_of(case, dtype) for dtype in golden.DTYPES}
    assert golden.differences([(case, right)]) == []
    wrong = right | {"float64": right["float64"] | {"weights": "0"}}
    assert golden.differences([(case, wrong)]) == [f"float64, weights: {golden.name_of(case)}"]
    assert "1 of 14 trainings" in message_of(["float64"], 14)
    assert digests.keys() == right.keys()


# --- the cases have everything --------------------------------------------------------------------


def arguments_of(kind):
    """Return the names and the defaults of a constructor's arguments."""
    parameters = inspect.signature(kind).parameters.values()
    return {parameter.name: parameter.default for parameter in parameters}


def layers_within(layers):
    """Yield all layers, residual blocks and what is in them."""
    for layer in layers:
        yield layer
        if isinstance(layer, Residual):
            yield from layers_within(layer.layers)


def all_layers():
    return [layer for make in golden.NETS.values() for layer in layers_within(make(5, 3))]


def check_arguments(objects, kinds, left_out=(), values_of=vars):
    """Check that each argument of each class has a value other than its default somewhere."""
    for kind in kinds:
        some = [values_of(x) for x in objects if type(x) is kind]
        for name, default in arguments_of(kind).items():
            other = name in left_out or any(
                repr(values.get(name, default)) != repr(default) for values in some
            )
            assert other, f"add {kind.__name__} with another {name} to make_golden_bits.py"


def test_every_layer_is_trained():
    layers = all_layers()
    kinds = {*LAYERS.values(), Activation}
    missing = kinds - {type(layer) for layer in layers}
    assert not missing, f"add a net with {missing} to NETS of make_golden_bits.py"
    # How weights begin does not count: they get others.
    with_arguments = [kind for kind in kinds if kind not in (Activation, Residual)]
    check_arguments(layers, with_arguments, {"init", "dtype", "seed"}, lambda x: x.config())


def test_every_dropout_has_a_seed():
    for layer in all_layers():
        if isinstance(layer, Dropout):
            assert layer.noise_seed is not None


def all_losses():
    public = [x for name, x in vars(losses).items() if inspect.isclass(x) and name[0] != "_"]
    return {x for x in public if issubclass(x, losses.Loss)} - {losses.Loss}


def test_every_loss_is_trained():
    made = [make(3) for make in golden.LOSSES.values()]
    missing = all_losses() - {type(loss) for loss in made}
    assert not missing, f"add {missing} to LOSSES of make_golden_bits.py"
    check_arguments(made, all_losses())
    assert set(golden.LOSSES) >= golden.LOSSES_WITHOUT_LOGARITHM
    with_logarithm = {
        type(make(3)).__name__
        for name, make in golden.LOSSES.items()
        if name not in golden.LOSSES_WITHOUT_LOGARITHM
    }
    assert with_logarithm == {"Poisson", "BinaryCrossEntropy", "SoftmaxCrossEntropy"}


def all_optimizers():
    public = [x for name, x in vars(optimizers).items() if inspect.isclass(x) and name[0] != "_"]
    return {x for x in public if issubclass(x, optimizers.Optimizer)} - {optimizers.Optimizer}


def test_every_optimizer_is_used():
    made = [kind(**settings) for kind, settings in golden.OPTIMIZERS.values()]
    missing = all_optimizers() - {type(optimizer) for optimizer in made}
    assert not missing, f"add {missing} to OPTIMIZERS of make_golden_bits.py"
    limits = {item.name for item in fields(optimizers.Optimizer) if item.kw_only}
    check_arguments(made, all_optimizers(), limits)
    assert {name for settings in golden.LIMITS.values() for name in settings} == limits


def test_every_option_is_used():
    held = {name for settings in golden.HELD.values() for name in settings}
    assert held == {item.name for item in fields(Regularization)}
    given = {
        *("X", "y", "loss", "optimizer", "batch_size", "alpha", "regularization"),
        *("schedule", "sample_weight", "class_weight"),
    }
    without_effect = {"epochs", "shuffle", "n_threads", "verbose", "callbacks", "validation_data"}
    assert set(inspect.signature(Sequential.fit).parameters) - {"self"} == given | without_effect
    public = {x for x in fastnn.__all__ if hasattr(getattr(fastnn, x), "fit")}
    missing = public - {"Sequential"} - {name.partition(",")[0] for name in golden.OTHERS}
    assert not missing, f"add {missing} to OTHERS of make_golden_bits.py"


def test_the_file_has_each_pair_of_the_tables():
    hint = f"run `{golden.COMMAND} --add`"
    cases = [case for case, _ in CASES]
    assert all(map(golden.is_valid, cases)), f"the tables lack what a case has: {hint}"
    assert len({golden.name_of(case) for case in cases}) == len(cases)
    missing = list(golden.missing_pairs(MIXED))
    assert not missing, f"{len(missing)} pairs are in no case, like {missing[0]}: {hint}"
    assert {case["other"] for case in cases if "other" in case} == set(golden.OTHERS), hint
    assert golden.add_cases(cases) == cases, hint


def test_every_case_has_digests_of_both_dtypes():
    for case, digests in CASES:
        assert list(digests) == list(golden.DTYPES)
        for found in digests.values():
            assert ("losses" in found) == (case.get("loss") in golden.LOSSES_WITHOUT_LOGARITHM)
            assert all(len(digest) == 32 for digest in found.values())


def test_few_cases_have_what_sums_over_a_row():
    some = [case for case, _ in golden.representatives(CASES)]
    assert {case["net"] for case in some} == set(golden.FEW_NETS)
    assert any("labels" in case["loss"] for case in some)
    assert {"clip_norm", "both"} & {case["limits"] for case in some}
    assert any(case["loss"] in golden.LOSSES_WITHOUT_LOGARITHM for case in some)
    assert len(some) < 20


def test_a_new_entry_of_a_table_keeps_the_cases_that_there_are(monkeypatch):
    cases = [case for case, _ in CASES]
    more = (*golden.FACTORS["optimizer"], "another")
    monkeypatch.setitem(golden.FACTORS, "optimizer", more)
    added = golden.add_cases(cases)
    assert added[: len(MIXED)] == MIXED
    assert {case["optimizer"] for case in added[len(MIXED) : -len(golden.OTHERS)]} == {"another"}


def test_the_file_is_as_the_script_writes_it(tmp_path, monkeypatch):
    text = golden.FILE.read_text()
    monkeypatch.setattr(golden, "FILE", tmp_path / "bits" / "digests.json")
    golden.write(CASES)
    assert golden.FILE.read_text() == text
    assert len(json.loads(text)) == len(CASES)
