"""Machine code kept on disk: never stale, found again, and not missed where it cannot be kept.

Each test works on a copy of the package, in processes of its own.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scenarios import without_waits

import fastnn
from fastnn.runtime import kernel_cache

# Runs a kernel and a member of a team; prints their results and where their machine code came from.
SCRIPT = """
import json, warnings
import numpy as np
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    import fastnn
    from fastnn.runtime import kernel_cache as _cache, jit as _jit
    from fastnn.kernels.activations import ACTIVATIONS, array_kernels
    activate, _ = array_kernels(ACTIVATIONS["tanh"])
    out = np.full((1, 3), 2.0, np.float32)
    activate(out, 0.0)
    product = fastnn.matmul(np.full((1, 2), 2.0), np.full((2, 1), 3.0), n_threads=1)
members = [compiled.cache_hits for compiled in _jit._members]
print(json.dumps({
    "package": fastnn.__file__,
    "cache": _cache.cache_folder(),
    "tanh": float(out[0, 0]),
    "product": float(product[0, 0]),
    "kernel_hits": sum(activate.stats.cache_hits.values()),
    "kernel_misses": sum(activate.stats.cache_misses.values()),
    "member_hits": members,
    "warnings": [f"{w.category.__name__}: {w.message}" for w in caught],
}))
"""
TANH_OF_2 = pytest.approx(0.9640276, rel=1e-6)


@pytest.fixture(name="package")
def fixture_package(tmp_path):
    """Copy the package, without anything compiled."""
    target = tmp_path / "copy" / "fastnn"
    source = Path(fastnn.__file__).parent
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", "*.nb?"))
    return target


def run(package, **environment):
    """Run the script on a copy of the package; return what it prints."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        cwd=package.parent,
        env={
            **os.environ,
            "PYTHONPATH": str(package.parent),
            "PYTHONDONTWRITEBYTECODE": "1",
            **environment,
        },
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert Path(result["package"]).parent == package
    return result


def said_by(package, tmp_path, script, *arguments):
    """Run a script on a copy of the package, with a cache of its own; return what it prints.

    It must succeed, and have nothing to complain of.
    """
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        capture_output=True,
        text=True,
        cwd=package.parent,
        env={
            **os.environ,
            "PYTHONPATH": str(package.parent),
            "NUMBA_CACHE_DIR": str(tmp_path / "cache"),
        },
        timeout=240,
    )
    assert (done.returncode, without_waits(done.stderr)) == (0, "")
    return done.stdout


def test_a_second_run_loads_what_the_first_compiled(package, tmp_path):
    first = run(package, NUMBA_CACHE_DIR=str(tmp_path / "cache"))
    assert first["tanh"] == TANH_OF_2
    assert first["product"] == 12
    assert (first["kernel_hits"], first["kernel_misses"], first["member_hits"]) == (0, 1, [0])
    assert Path(first["cache"]).is_relative_to(tmp_path / "cache")
    files = sorted((tmp_path / "cache").rglob("*.nb?"))
    assert files

    second = run(package, NUMBA_CACHE_DIR=str(tmp_path / "cache"))
    assert (second["kernel_hits"], second["kernel_misses"], second["member_hits"]) == (1, 0, [1])
    assert (second["tanh"], second["product"]) == (first["tanh"], first["product"])
    assert sorted((tmp_path / "cache").rglob("*.nb?")) == files, "a key is not the same again"
    assert first["warnings"] == second["warnings"] == []


