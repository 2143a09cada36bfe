"""The commands with their options, and the one place where an error becomes a line and a code."""

import sys
import traceback
import warnings
from pathlib import Path
from typing import Annotated

import typer
from typer.core import TyperGroup

from fastnn import __version__
from fastnn.cli.checks import TrainingError, UsageError
from fastnn.errors import DataError, MissingExtraError, ModelFileError
from fastnn.ladder import WrongRungError

_EXIT_CODES = {
    UsageError: 2,
    MissingExtraError: 1,
    DataError: 1,
    ModelFileError: 1,
    TrainingError: 1,
    WrongRungError: 1,
    OSError: 1,
}


class _InterruptedError(Exception):
    """Ctrl-C, which typer would otherwise report in its own way."""


class _OneLineErrors(TyperGroup):
    """Report each error in one line, after a traceback where ``--debug`` is given."""

    def main(self, args=None, prog_name=None, standalone_mode=True, **extra):
        args = sys.argv[1:] if args is None else list(args)
        try:
            code = super().main(args, prog_name, standalone_mode=False, **extra)
        except Exception as error:
            of_typer = hasattr(error, "format_message")  # where it was raised helps nobody
            if "--debug" in args and not of_typer and not isinstance(error, _InterruptedError):
                traceback.print_exception(error)
            code, message = _explain(error)
            print(f"fastnn: error: {' '.join(message.split())}", file=sys.stderr)
        sys.exit(code if isinstance(code, int) else 0)

    def invoke(self, ctx):
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise _InterruptedError from None


def _explain(error: Exception) -> tuple[int, str]:
    """Return the exit code and what to say."""
    if isinstance(error, _InterruptedError):
        return 130, "interrupted"
    if hasattr(error, "format_message"):  # of typer: an option that does not exist, and so on
        return error.exit_code, error.format_message()
    if isinstance(error, MemoryError):
        return 1, f"not enough memory: {error}"
    for kind, code in _EXIT_CODES.items():
        if isinstance(error, kind):
            return code, str(error)
    return 1, f"unexpected {type(error).__name__}: {error} (--debug shows where)"


def _show_warning(message, category, filename, lineno, file=None, line=None):
    print(f"fastnn: warning: {' '.join(str(message).split())}", file=sys.stderr)


def run(args: list[str] | None = None) -> None:
    """Run the command line program; see `fastnn.cli.main`."""
    warnings.showwarning = _show_warning
    app(args, prog_name="fastnn")


app = typer.Typer(
    cls=_OneLineErrors,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"fastnn {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def root(
    ctx: typer.Context,
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
):
    """Train neural networks (multilayer perceptrons) on CPUs, fast.

    Begin with [bold]fastnn train[/bold]: it trains on a bundled set of handwritten digits.
    """
    if ctx.invoked_subcommand is None:
        print(ctx.get_help())


_DATA_HELP = (
    "A .csv, .tsv, .data or .txt file (also .gz), a .parquet file, a .npz file with arrays X and "
    "y, a folder of IDX files (MNIST), or the name of a bundled real set: digits, breast_cancer, "
    "wine, iris, diabetes. A file of such a name is meant where written as ./digits."
)

Data = Annotated[str, typer.Argument(metavar="DATA", help=_DATA_HELP, show_default=True)]
Header = Annotated[
    bool | None,
    typer.Option(
        "--header/--no-header",
        help="Whether the first line of a text file names the columns. Guessed by default.",
        show_default=False,
        rich_help_panel="Data",
    ),
]
Force = Annotated[
    bool, typer.Option("--force", help="Replace existing files.", rich_help_panel="Output")
]
Json = Annotated[
    Path | None,
    typer.Option(
        "--json", metavar="FILE", help="Write all figures as JSON.", rich_help_panel="Output"
    ),
]
Debug = Annotated[
    bool,
    typer.Option("--debug", help="Show the traceback of an error.", rich_help_panel="Output"),
]


def _option(panel, *names, **settings):
    return typer.Option(*names, rich_help_panel=panel, **settings)


_TRAIN_HELP = (
    "Train a network on a table of data, test it, and save it.\n\n"
    "Text columns are one-hot encoded, numbers standardised and missing values filled in; the "
    "model remembers how, so that [bold]fastnn predict[/bold] does the same.\n\n"
    "[bold]Examples[/bold]\n"
    "  fastnn train\n"
    "  fastnn train adult.csv --target income --epochs 10 --plot curve.png\n"
    "  fastnn train mnist/ --hidden 512,512 --compare"
)
_PREDICT_HELP = (
    "Predict the target of each row, with the preprocessing of the training.\n\n"
    "Where the rows have a target, the accuracy (or R2) is printed too. Of a folder with a test "
    "set (MNIST) only the test set is predicted.\n\n"
    "[bold]Examples[/bold]\n"
    "  fastnn predict digits.safetensors digits\n"
    "  fastnn predict adult.safetensors new.csv --proba --out predictions.csv"
)


