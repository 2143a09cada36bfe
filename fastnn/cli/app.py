"""The commands with their options and their help."""

import warnings
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

from fastnn import __version__
from fastnn.cli.failures import OneLineErrors, show_warning
from fastnn.cli.options import FLAG, Data, Debug, Force, Header, Json, option
from fastnn.compiling import Line, silent, told


def run(args: list[str] | None = None) -> None:
    """Run the command line program and exit with its exit code, as `fastnn.cli.main` does.

    Parameters
    ----------
    args : list of str or None, default=None
        Arguments; None takes those of the process.
    """
    warnings.showwarning = show_warning
    with told(Line()):
        app(args, prog_name="fastnn")


app = typer.Typer(
    cls=OneLineErrors,
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
            "--version",
            metavar=FLAG,
            callback=_print_version,
            is_eager=True,
            help="Print the version and exit.",
        ),
    ] = False,
) -> None:
    """Train neural networks (multilayer perceptrons) on CPUs, fast.

    Start with [bold]fastnn train[/bold]: it trains on a bundled set of handwritten digits.
    """
    if ctx.invoked_subcommand is None:
        print(ctx.get_help())


_TRAIN_HELP = (
    "Train a network on a table, test it, and save it.\n\n"
    "Text columns are one-hot encoded, numbers are standardised and missing values are filled in. "
    "The model file stores this preprocessing, so that [bold]fastnn predict[/bold] repeats it."
    "\n\n"
    "Ctrl-C ends the training and saves the model as it is by then, and [bold]--resume[/bold] "
    "continues; a second Ctrl-C ends at once.\n\n"
    "[bold]Examples[/bold]\n"
    "  fastnn train\n"
    "  fastnn train adult.csv --target income --epochs 10 --plot curve.png\n"
    "  fastnn train mnist/ --hidden 512,512 --compare"
)
_PREDICT_HELP = (
    "Predict the target of each row with a trained model.\n\n"
    "The rows are preprocessed as in training. If they have a target, the accuracy (or R2 for a "
    "regression) is printed too. For a folder with a test set (MNIST), only the test set is "
    "predicted.\n\n"
    "[bold]Examples[/bold]\n"
    "  fastnn predict digits.safetensors digits\n"
    "  fastnn predict adult.safetensors new.csv --proba --out predictions.csv\n"
    "  fastnn predict adult.safetensors - < new.csv | head"
)