def test_changes_in_other_files_take_effect(package, tmp_path):
    before = run(package, NUMBA_CACHE_DIR=str(tmp_path / "cache"))
    assert (before["tanh"], before["product"]) == (TANH_OF_2, 12)
    changes = {
        # A function that the member calls: now it sums nothing.
        "kernels/tile.py": """
from fastnn.runtime.jit import inner


@inner
def dot(tile, n_k, a, a_offset, a_row, a_k, b, b_offset, b_k):
    return tile
""",
        # A constant that the kernel uses: now tanh is the same everywhere above 0.
        "kernels/vectormath.py": "\n_CONSTANTS[types.float32].tanh_limit = np.float32(0.0)\n",
    }
    for name, change in changes.items():
        with open(package / name, "a") as file:
            file.write(change)
    after = run(package, NUMBA_CACHE_DIR=str(tmp_path / "cache"))
    assert (after["tanh"], after["product"]) == (0, 0)
    assert (after["kernel_hits"], after["member_hits"]) == (0, [0])


def test_the_stamp_covers_all_kernels_and_the_compilers(package):
    script = "from fastnn.runtime.kernel_cache import source_stamp; print(source_stamp())"

    def stamp(prelude=""):
        done = subprocess.run(
            [sys.executable, "-c", prelude + script],
            capture_output=True,
            text=True,
            cwd=package.parent,
            env={**os.environ, "PYTHONPATH": str(package.parent)},
            timeout=120,
            check=True,
        )
        return done.stdout

    before = stamp()
    assert stamp() == before
    assert stamp("import numba; numba.__version__ += '.1'\n") != before
    assert stamp("import llvmlite; llvmlite.__version__ += '.1'\n") != before
    kernels = sorted((package / "kernels").rglob("*.py"))
    assert len(kernels) > 10
    for file in [
        package / "runtime" / "jit.py",
        package / "runtime" / "kernel_cache.py",
        package / "runtime" / "cpu.py",
        kernels[0],
        kernels[-1],
        package / "kernels" / "tile.py",
        package / "kernels" / "reference" / "products.py",
    ]:
        text = file.read_text()
        file.write_text(text + "# changed\n")
        assert stamp() != before, file
        file.write_text(text)
    for name in ("engine/plan.py", "layers/activations.py", "training/memory.py"):
        file = package / name
        file.write_text(file.read_text() + "# no kernel\n")
    assert stamp() == before


def test_code_for_two_widths_of_vectors_is_kept_side_by_side(package, tmp_path):
    cache = tmp_path / "cache"
    widths = ("16", "32")
    results, files = [], []
    for width in widths:
        results.append(run(package, NUMBA_CACHE_DIR=str(cache), FASTNN_VECTOR_BYTES=width))
        assert (results[-1]["kernel_hits"], results[-1]["member_hits"]) == (0, [0])
        new = {*cache.rglob("*.nbc")}.difference(*(some.values() for some in files))
        files.append({file.name.rsplit(".", 2)[0]: file for file in new})
    assert all(file.exists() for some in files for file in some.values()), "the other's are kept"
    assert files[0].keys() == files[1].keys() != set()
    for width in widths:
        results.append(run(package, NUMBA_CACHE_DIR=str(cache), FASTNN_VECTOR_BYTES=width))
        assert (results[-1]["kernel_hits"], results[-1]["member_hits"]) == (1, [1])
    assert {(result["tanh"], result["product"]) for result in results} == {(results[0]["tanh"], 12)}
    for name, file in files[0].items():  # in the place of the other width's
        files[1][name].write_bytes(file.read_bytes())
    mixed = run(package, NUMBA_CACHE_DIR=str(cache), FASTNN_VECTOR_BYTES="32")
    assert (mixed["kernel_hits"], mixed["member_hits"]) == (0, [0])
    assert (mixed["tanh"], mixed["product"]) == (TANH_OF_2, 12)


# Compiles kernels that are one function of this package, but for what stands around it.
SCOPES = """
import json, sys
import numpy as np
from fastnn.kernels.activations import ACTIVATIONS, array_kernels, forward_kernel
from fastnn.runtime import jit as _jit

results = {}
for name in sys.argv[1:]:
    apply, _ = array_kernels(ACTIVATIONS[name])
    out = np.full((1, 1), 2.0)
    apply(out, 1.0)
    results[name] = [float(out[0, 0]), sum(apply.stats.cache_hits.values())]
for dtype in ("float32", "float64"):
    forward_kernel(ACTIVATIONS["elu"], np.dtype(dtype))
forward_kernel(ACTIVATIONS["gelu"], np.dtype("float64"))
results["addresses"] = [compiled.cache_hits for compiled in _jit._members]
print(json.dumps(results))
"""


