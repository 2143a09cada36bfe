"""The command line: ``fastnn train``, ``predict``, ``info``, ``bench``... Needs the `cli` extra."""

import sys

from fastnn.errors import MissingExtraError, require

__all__ = ["main"]


def main(args: list[str] | None = None) -> None:
    """Run the ``fastnn`` command and leave with its exit code.

    Parameters
    ----------
    args : list of str, optional
        Default: those of the process, `sys.argv`.

    Raises
    ------
    SystemExit
        Always. 0: done; 1: the data or a model cannot be used, or a loop is wrong; 2: an argument
        cannot be used; 130: interrupted.
    """
    try:
        for package in ("typer", "rich"):
            require(package, "cli")
        from fastnn.cli.app import run

        run(args)
    except MissingExtraError as error:
        sys.exit(str(error))
    except KeyboardInterrupt:  # while modules are loaded: later ones are handled by `run`
        print("fastnn: error: interrupted", file=sys.stderr)
        sys.exit(130)