@app.command(help=_TRAIN_HELP)
def train(
    data: Data = "digits",
    target: Annotated[
        str | None,
        option(
            "Data",
            metavar="COL",
            help="Column to predict, by name or index (0 is the first, -1 the last). "
            "The last by default.",
            show_default=False,
        ),
    ] = None,
    drop: Annotated[
        str,
        option(
            "Data",
            metavar="COL,COL",
            help="Columns to drop, such as row numbers and names.",
        ),
    ] = "",
    task: Annotated[
        str,
        option(
            "Data",
            metavar="TASK",
            help="classification, regression or auto: classification if the target is text, or "
            "whole numbers with at most 30 distinct values and at least 5 rows for each.",
        ),
    ] = "auto",
    header: Header = None,
    test: Annotated[
        str | None,
        option(
            "Data",
            metavar="DATA",
            help="Data to test on. By default a part of DATA, or its own test set (MNIST).",
            show_default=False,
        ),
    ] = None,
    test_size: Annotated[
        float,
        option(
            "Data", metavar="FRACTION", help="Fraction of the rows to test on; 0 tests on none."
        ),
    ] = 0.2,
    validation_size: Annotated[
        float,
        option(
            "Data",
            metavar="FRACTION",
            help="Fraction of the other rows for the validation score after each epoch; 0 trains "
            "on all of them.",
        ),
    ] = 0.1,
    hidden: Annotated[
        str,
        option(
            "Network",
            metavar="N,N,...",
            help="Units of each hidden layer; '' for no hidden layer, a linear model.",
        ),
    ] = "128,64",
    activation: Annotated[
        str,
        option(
            "Network",
            metavar="NAME",
            help="Activation of the hidden layers: relu, gelu, tanh, sigmoid, ... (a name that is "
            "unknown lists all).",
        ),
    ] = "relu",
    dtype: Annotated[
        str,
        option("Network", metavar="NAME", help="Floating-point type: float32 or float64."),
    ] = "float32",
    epochs: Annotated[
        int | None,
        option(
            "Training",
            metavar="N",
            help="Passes over the training rows. By default 20, or as many as 2000 updates take if "
            "these are more. For fewer than 3200 rows the epoch with the least validation loss is "
            "kept then, and --weight-decay holds the weights back.",
            show_default=False,
        ),
    ] = None,
    batch_size: Annotated[
        int, option("Training", metavar="N", help="Rows per update of the weights.")
    ] = 32,
    optimizer: Annotated[
        str,
        option(
            "Training",
            metavar="NAME",
            help="Optimizer: adam, adamw, sgd (with Nesterov momentum 0.9), ... (a name that is "
            "unknown lists all).",
        ),
    ] = "adam",
    learning_rate: Annotated[
        float | None,
        option(
            "Training",
            metavar="RATE",
            help="Initial learning rate. By default 0.001; 0.002 for nadam, 0.01 for sgd and "
            "adagrad.",
            show_default=False,
        ),
    ] = None,
    schedule: Annotated[
        str,
        option(
            "Training",
            metavar="NAME",
            help="How the learning rate changes during training: constant, linear, step, "
            "exponential, cosine, one_cycle or inverse_scaling.",
        ),
    ] = "linear",
    alpha: Annotated[
        float, option("Training", metavar="L2", help="Strength of the L2 penalty on the weights.")
    ] = 0.0001,
    weight_decay: Annotated[
        float | None,
        option(
            "Training",
            metavar="DECAY",
            help="Each update takes this, times the learning rate, of the weights off them. By "
            "default that of the optimizer; for fewer than 3200 rows without --epochs 0.3 / rows / "
            "learning rate.",
            show_default=False,
        ),
    ] = None,
    early_stopping: Annotated[
        bool,
        option(
            "Training",
            "--early-stopping",
            metavar=FLAG,
            help="Stop when the validation loss no longer improves, and restore the best weights.",
        ),
    ] = False,
    patience: Annotated[
        int,
        option(
            "Training",
            metavar="N",
            help="Epochs without improvement after which --early-stopping stops.",
        ),
    ] = 10,
    seed: Annotated[
        int,
        option(
            "Training",
            metavar="N",
            help="Seed of the initial weights, the split of the rows and their order.",
        ),
    ] = 0,
    threads: Annotated[
        int | None,
        option(
            "Training",
            metavar="N",
            help="Maximum number of threads, by default one per CPU. The results do not depend "
            "on it.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        option(
            "Output",
            metavar="FILE",
            help="Model file. By default <name of DATA>.safetensors in the current folder.",
            show_default=False,
        ),
    ] = None,
    plot: Annotated[
        Path | None,
        option(
            "Output",
            metavar="FILE",
            help="Plot the loss and the validation score of each epoch: .png, .svg or .pdf.",
            show_default=False,
        ),
    ] = None,
    compare: Annotated[
        bool,
        option(
            "Output",
            "--compare",
            metavar=FLAG,
            help="Train scikit-learn's network on the same rows too, with the same settings "
            "except the schedule: its learning rate is constant.",
        ),
    ] = False,
    json: Json = None,
    resume: Annotated[
        bool,
        option(
            "Output",
            "--resume",
            metavar=FLAG,
            help="Continue the same training after Ctrl-C or a crash, to the same bits: from its "
            "checkpoint beside the model file, <name>.checkpoint.safetensors.",
        ),
    ] = False,
    keep_diverged: Annotated[
        bool,
        option(
            "Output",
            "--keep-diverged",
            metavar=FLAG,
            help="Save the model even if the training diverged, which is an error otherwise.",
        ),
    ] = False,
    force: Force = False,
    quiet: Annotated[
        bool, option("Output", "--quiet", metavar=FLAG, help="Print only errors.")
    ] = False,
    debug: Debug = False,
) -> None:
    """Train a network on a table, test it, and save it."""
    options = dict(locals())
    del options["debug"]
    from fastnn.cli.train import TrainSettings, train_command

    with silent() if quiet else nullcontext():
        train_command(TrainSettings(**options))


@app.command(help=_PREDICT_HELP)
def predict(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="Model file written by fastnn train.")
    ],
    data: Annotated[
        str,
        typer.Argument(
            metavar="DATA",
            help="Rows to predict, in any format that fastnn train reads. The target may be "
            "missing.",
        ),
    ],
    header: Header = None,
    proba: Annotated[
        bool,
        option(
            "Output",
            "--proba",
            metavar=FLAG,
            help="Add the probability of each class (only for a classification).",
        ),
    ] = False,
    out: Annotated[
        Path | None,
        option(
            "Output",
            metavar="FILE",
            help="CSV file for the predictions. By default, and for -, they are printed.",
            show_default=False,
        ),
    ] = None,
    json: Json = None,
    force: Force = False,
    debug: Debug = False,
) -> None:
    """Predict the target of each row with a trained model."""
    from fastnn.cli.predict import predict_command

    predict_command(model, data, header=header, proba=proba, out=out, json_path=json, force=force)


