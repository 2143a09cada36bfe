"""Options that several commands have."""

from pathlib import Path
from typing import Annotated, Any

import typer

FLAG = ""
"""The metavar of an option that takes no value: by default its help would show <bool>."""

_DATA_HELP = (
    "A .csv, .tsv, .data or .txt file (also .gz), a .parquet file, a .npz file with arrays X and "
    "y, a folder of IDX files (MNIST), or the name of a bundled real data set: digits, "
    "breast_cancer, wine, iris, diabetes. For a file or folder of such a name, write ./digits. "
    "- reads a text, .parquet or .npz file from standard input."
)

Data = Annotated[str, typer.Argument(metavar="DATA", help=_DATA_HELP, show_default=True)]
Header = Annotated[
    bool | None,
    typer.Option(
        "--header/--no-header",
        metavar=FLAG,
        help="Whether the first line of a text file names the columns. Detected by default.",
        show_default=False,
        rich_help_panel="Data",
    ),
]
Force = Annotated[
    bool,
    typer.Option("--force", metavar=FLAG, help="Replace existing files.", rich_help_panel="Output"),
]
Json = Annotated[
    Path | None,
    typer.Option(
        "--json",
        metavar="[FILE]",
        help="Write all results as JSON, to standard output for - or without FILE.",
        rich_help_panel="Output",
    ),
]
Debug = Annotated[
    bool,
    typer.Option(
        "--debug", metavar=FLAG, help="Print the traceback of an error.", rich_help_panel="Output"
    ),
]


def option(panel: str, *names: str, **settings: Any) -> Any:
    """Return an option of a command, shown in a panel of its help."""
    return typer.Option(*names, rich_help_panel=panel, **settings)
