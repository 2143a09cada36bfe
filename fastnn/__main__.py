"""``python -m fastnn``: the command line, where the ``fastnn`` command is not on the path."""

from fastnn.cli import main

if __name__ == "__main__":
    main()