@app.command(help=_TRAIN_HELP)
def train(
    data: Data = "digits",
    target: Annotated[
        str | None,
        _option(
            "Data",
            metavar="COL",
            help="Column to predict, by name or index (0 is the first, -1 the last). "
            "The last by default.",
            show_default=False,
        ),
    ] = None,
    drop: Annotated[
        str,
        _option(
            "Data", metavar="COL,COL", help="Columns to leave out, such as row numbers and names."
        ),
    ] = "",
    task: Annotated[
        str,
        _option(
            "Data",
            metavar="TASK",
            help="classification, regression or auto: classification if the target is text, or "
            "whole numbers with at most 30 different values and 5 rows for each.",
        ),
    ] = "auto",
    header: Header = None,
    test: Annotated[
        str | None,
        _option(
            "Data",
            metavar="DATA",
            help="Rows to test on. By default part of DATA, or its own test set (MNIST).",
            show_default=False,
        ),
    ] = None,
    test_size: Annotated[
        float, _option("Data", metavar="SHARE", help="Share of the rows to test on.")
    ] = 0.2,
    validation_size: Annotated[
        float,
        _option(
            "Data",
            metavar="SHARE",
            help="Share of the other rows to watch during training; 0 trains on them too.",
        ),
    ] = 0.1,
    hidden: Annotated[
        str,
        _option(
            "Network",
            metavar="N,N,...",
            help="Units of each hidden layer; '' for none, a linear model.",
        ),
    ] = "128,64",
    activation: Annotated[
        str,
        _option(
            "Network",
            metavar="NAME",
            help="Of the hidden layers: relu, leaky_relu, tanh, sigmoid, elu, selu, gelu, silu, "
            "softplus, mish or identity.",
        ),
    ] = "relu",
    dtype: Annotated[
        str,
        _option("Network", metavar="NAME", help="Precision of all arithmetic: float32 or float64."),
    ] = "float32",
    epochs: Annotated[
        int, _option("Training", metavar="N", help="Passes through the training rows.")
    ] = 20,
    batch_size: Annotated[
        int, _option("Training", metavar="N", help="Rows of each update of the weights.")
    ] = 32,
    optimizer: Annotated[
        str,
        _option(
            "Training",
            metavar="NAME",
            help="Rule of the updates: adam, adamw, nadam, rmsprop, adagrad or sgd (with "
            "Nesterov's momentum 0.9).",
        ),
    ] = "adam",
    learning_rate: Annotated[
        float | None,
        _option(
            "Training",
            metavar="RATE",
            help="Step size. By default 0.001, for nadam 0.002, for sgd and adagrad 0.01.",
            show_default=False,
        ),
    ] = None,
    schedule: Annotated[
        str,
        _option(
            "Training",
            metavar="NAME",
            help="How the learning rate goes on from epoch to epoch: constant, linear, step, "
            "exponential, cosine, one_cycle or inverse_scaling.",
        ),
    ] = "linear",
    alpha: Annotated[
        float, _option("Training", metavar="L2", help="Strength of the L2 penalty on the weights.")
    ] = 0.0001,
    early_stopping: Annotated[
        bool,
        _option(
            "Training",
            "--early-stopping",
            help="Stop when the validation score no longer improves, and keep the best weights.",
        ),
    ] = False,
    patience: Annotated[
        int,
        _option(
            "Training", metavar="N", help="Epochs without improvement that --early-stopping waits."
        ),
    ] = 10,
    seed: Annotated[
        int,
        _option("Training", metavar="N", help="Of the weights, the split and the order of rows."),
    ] = 0,
    threads: Annotated[
        int | None,
        _option(
            "Training",
            metavar="N",
            help="Most threads to use, all CPUs by default. The result does not depend on it.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        _option(
            "Output",
            metavar="FILE",
            help="The model. By default <name of DATA>.safetensors in this folder.",
            show_default=False,
        ),
    ] = None,
    plot: Annotated[
        Path | None,
        _option(
            "Output",
            metavar="FILE",
            help="Draw loss and validation score by epoch: .png, .svg or .pdf.",
            show_default=False,
        ),
    ] = None,
    compare: Annotated[
        bool,
        _option(
            "Output",
            "--compare",
            help="Train scikit-learn's network on the same rows as well, with the same settings "
            "but for the schedule: its learning rate stays constant.",
        ),
    ] = False,
    json: Json = None,
    force: Force = False,
    quiet: Annotated[bool, _option("Output", "--quiet", help="Print nothing but errors.")] = False,
    debug: Debug = False,
):
    """Train a network on a table of data, test it, and save it."""
    options = dict(locals())
    del options["debug"]
    from fastnn.cli.train import TrainSettings, train_command

    train_command(TrainSettings(**options))