def test_what_a_kernel_takes_from_an_enclosing_scope_is_a_part_of_its_key(package, tmp_path):
    def run_scopes(*names):
        return json.loads(said_by(package, tmp_path, SCOPES, *names))

    right = {"tanh": 0.9640275800758169, "logistic": 0.8807970779778823, "elu": 2.0}
    first = run_scopes("tanh", "logistic")
    assert first["addresses"] == [0, 0, 0]
    again = run_scopes("elu", "logistic", "tanh")  # in another order
    assert again["addresses"] == [1, 1, 1]
    for name, value in right.items():
        assert again[name] == [pytest.approx(value, rel=1e-14), name in first], name
    applied = [*(tmp_path / "cache").rglob("*apply*.nbc")]
    assert len(applied) == 3, "each function has a file of its own"
    assert len([*(tmp_path / "cache").rglob("*activation_forward*.nbc")]) == 3


def in_this_package(z):
    return z


def test_a_scope_is_described_by_values_types_and_names_of_functions():
    """The description is the same text in each process: no address is in it."""
    from fastnn.kernels.activations import ACTIVATIONS
    from fastnn.kernels.vectormath import tanh

    def around(*values):
        def function():
            return values

        return function

    described = kernel_cache._described_scope
    some = [1, 1.5, True, None, "x", np.float32, np.float32(1), np.float64(1), (1, 2), (1, (2,))]
    texts = [repr(described(around(value))) for value in [*some, tanh]]
    texts += [repr(described(around(row.function))) for row in ACTIVATIONS.values()]
    texts += [repr(described(around(row.backward))) for row in ACTIVATIONS.values()]
    assert len({*texts}) == len(texts)
    assert not any("0x" in text for text in texts)
    assert "fastnn.kernels.vectormath.tanh" in repr(described(around(tanh)))
    assert described(in_this_package) == ()  # it takes nothing from around it
    # Nothing would tell whether these are still the same.
    for value in (in_this_package, lambda z: z, [1], {}, np.ones(2), object()):
        with pytest.raises(TypeError, match="cache"):
            described(around(value))


def test_what_depends_on_functions_of_users_is_not_kept(package, tmp_path):
    script = """
import numpy as np
import fastnn
activation = fastnn.Activation(lambda z: z * z, lambda z: 2 * z)
net = fastnn.Sequential([fastnn.Affine(1, 1), activation, fastnn.Affine(1, 1)], seed=0)
net.fit(np.ones((4, 1)), np.ones(4), loss="mse", epochs=1)
activation.forward(np.ones((2, 2)))
activation.backward(np.ones((2, 2)))
"""
    said_by(package, tmp_path, script)
    kept = {file.name.partition(".py.")[0] for file in (tmp_path / "cache").rglob("*.nbc")}
    assert any("affine_forward" in name for name in kept)
    assert not [name for name in kept if name.startswith("activations.")], kept


def test_without_a_writable_folder_one_warning_says_so_and_everything_works(package, tmp_path):
    # Nobody, not even root, can make a folder below a file, or where a file lies.
    (tmp_path / "file").write_text("")
    for folder in [package, *(path for path in package.rglob("*") if path.is_dir())]:
        (folder / "__pycache__").write_text("")
    below_a_file = str(tmp_path / "file" / "below")
    result = run(
        package,
        NUMBA_CACHE_DIR=below_a_file,
        HOME=below_a_file,
        XDG_CACHE_HOME=below_a_file,
        LOCALAPPDATA=below_a_file,
    )
    assert (result["tanh"], result["product"]) == (TANH_OF_2, 12)
    assert result["cache"] is None
    message = "RuntimeWarning: fastnn compiles its kernels anew in each process: "
    assert [warning[: len(message)] for warning in result["warnings"]] == [message]
    assert "NUMBA_CACHE_DIR" in result["warnings"][0]
    assert "\n" not in result["warnings"][0]


