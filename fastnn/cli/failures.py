"""How a command fails: every error becomes one line on the error stream and an exit code."""

import itertools
import os
import sys
import traceback
from collections.abc import Sequence
from typing import Any

from typer.core import TyperGroup

from fastnn.cli import display
from fastnn.cli.checks import InterruptedTrainingError, TrainingError, UsageError
from fastnn.cli.streams import STREAM
from fastnn.errors import DataError, ModelFileError
from fastnn.ladder import WrongRungError

EXIT_CODES: dict[type[Exception], int] = {
    UsageError: 2,
    ImportError: 1,  # such as MissingExtraError, or of Numba for a NumPy that it does not know
    DataError: 1,
    ModelFileError: 1,
    TrainingError: 1,
    WrongRungError: 1,
    OSError: 1,
}
"""Exit codes of expected errors, whose message is printed as it is."""

_INTERRUPTED = 130
_JSON = "--json"  # without a value: standard output


class _InterruptedError(Exception):
    """Ctrl-C, under a name that typer does not handle itself."""


class OneLineErrors(TyperGroup):
    """Group of commands that prints an error as one line, after a traceback with ``--debug``."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        """Run a command and exit with its exit code."""
        args = sys.argv[1:] if args is None else list(args)
        try:
            given = _with_values(args)
            with display.only_results_on_stdout(_prints_json(given)):
                code = super().main(
                    given, prog_name, complete_var, False, windows_expand_args, **extra
                )
            sys.stdout.flush()
        except BrokenPipeError:  # of `| head`, for example: nobody reads on
            sys.stdout = open(os.devnull, "w")  # noqa: SIM115, for the flush at exit
            sys.exit(1)
        except Exception as error:
            expected = isinstance(
                error, _InterruptedError | InterruptedTrainingError
            ) or _is_of_parser(error)
            if "--debug" in args and not expected:
                traceback.print_exception(error)
            code, message = explain(error)
            print(f"fastnn: error: {' '.join(message.split())}", file=sys.stderr)
        sys.exit(code if isinstance(code, int) else 0)

    def invoke(self, ctx: Any) -> Any:
        """Run a subcommand."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise _InterruptedError from None


def _with_values(args: list[str]) -> list[str]:
    """Return arguments with the value that an option without one stands for."""
    full: list[str] = []
    for arg, following in itertools.zip_longest(args, args[1:]):
        full.append(arg)
        if arg == _JSON and (following is None or following.startswith("--")):
            full.append(STREAM)
    return full


def _prints_json(args: list[str]) -> bool:
    """Return whether arguments ask for results as JSON on standard output."""
    pairs = itertools.pairwise(args)
    return f"{_JSON}={STREAM}" in args or any(pair == (_JSON, STREAM) for pair in pairs)


def _is_of_parser(error: Exception) -> bool:
    """Return whether typer's parser raised an error, for an unknown option for example."""
    return hasattr(error, "format_message")


def explain(error: Exception) -> tuple[int, str]:
    """Return the exit code for an error, and its message.

    Examples
    --------
    >>> from fastnn.cli.failures import explain
    >>> from fastnn.errors import DataError
    >>> explain(DataError("t.csv: the file is empty"))
    (1, 't.csv: the file is empty')
    """
    if isinstance(error, _InterruptedError):
        return _INTERRUPTED, "interrupted"
    if isinstance(error, InterruptedTrainingError):
        return _INTERRUPTED, str(error)
    if _is_of_parser(error):
        parser_error: Any = error
        return parser_error.exit_code, parser_error.format_message()
    if isinstance(error, MemoryError):
        return 1, f"not enough memory: {error}"
    for kind, code in EXIT_CODES.items():
        if isinstance(error, kind):
            return code, str(error)
    return 1, f"unexpected {type(error).__name__}: {error} (--debug shows where)"


def show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    """Print a warning as one line; takes the arguments of `warnings.showwarning`."""
    print(f"fastnn: warning: {' '.join(str(message).split())}", file=sys.stderr)