@app.command(help=_PREDICT_HELP)
def predict(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A file that fastnn train wrote.")],
    data: Annotated[
        str,
        typer.Argument(
            metavar="DATA",
            help="The rows, in any form that fastnn train takes. The target may be missing.",
        ),
    ],
    header: Header = None,
    proba: Annotated[
        bool,
        _option("Output", "--proba", help="Add the probability of each class (classification)."),
    ] = False,
    out: Annotated[
        Path | None,
        _option(
            "Output",
            metavar="FILE",
            help="The predictions as CSV. By default they are printed.",
            show_default=False,
        ),
    ] = None,
    json: Json = None,
    force: Force = False,
    debug: Debug = False,
):
    """Predict the target of each row, with the preprocessing of the training."""
    from fastnn.cli.predict import predict_command

    predict_command(model, data, header=header, proba=proba, out=out, json_path=json, force=force)


@app.command()
def info(
    model: Annotated[
        str | None,
        typer.Argument(metavar="MODEL", help="A file that fastnn train wrote.", show_default=False),
    ] = None,
    json: Json = None,
    force: Force = False,
    debug: Debug = False,
):
    """Show this machine and its settings, or what is in a model."""
    from fastnn.cli.predict import info_command

    info_command(model, json_path=json, force=force)


@app.command()
def warmup(
    dtype: Annotated[
        str,
        typer.Option(metavar="NAME", help="Of the kernels to compile: float32, float64 or all."),
    ] = "float32",
    json: Json = None,
    force: Force = False,
    debug: Debug = False,
):
    """Compile the kernels now, so that the first training need not wait for it."""
    from fastnn.cli.predict import warmup_command

    warmup_command(dtype, json_path=json, force=force)


_BENCH_HELP = (
    "Show how far loops are from BLAS on this machine, and why.\n\n"
    "One matrix product, out = x @ w, is computed by a ladder of loops: pure Python, the naive "
    "loop compiled by Numba, then one idea more on each rung, up to fastnn.matmul. Each is "
    "checked, then timed beside NumPy's BLAS and below what the machine could do: the peak of its "
    "multiply-adds and the bandwidth of its memory. A short reading of the figures comes last. "
    "Takes about a minute, and once as long again to compile the loops; let nothing else run "
    "meanwhile.\n\n"
    "[bold]Examples[/bold]\n"
    "  fastnn bench --quick\n"
    "  fastnn bench --plot ladder.png --html report.html\n"
    "  fastnn bench --loop mine.py:product --sizes 256 --threads 1\n"
    "  fastnn bench --fit"
)


@app.command(help=_BENCH_HELP)
def bench(
    fit: Annotated[
        bool,
        _option(
            "What to measure",
            "--fit",
            help="Measure training instead: fastnn, NumPy, scikit-learn and, if installed, "
            "PyTorch and JAX train the same network on the same batches by Adam.",
        ),
    ] = False,
    quick: Annotated[
        bool,
        _option("What to measure", "--quick", help="Fewer sizes and rounds: about 15 seconds."),
    ] = False,
    sizes: Annotated[
        str | None,
        _option(
            "What to measure",
            metavar="N,N,...",
            help="Sizes of square matrices instead of the usual ones and the usual shapes.",
            show_default=False,
        ),
    ] = None,
    shapes: Annotated[
        str | None,
        _option(
            "What to measure",
            metavar="BxIxO,...",
            help="Shapes of other products, instead of the usual ones: x (B, I) times w (I, O). "
            "A batch of 128 rows through a layer of 784 inputs and 128 units is 128x784x128.",
            show_default=False,
        ),
    ] = None,
    dtype: Annotated[
        str,
        _option(
            "What to measure",
            metavar="NAME",
            help="float32, float64 or all; by default all, with --fit float32.",
            show_default=False,
        ),
    ] = "all",
    threads: Annotated[
        str | None,
        _option(
            "What to measure",
            metavar="N,N,...",
            help="Numbers of threads. By default 1, 2, 4 and so on, and all CPUs; with --quick or "
            "--fit only one and all.",
            show_default=False,
        ),
    ] = None,
    loop: Annotated[
        str | None,
        _option(
            "What to measure",
            metavar="FILE.py:NAME",
            help="A loop of yours as one more rung: a function (x, w, out) that overwrites out "
            "with x @ w. It is checked as the others are.",
            show_default=False,
        ),
    ] = None,
    plot: Annotated[
        Path | None,
        _option(
            "Output",
            metavar="FILE",
            help="Draw GFLOP/s over the size, a line for each rung: .png, .svg or .pdf.",
            show_default=False,
        ),
    ] = None,
    html: Annotated[
        Path | None,
        _option(
            "Output",
            metavar="FILE",
            help="Write one page with the figure, all figures, and each rung explained beside "
            "its code.",
            show_default=False,
        ),
    ] = None,
    json: Json = None,
    force: Force = False,
    debug: Debug = False,
):
    """Show how far loops are from BLAS on this machine, and why."""
    options = dict(locals())
    del options["debug"]
    from fastnn.cli.bench import BenchSettings, bench_command

    bench_command(BenchSettings(**options))
