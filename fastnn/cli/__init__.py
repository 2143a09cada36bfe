"""The command line: ``fastnn train``, ``predict``, ``info``, ``warmup``, ``bench``.

Needs the extra `cli`.
"""

import io
import sys

from fastnn.errors import MissingExtraError, require

__all__ = ["main"]


def main(args: list[str] | None = None) -> None:
    """Run the ``fastnn`` command and exit with its exit code.

    Parameters
    ----------
    args : list of str or None, default=None
        Arguments; None takes those of the process, ``sys.argv[1:]``.

    Raises
    ------
    SystemExit
        Always, with the exit code: 0 for success; 1 if the data or a model cannot be used,
        training diverges, a package is missing or a measured loop is wrong; 2 if an argument
        cannot be used; 130 for Ctrl-C.

    Examples
    --------
    >>> import contextlib
    >>> from fastnn.cli import main
    >>> with contextlib.suppress(SystemExit):
    ...     main(["--version"])  # doctest: +ELLIPSIS
    fastnn ...
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # Names of files, columns and classes may hold characters that the stream has not.
            stream.reconfigure(errors="backslashreplace")
    try:
        for package in ("typer", "rich"):
            require(package, "cli")
        from fastnn.cli.app import run

        run(args)
    except MissingExtraError as error:
        sys.exit(str(error))
    except KeyboardInterrupt:  # during the imports; `run` handles it afterwards
        print("fastnn: error: interrupted", file=sys.stderr)
        sys.exit(130)