@app.command()
def info(
    model: Annotated[
        str | None,
        typer.Argument(
            metavar="MODEL", help="Model file written by fastnn train.", show_default=False
        ),
    ] = None,
    json: Json = None,
    force: Force = False,
    debug: Debug = False,
) -> None:
    """Show the machine and fastnn's settings or, given a MODEL, what it contains."""
    from fastnn.cli.predict import info_command

    info_command(model, json_path=json, force=force)


@app.command()
def warmup(
    dtype: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="Floating-point type of the kernels to compile: float32, float64 or all.",
        ),
    ] = "float32",
    json: Json = None,
    force: Force = False,
    debug: Debug = False,
) -> None:
    """Compile the kernels now, so that the first training starts at once."""
    from fastnn.cli.predict import warmup_command

    warmup_command(dtype, json_path=json, force=force)


_BENCH_HELP = (
    "Compare matrix products written as loops with BLAS on this machine.\n\n"
    "The product out = x @ w is computed by a series of loops: pure Python, the naive loop "
    "compiled by Numba, then loops that each add one optimisation, up to fastnn.matmul. The result "
    "of each is checked before it is timed. Speeds are compared with NumPy's BLAS and with the "
    "limits of the machine: its peak of multiply-adds and its memory bandwidth. A short summary "
    "explains them. It takes about a minute, the first time twice as long because the loops are "
    "compiled. Run nothing else meanwhile.\n\n"
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
        option(
            "What to measure",
            "--fit",
            metavar=FLAG,
            help="Compare training instead: fastnn, NumPy, scikit-learn and, if installed, "
            "PyTorch and JAX train the same network on the same batches with Adam.",
        ),
    ] = False,
    quick: Annotated[
        bool,
        option(
            "What to measure",
            "--quick",
            metavar=FLAG,
            help="Fewer sizes and rounds: about 15 seconds.",
        ),
    ] = False,
    sizes: Annotated[
        str | None,
        option(
            "What to measure",
            metavar="N,N,...",
            help="Sizes of square matrices, instead of the default sizes and shapes.",
            show_default=False,
        ),
    ] = None,
    shapes: Annotated[
        str | None,
        option(
            "What to measure",
            metavar="BxIxO,...",
            help="Shapes of products x (B, I) times w (I, O), instead of the default shapes. A "
            "batch of 128 rows through a layer of 784 inputs and 128 units is 128x784x128.",
            show_default=False,
        ),
    ] = None,
    dtype: Annotated[
        str,
        option(
            "What to measure",
            metavar="NAME",
            help="float32, float64 or all. By default all; float32 with --fit.",
            show_default=False,
        ),
    ] = "all",
    threads: Annotated[
        str | None,
        option(
            "What to measure",
            metavar="N,N,...",
            help="Numbers of threads. By default 1, 2, 4, ... and the number of CPUs; with --quick "
            "or --fit, only 1 and the number of CPUs.",
            show_default=False,
        ),
    ] = None,
    loop: Annotated[
        str | None,
        option(
            "What to measure",
            metavar="FILE.py:NAME",
            help="Measure your own loop too: a function (x, w, out) that overwrites out with "
            "x @ w. Its result is checked like the others.",
            show_default=False,
        ),
    ] = None,
    plot: Annotated[
        Path | None,
        option(
            "Output",
            metavar="FILE",
            help="Plot the GFLOP/s of the main loops over the size: .png, .svg or .pdf.",
            show_default=False,
        ),
    ] = None,
    lines: Annotated[
        str,
        option(
            "Output",
            metavar="NAME",
            help="Lines of the plot: few (the naive loop, the main steps, NumPy) or all.",
        ),
    ] = "few",
    html: Annotated[
        Path | None,
        option(
            "Output",
            metavar="FILE",
            help="Write an HTML report: the plot, all results, and each loop with an explanation "
            "and its code.",
            show_default=False,
        ),
    ] = None,
    json: Json = None,
    force: Force = False,
    debug: Debug = False,
) -> None:
    """Compare matrix products written as loops with BLAS on this machine."""
    options = dict(locals())
    del options["debug"]
    from fastnn.cli.bench import BenchSettings, bench_command

    bench_command(BenchSettings(**options))
