"""The ladder: every loop computes the product, a wrong one gets no number, and what is written."""

import dataclasses
import itertools
import json
import os
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

typer = pytest.importorskip("typer")
pytest.importorskip("rich")
pytest.importorskip("threadpoolctl")
pytest.importorskip("matplotlib")

from typer.testing import CliRunner  # noqa: E402

from fastnn.cli import app, bench  # noqa: E402
from fastnn.kernels.tile import TILE_ROWS, TILE_VECTORS, VECTOR_BYTES  # noqa: E402
from fastnn.ladder import (  # noqa: E402
    WrongRungError,
    contestants,
    fitting,
    measure,
    reading,
    report,
    roofline,
)
from fastnn.ladder.rungs import BLAS, BLAS_FUSED, LADDER, Product, Ready, Rung, serial  # noqa: E402
from fastnn.runtime import threads  # noqa: E402

ALL = (*LADDER, BLAS, BLAS_FUSED)
LANES = VECTOR_BYTES // 4
PANEL = TILE_VECTORS * LANES
SHAPES = [
    (1, 1, 1),
    (1, 7, 3),
    (2, 3, 5),
    (TILE_ROWS - 1, 11, LANES - 1),
    (TILE_ROWS, 2, LANES),
    (TILE_ROWS + 1, 13, LANES + 1),
    (2 * TILE_ROWS, 5, PANEL),
    (17, 31, PANEL + 1),
    (67, 131, 2 * PANEL - 1),  # more rows than one block
    (5, 523, 37),  # more terms than one block
    (3, 2, 139),  # more columns than one block
]
QUICK = measure.Effort(seconds=0, rounds=1, turn=0, tries=1)
N_THREADS = min(2, threads.get_num_threads())


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Run each test in a folder of its own, with a wide terminal."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path