# Compiles a loop for one layout of its arguments and checks the result. Each file of the cache is
# opened for writing only after so many seconds.
ONE_VERSION = """
import sys, time
import numpy as np
from numba.core.caching import IndexDataCacheFile
from fastnn.kernels import reference

layout, *delays = sys.argv[1:]
open_for_write = IndexDataCacheFile._open_for_write

def open_late(self, path):
    if delays:
        time.sleep(float(delays.pop(0)))
    return open_for_write(self, path)

IndexDataCacheFile._open_for_write = open_late
step = 1 if layout == "contiguous" else 2
x, y = np.full((2, 6), np.nan)[:, ::step][:, :3]
x[:], y[:] = 2.0, 5.0
print("ready", flush=True)
sys.stdin.readline()
result = reference.dot(x, y)
print(result, sum(reference.dot.stats.cache_hits.values()))
"""


def start(package, cache, *arguments):
    return subprocess.Popen(
        [sys.executable, "-c", ONE_VERSION, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=package.parent,
        env={**os.environ, "PYTHONPATH": str(package.parent), "NUMBA_CACHE_DIR": str(cache)},
    )


def finish(*processes):
    """Let processes that have begun go on at the same time; return what each says in the end."""
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()
    return [process.communicate(timeout=120)[0].split() for process in processes]


def test_versions_of_a_kernel_compiled_at_once_are_not_mixed_up(package, tmp_path):
    """Both find no index, choose the same number for their files, and write in turn.

    The slow one writes between the index and the data of the other: with files that are numbered
    the index then leads to the machine code of the wrong version.
    """
    cache = tmp_path / "cache"
    done = finish(
        start(package, cache, "contiguous", 0.5, 1.5), start(package, cache, "strided", 1.0, 0)
    )
    assert done == [["30.0", "0"], ["30.0", "0"]]
    again = finish(start(package, cache, "contiguous"), start(package, cache, "strided"))
    assert again == [["30.0", "1"], ["30.0", "1"]], "each was kept, and found"


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty"])
def test_a_damaged_file_is_compiled_anew(damage, package, tmp_path):
    cache = tmp_path / "cache"
    assert finish(start(package, cache, "contiguous")) == [["30.0", "0"]]
    (file,) = cache.rglob("*.dot.py*.nbc")
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(
        {"cut": content[: len(content) // 2], "flipped": content, "empty": b""}[damage]
    )
    assert finish(start(package, cache, "contiguous")) == [["30.0", "0"]]
    assert finish(start(package, cache, "contiguous")) == [["30.0", "1"]], "it was mended"


def test_files_of_older_code_are_removed(package, tmp_path):
    cache = tmp_path / "cache"
    finish(start(package, cache, "contiguous"), start(package, cache, "strided"))
    with open(package / "kernels" / "tile.py", "a") as file:
        file.write("# changed\n")
    assert finish(start(package, cache, "contiguous")) == [["30.0", "0"]]
    assert len(list(cache.rglob("*.dot.py*.nbc"))) == 1


def test_a_full_disk_costs_a_warning_and_no_result(package, tmp_path):
    script = """
import errno, warnings
import numpy as np
from numba.core.caching import IndexDataCacheFile
from fastnn.kernels import reference

def full(self, path):
    raise OSError(errno.ENOSPC, "No space left on device")

IndexDataCacheFile._open_for_write = full
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    print(reference.dot(np.ones(3), np.ones(3)), reference.dot(np.ones(6)[::2], np.ones(3)))
assert len(caught) == 1 and "No space left" in str(caught[0].message), caught
"""
    assert said_by(package, tmp_path, script) == "3.0 3.0\n"