@pytest.fixture(scope="module", autouse=True)
def brief_roofline():
    """Measure peak and bandwidth for a moment only."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(roofline, "bandwidth", lambda *args, **options: 1e10)
        patch.setattr(roofline, "SECONDS", 1e-4)
        whole = roofline.measure
        patch.setattr(
            roofline, "measure", lambda n, dtypes, tries: whole(n, dtypes, seconds=1e-4, tries=1)
        )
        yield


def run(*args):
    return CliRunner().invoke(app.app, [str(arg) for arg in args])


def result_of(rung, product):
    with measure.limits(product.n_threads):
        ready = rung.prepare(product)
        ready.call()
        return ready.result()


def small(*rungs, threads=(1,), shapes=((3, 4, 5),), dtypes=("float32",)):
    return measure.Plan(shapes, dtypes, threads, QUICK, rungs or ALL)


# The loops


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("rung", ALL, ids=lambda rung: rung.name)
def test_a_rung_is_exact_for_whole_numbers_of_any_shape(rung, dtype):
    for shape in SHAPES:
        for n in {1, N_THREADS} if rung.threaded else {1}:
            product = measure.make_product(shape, dtype, n)
            out = result_of(rung, product)
            assert out.dtype == dtype
            assert np.array_equal(out, product.exact(rung.fused)), (shape, n)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("rung", ALL, ids=lambda rung: rung.name)
def test_a_rung_rounds_no_more_than_its_sums_allow(rung, dtype):
    rng = np.random.default_rng(0)
    x, w, bias = (rng.normal(size=size).astype(dtype) for size in ((19, 301), (301, 29), (29,)))
    product = Product(x, w, bias)
    allowed = 2 * 302 * np.finfo(dtype).eps * (abs(x) @ abs(w) + abs(bias))
    assert (abs(result_of(rung, product) - product.exact(rung.fused)) <= allowed).all()


def _strided(array):
    wide = np.full([2 * size for size in array.shape], np.nan, array.dtype)
    wide[tuple(slice(None, None, 2) for _ in array.shape)] = array
    return wide[tuple(slice(None, None, 2) for _ in array.shape)]


def _read_only(array):
    array = array.copy()
    array.flags.writeable = False
    return array


@pytest.mark.parametrize("change", [_strided, _read_only, np.asfortranarray])
@pytest.mark.parametrize("rung", ALL, ids=lambda rung: rung.name)
def test_a_rung_takes_arrays_of_any_kind_and_leaves_them_alone(rung, change):
    product = measure.make_product((9, 10, 11), "float32")
    x, w, bias = (change(array) for array in (product.x, product.w, product.bias))
    out = result_of(rung, Product(x, w, bias))
    assert np.array_equal(out, product.exact(rung.fused))
    assert np.array_equal(x, product.x) and np.array_equal(w, product.w)


def test_a_rung_may_be_called_again():
    product = measure.make_product((6, 7, 8), "float32")
    for rung in ALL:
        ready = rung.prepare(product)
        for _ in range(3):
            ready.call()
        assert np.array_equal(ready.result(), product.exact(rung.fused)), rung.name


def test_every_rung_has_a_title_an_explanation_and_code():
    for rung in ALL:
        assert rung.title and rung.about
    for rung in LADDER:
        assert "def " in rung.source()
    names = [rung.name for rung in ALL]
    assert len(set(names)) == len(names)


# A wrong rung


def _forgets_the_last_term(x, w, out):
    out[:] = x[:, :-1] @ w[:-1]


def _leaves_an_element(x, w, out):
    value = out[-1, -1]
    out[:] = x @ w
    out[-1, -1] = value


def _is_zero(x, w, out):
    out[:] = 0


@pytest.mark.parametrize("loop", [_forgets_the_last_term, _leaves_an_element, _is_zero])
def test_a_wrong_rung_is_an_error_and_gets_no_number(loop):
    wrong = Rung("wrong", "wrong one", "", "", serial(loop))
    with pytest.raises(WrongRungError, match=r"^wrong one: wrong product for .*out\["):
        measure.climb(small(*ALL, wrong))


def test_a_result_of_another_shape_is_wrong():
    def prepare(product):
        return Ready(lambda: None, lambda: np.zeros((1, 1)))

    with pytest.raises(WrongRungError, match="its shape"):
        measure.climb(small(Rung("wrong", "wrong one", "", "", prepare)))


def test_the_command_fails_for_a_wrong_loop_and_writes_nothing():
    Path("mine.py").write_text("def product(x, w, out):\n    out[:] = (x @ w) + 1\n")
    options = ("--quick", "--sizes", 4, "--dtype", "float32", "--threads", 1)
    result = run("bench", *options, "--loop", "mine.py:product", "--json", "f.json")
    assert result.exit_code == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith("fastnn: error: yours: product: wrong product for ")
    assert result.stdout == ""
    assert os.listdir() == ["mine.py"]


def test_the_command_measures_a_loop_of_the_user():
    Path("mine.py").write_text("def product(x, w, out):\n    out[:] = x @ w\n")
    options = ("--quick", "--sizes", 4, "--dtype", "float32", "--threads", 1)
    result = run("bench", *options, "--loop", "mine.py:product", "--json", "f.json")
    assert result.exit_code == 0, result.output
    assert "yours: product" in result.stdout
    (cell,) = json.loads(Path("f.json").read_text())["cells"]
    assert cell["rungs"]["own"]["gflops"] > 0


# Figures and what is made of them


@pytest.fixture(scope="module")
def results():
    plan = small(
        shapes=((4, 4, 4), (8, 8, 8), (1, 9, 5)),
        dtypes=("float32", "float64"),
        threads=tuple(sorted({1, N_THREADS})),
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measure, "_MOST_SECONDS", np.inf)  # on a busy machine each may seem slow
        return measure.climb(plan)


def test_each_cell_has_all_rungs_below_its_bound(results):
    assert len(results["cells"]) == 3 * 2 * len({1, N_THREADS})
    for cell in results["cells"]:
        expected = {rung.name for rung in ALL if rung.threaded or cell["threads"] == 1}
        assert cell["rungs"].keys() == expected
        for figures in cell["rungs"].values():
            flops = 2 * np.prod(cell["shape"])
            assert figures["gflops"] == pytest.approx(flops / figures["seconds"] / 1e9)
            part = figures["gflops"] / cell["bound"]["gflops"]
            assert figures["part_of_bound"] == pytest.approx(part)


def test_a_slow_rung_is_left_out_where_it_would_take_long():
    known = {("ijk", "float32", 1): [(8.0, 10.0)]}
    roof = roofline.measure(1, ["float32"], tries=1)
    cell = measure.measure_cell(small(), (4, 4, 4), "float32", 1, roof, known, 0)
    assert "skipped" in cell["rungs"]["ijk"]
    assert "gflops" in cell["rungs"]["ikj"]
    assert (
        "skipped"
        in measure.measure_cell(small(), (80, 80, 80), "float32", 1, roof, {}, 0)["rungs"]["python"]
    )


def test_the_roofline_is_the_lower_of_two_bounds():
    levels = (roofline.Level("L2", 4000, 1e9), roofline.Level("memory", float("inf"), 1e8))
    roof = roofline.Roofline(1, {"float32": 1e9, "float64": 5e8}, levels)
    bound = roof.bound((10, 10, 10), "float32")  # 2000 FLOPs for 1200 bytes
    assert (bound.limit, bound.level) == ("arithmetic", "L2")
    assert bound.flops_per_second == 1e9
    bound = roof.bound((1, 100, 1), "float32")  # 200 FLOPs for 804 bytes
    assert (bound.limit, bound.flops_per_second) == ("L2", pytest.approx(200 / 804 * 1e9))
    bound = roof.bound((1, 100, 100), "float32")
    assert (bound.limit, bound.level) == ("memory", "memory")
    assert bound.flops_per_second == pytest.approx(bound.intensity * 1e8)


def test_peak_and_bandwidth_are_measured():
    assert roofline.peak("float64", N_THREADS, seconds=1e-3, tries=1) > 0
    assert roofline._together(2, lambda: lambda: 3.0, 1e-3) > 0
    assert roofline.caches()[1] >= 1024


def _cell(shape=(64, 64, 64), threads=1, limit="arithmetic", **speeds):
    return {
        "shape": list(shape),
        "dtype": "float32",
        "threads": threads,
        "bound": {"gflops": 100.0, "limit": limit, "operands_in": "L2", "flops_per_byte": 0.5},
        "rungs": {name: {"gflops": value} for name, value in speeds.items()},
    }


def _read(*cells, peaks=(50.0, 100.0)):
    roofs = {str(n): {"peak_gflops": {"float32": peak}} for n, peak in enumerate(peaks, 1)}
    found = reading.read({"cells": list(cells), "machine": {"roofline": roofs}})
    return {heading.partition(" (")[0]: " ".join(lines) for heading, lines in found}


def test_the_reading_says_what_each_rung_gained_and_what_bounds_a_shape():
    speeds = {"ijk": 1.0, "ikj": 10.0, "transposed": 9.9, "blocked": 5.0, "packed": 90.0}
    said = _read(
        _cell(**speeds, blas=80.0, fused=90.0, blas_fused=60.0),
        _cell((1, 50, 60), limit="L2", packed=50.0, blas=25.0),
        _cell(threads=2, packed=180.0, blas=120.0),
    )
    steps = said["Step by step"]
    assert "loops swapped (ikj): 10 GFLOP/s, 10 times as fast as naive loop (ijk): " in steps
    assert "transposed dot product: 9.9 GFLOP/s, as fast as loops swapped (ikj)" in steps
    assert "cache-blocked: 5 GFLOP/s, only 0.50 times as fast as loops swapped (ikj)" in steps
    assert "packed (fastnn.matmul): 90 GFLOP/s, 9 times as fast as loops swapped (ikj)" in steps
    distance = said["How far from BLAS"]
    assert "1.12 times as fast as BLAS (80), and 90 % of what the machine can do" in distance
    assert "BLAS is 80 times as fast as the naive loop" in distance
    assert "2 threads" in distance and "fastnn.matmul 2 times, BLAS 1.50 times" in distance
    shapes = said["What bounds a shape"]
    assert "1x50x60: bound by memory (here the L2 cache)" in shapes
    assert "64x64x64: bound by arithmetic" in shapes
    assert "the fused loop is 1.50 times as fast as NumPy" in shapes
    assert "Caution" not in said


def test_the_reading_warns_where_threads_share_a_core():
    assert (
        "2 threads together reach only 1.10 times"
        in _read(_cell(ijk=1.0), peaks=(50, 55))["Caution"]
    )


def test_the_reading_says_where_the_environment_slows_a_library(monkeypatch):
    for name in [*measure._BLAS_SETTINGS, *measure._NUMBA_SETTINGS]:
        monkeypatch.delenv(name, raising=False)
    assert measure.environment("openblas") == {"blas": {}, "loops": {}}
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Haswell")
    monkeypatch.setenv("OPENBLAS_L2_SIZE", "512")
    monkeypatch.setenv("MKL_ENABLE_INSTRUCTIONS", "SSE4_2")
    monkeypatch.setenv("NUMBA_CPU_NAME", "generic")
    found = measure.environment("openblas")
    assert found["blas"] == {"OPENBLAS_CORETYPE": "Haswell", "OPENBLAS_L2_SIZE": "512"}
    assert measure.environment("mkl")["blas"] == {"MKL_ENABLE_INSTRUCTIONS": "SSE4_2"}
    roofs = {"1": {"peak_gflops": {"float32": 50.0}}}
    machine = {"roofline": roofs, "environment": found}
    said = dict(reading.read({"cells": [_cell(ijk=1.0)], "machine": machine}))["Caution"]
    assert "the loops of BLAS (OPENBLAS_CORETYPE=Haswell, OPENBLAS_L2_SIZE=512)" in said[0]
    assert "instructions of our loops (NUMBA_CPU_NAME=generic)" in said[1]
    assert all("\n" not in line and "unset" in line for line in said)


class _Clocks:
    """The time, and the time that the CPUs have spent in this process, which has one spinner."""

    def __init__(self, monkeypatch, spins_until):
        self.now, self.spent, self.spins_until = 0.0, 0.0, spins_until
        monkeypatch.setattr(measure.time, "perf_counter", lambda: self.now)
        monkeypatch.setattr(measure.time, "process_time", lambda: self.spent)
        monkeypatch.setattr(measure.time, "sleep", self.sleep)

    def sleep(self, seconds):
        self.spent += max(0.0, min(self.spins_until - self.now, seconds))
        self.now += seconds


@pytest.mark.parametrize("spins", [0.0, 0.034, 0.1])
def test_a_rest_lasts_until_no_thread_spins(monkeypatch, spins):
    clocks = _Clocks(monkeypatch, spins)
    measure.rest()
    assert spins + measure._LOOK <= clocks.now <= spins + 4 * measure._LOOK


def test_a_rest_ends_where_threads_never_sleep(monkeypatch):
    clocks = _Clocks(monkeypatch, np.inf)
    measure.rest()
    assert clocks.now == pytest.approx(measure._LONGEST_REST, abs=2 * measure._LOOK)


def test_rungs_on_different_threads_are_timed_with_a_rest_between_them(monkeypatch):
    done = []
    monkeypatch.setattr(measure, "rest", lambda: done.append("rest"))
    monkeypatch.setattr(measure._Clock, "_wake", lambda clock, call: None)
    calls = {name: (lambda name=name: done.append(name)) for name in ("loop", "other", "blas")}
    pools = {"loop": "numba", "other": "numba", "blas": "blas"}
    effort = measure.Effort(seconds=0, rounds=3, turn=0, tries=1)
    times = measure._Clock(effort, 0, pools, 2).measure(calls, dict.fromkeys(calls, 0.0))
    assert {name: len(seconds) for name, seconds in times.items()} == dict.fromkeys(calls, 3)
    order = [name for name, _ in itertools.groupby(done)]
    for before, after in itertools.pairwise(order):
        assert "rest" in (before, after) or pools[before] == pools[after]
    # Once in the count and once in each round: a round begins where the last one ended.
    assert done.count("rest") == 4
    # A loop of the user may run on any threads.
    done.clear()
    pools = {"loop": "numba", "other": "own", "blas": "blas"}
    measure._Clock(effort, 0, pools, 2).measure(calls, dict.fromkeys(calls, 0.0))
    assert done.count("rest") == 2 * 4
    done.clear()
    measure._Clock(effort, 0, {}, 1).measure(calls, dict.fromkeys(calls, 9.0))
    assert "rest" not in done


def test_what_is_missing_is_not_read():
    assert _read(_cell(ikj=1.0)).keys() == {"Step by step", "What bounds a shape"}
    assert _read(_cell()) == {}


@pytest.mark.parametrize("kind, start", [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")])
def test_the_plot_is_an_image(results, kind, start):
    assert report.plot(results, kind).startswith(start)


def _texts(results, **options):
    """Return what is written in a plot, and how many lines it has, by panel."""
    found = []
    with pytest.MonkeyPatch.context() as patch:
        from matplotlib.figure import Figure

        patch.setattr(Figure, "savefig", lambda figure, *args, **kw: found.append(figure))
        report.plot(results, **options)
    (figure,) = found
    return figure, [[text.get_text() for text in axes.texts] for axes in figure.axes]


def test_the_plot_has_few_lines_each_with_its_name_and_last_speed(results):
    figure, panels = _texts(results)
    assert len(panels) == 2 * len({1, N_THREADS})
    for axes, texts in zip(figure.axes, panels, strict=True):
        assert not axes.get_legend()
        assert len(texts) == len(axes.lines) <= 6
        names = [text.rpartition(" ")[0] for text in texts]
        assert names[-3:] == ["fastnn.matmul", "NumPy", "peak"]
    _, more = _texts(results, all_lines=True)
    assert len(more[0]) == len(ALL) + 1
    assert all(set(few) < set(all_) for few, all_ in zip(panels, more, strict=True))


def test_the_plot_fits_a_phone_and_no_label_covers_another(results):
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.text import Text

    for options in ({}, {"all_lines": True}):
        figure, _ = _texts(results, **options)
        assert figure.get_figwidth() == 3.9  # with 9 points, letters are 12 of 390 pixels high
        FigureCanvasAgg(figure).draw()
        width, height = figure.bbox.width, figure.bbox.height
        for axes in figure.axes:
            assert axes.bbox.width > 0.35 * width
            boxes = [Text.get_window_extent(text) for text in axes.texts]  # without its arrow
            assert all(box.x0 >= 0 and box.x1 <= width and box.y1 <= height for box in boxes)
            texts = [text.get_fontsize() for text in axes.texts]
            assert min(texts) >= 9
            boxes = sorted(boxes, key=lambda box: box.y0)
            for below, above in itertools.pairwise(boxes):
                assert above.y0 > below.y1 - 0.25 * (below.y1 - below.y0)


def test_labels_are_spread_and_keep_their_order():
    assert report.spread([0.2, 0.8, 0.5], 0.1) == [0.2, 0.8, 0.5]
    places = report.spread([0.5, 0.5, 0.5, 0.1], 0.1)
    assert places[:3] == pytest.approx([0.4, 0.5, 0.6]) and places[3] == 0.1
    assert report.spread([], 0.1) == []
    crowded = report.spread(list(np.linspace(0, 0.3, 12)), 0.1)
    assert np.diff(crowded) == pytest.approx([0.1] * 11)


class _Page(HTMLParser):
    """Collects what is open, all texts, and whatever a browser would fetch."""

    def __init__(self):
        super().__init__()
        self.open, self.fetched, self.text = [], [], []

    def handle_starttag(self, tag, attrs):
        if tag not in {"meta", "br", "img"}:
            self.open.append(tag)
        assert tag not in {"script", "link", "iframe"}
        self.fetched += [value for name, value in attrs if name in {"src", "href"}]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def test_the_page_is_whole_needs_nothing_else_and_explains_each_rung(results):
    text = report.page(results)
    page = _Page()
    page.feed(text)
    page.close()
    assert page.open == []
    (image,) = page.fetched
    assert image.startswith("data:image/png;base64,")
    assert "url(" not in text and "@import" not in text
    said = "".join(page.text)
    for rung in ALL:
        assert rung.about in said
    for rung in LADDER:
        assert rung.source() in said
    assert "@kernel" in said and "float64, 1 thread" in said


# The command


def test_the_command_prints_and_writes_everything():
    shape = "3x4x5"
    options = ("--quick", "--sizes", "4,8", "--shapes", shape, "--threads", 1)
    files = ("--json", "f.json", "--plot", "p.png", "--html", "r.html")
    result = run("bench", *options, *files)
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    for part in ("GFLOP/s, float32, 1 thread", "GFLOP/s, float64", "naive loop (ijk)", "FMA peak"):
        assert part in result.stdout
    for part in ("NumPy (BLAS)", "Step by step", "How far from BLAS", "What bounds a shape"):
        assert part in result.stdout
    figures = json.loads(Path("f.json").read_text())
    assert figures["command"] == "bench"
    assert [cell["shape"] for cell in figures["cells"]] == [[4, 4, 4], [8, 8, 8], [3, 4, 5]] * 2
    assert figures["machine"]["blas"]["name"]
    assert figures["reading"][0]["lines"]
    assert Path("p.png").read_bytes().startswith(b"\x89PNG")
    assert Path("r.html").read_text().startswith("<!DOCTYPE html>")
    result = run("bench", *options, *files)
    assert result.exit_code == 2
    assert "exists already: --force replaces it" in result.stderr


@pytest.mark.parametrize(
    "options, message",
    [
        (("--sizes", "0"), "--sizes must be such as 64,256, each number from 1 to "),
        (("--sizes", "a"), "--sizes must be integers such as 64,256, got 'a'"),
        (("--sizes", ""), "--sizes and --shapes name nothing to measure"),
        (("--shapes", "1x2"), "--shapes must be such as 128x784x128,1x784x128, each number "),
        (("--shapes", "1x2x99999"), "--shapes must be such as "),
        (("--dtype", "int8"), "--dtype must be one of float32, float64, all, got 'int8'"),
        (("--threads", "0"), "--threads must be an integer >= 1, got 0"),
        (("--threads", "x"), "--threads must be integers such as 1,2, got 'x'"),
        (("--lines", "some"), "--lines must be one of few, all, got 'some'"),
        (("--plot", "a.gif"), "--plot must end in .png, .svg, .pdf, got 'a.gif'"),
        (("--html", "no/r.html"), "--html no/r.html cannot be written: no folder no"),
        (("--html", "a", "--json", "a"), "--json a is the file of --html already"),
        (("--loop", "mine"), "--loop must be such as mine.py:product, got 'mine'"),
        (("--loop", "none.py:f"), "--loop none.py: no such file"),
        (("--loop", "broken.py:f"), "--loop broken.py cannot be loaded: SyntaxError: "),
        (("--loop", "empty.py:f"), "--loop empty.py:f: module "),
        (("--loop", "empty.py:N"), "--loop empty.py:N: N is not a function"),
        (("--fit", "--sizes", "4"), "--fit measures training: it takes no --sizes, "),
    ],
)
def test_an_option_that_cannot_be_used_is_one_line(options, message):
    Path("broken.py").write_text("def f(:\n")
    Path("empty.py").write_text("N = 1\n")
    result = run("bench", *options)
    assert result.exit_code == 2, result.output
    (line,) = result.stderr.splitlines()
    assert line.removeprefix("fastnn: error: ").startswith(message)


def test_the_help_names_every_option_and_has_examples(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    said = run("bench", "--help").stdout
    for field in dataclasses.fields(bench.BenchSettings):
        assert f"--{field.name}" in said
    assert len(re.findall(r"fastnn bench --", said)) >= 3


def test_threads_are_doubled_up_to_all():
    assert measure.thread_counts(1) == (1,)
    assert measure.thread_counts(2) == (1, 2)
    assert measure.thread_counts(6) == (1, 2, 4, 6)


# Training

NET = ((12, 9, 4), 8)
QUICK_KINDS = (contestants.Fastnn, contestants.Numpy, contestants.ScikitLearn)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_all_contestants_train_the_same_net(dtype):
    pytest.importorskip("sklearn")
    results = fitting.compete(dtype, (1,), True, contestants=QUICK_KINDS, nets=[NET])
    (cell,) = results["cells"]
    assert list(cell["seconds_per_step"]) == ["fastnn", "NumPy", "scikit-learn"]
    first, *others = cell["loss"].values()
    weights, X, y = fitting.make_task(*NET, dtype)
    assert first < fitting.loss_of(weights, X, y)
    assert others == pytest.approx([first] * 2, rel=1e-3 if dtype == "float32" else 1e-6)
    assert re.search(r"fastnn is .* times as fast as NumPy, .* scikit-learn", results["reading"][0])


@pytest.mark.peers
@pytest.mark.parametrize("kind", [contestants.PyTorch, contestants.Jax])
def test_a_peer_that_is_installed_trains_the_same_net(kind):
    if not kind.version():
        pytest.skip("not installed")
    results = fitting.compete(
        "float32", (1,), True, contestants=(contestants.Fastnn, kind), nets=[NET]
    )
    assert kind.name in results["cells"][0]["loss"]


def test_who_trains_something_else_is_an_error():
    class Lazy(contestants.Numpy):
        """Trains for half as long."""

        name = "lazy"

        def train(self):
            self.X, whole = self.X[: len(self.X) // 2], self.X
            super().train()
            self.X = whole

    with pytest.raises(WrongRungError, match="lazy ends at the loss"):
        fitting.compete("float64", (1,), True, contestants=(contestants.Fastnn, Lazy), nets=[NET])


def test_who_is_not_installed_is_left_out():
    class Missing(contestants.Numpy):
        """There is no such package."""

        name, package = "missing", "fastnn-has-no-such-peer"

    results = fitting.compete(
        "float64", (1,), True, contestants=(contestants.Fastnn, Missing), nets=[NET]
    )
    assert results["missing"] == ["missing"]
    assert "missing" in results["reading"][-1]


def test_the_command_measures_training(monkeypatch):
    monkeypatch.setattr(fitting, "NETS", (NET,))
    monkeypatch.setattr(fitting.compete, "__defaults__", (
        *fitting.compete.__defaults__[:-2], (contestants.Fastnn, contestants.Numpy), None
    ))  # fmt: skip
    result = run("bench", "--fit", "--quick", "--threads", 1, "--json", "f.json")
    assert result.exit_code == 0, result.output
    assert "microseconds of a training step" in result.stdout
    figures = json.loads(Path("f.json").read_text())
    assert figures["command"] == "bench"
    assert figures["cells"][0]["sizes"] == [12, 9, 4]
