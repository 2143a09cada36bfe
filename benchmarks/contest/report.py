"""How results are told: tables for the terminal and for Markdown, and verdicts on targets."""

from dataclasses import dataclass, field


@dataclass
class Table:
    """A table.

    Parameters
    ----------
    headers : list of str
        The first column is text, the others are aligned as numbers.
    rows : list of list of str
    """

    headers: list
    rows: list = field(default_factory=list)

    def markdown(self):
        """Return it as lines of Markdown, aligned so that it can be read as it is."""
        lines = [self.headers, *self.rows]
        widths = [max(3, *(len(line[k]) for line in lines)) for k in range(len(self.headers))]

        def joined(cells):
            padded = [
                cell.ljust(width) if k == 0 else cell.rjust(width)
                for k, (cell, width) in enumerate(zip(cells, widths, strict=True))
            ]
            return "| " + " | ".join(padded) + " |"

        rule = [
            "-" * width if k == 0 else "-" * (width - 1) + ":" for k, width in enumerate(widths)
        ]
        return [joined(self.headers), joined(rule), *(joined(row) for row in self.rows)]


@dataclass
class Section:
    """The results of a part of the contest.

    Parameters
    ----------
    title : str
    intro : str
        What was measured, in a few sentences.
    table : Table
    notes : list of str
        What follows from the table.
    data : list of dict
        The same for machines.
    verdicts : list of (str, bool)
        Targets, and whether they were met.
    """

    title: str
    intro: str = ""
    table: Table = None
    notes: list = field(default_factory=list)
    data: list = field(default_factory=list)
    verdicts: list = field(default_factory=list)

    def judge(self, text, met):
        """Add a verdict on a target."""
        self.verdicts.append((text, bool(met)))

    def lines(self):
        """Return the section as lines of Markdown."""
        result = [f"## {self.title}", ""]
        if self.intro:
            result += [self.intro, ""]
        if self.table is not None and self.table.rows:
            result += [*self.table.markdown(), ""]
        result += [f"- {note}" for note in self.notes]
        result += [f"- {'met' if met else '**missed**'}: {text}" for text, met in self.verdicts]
        if self.notes or self.verdicts:
            result.append("")
        return result


def mark(ratio, target):
    """Return a ratio with its target, and a sign where it was missed."""
    return f"{ratio:.2f} / {target:g}" + ("" if ratio >= target else " **!**")


def number(value):
    """Return a number with three digits that count."""
    if value >= 100:
        return f"{value:.0f}"
    return f"{value:.3g}" if value >= 0.001 else f"{value:.1e}"


def head(machine, versions, date, command, left_out):
    """Return the lines that say what was measured, where and how."""
    peaks = machine["peak_flops"]
    lines = [
        "# fastnn and its peers",
        "",
        f"Measured on {date} by",
        "",
        "```sh",
        command,
        "```",
        "",
        f"- Machine: {machine['cpu']}, {machine['cores']} cores, vectors of "
        f"{machine['vector_bits']} bits, {machine['system']}",
    ]
    lines += [
        f"- Peak of multiply-adds in {dtype}: {peak['one'] / 1e9:.1f} GFLOP/s on one core, "
        f"{peak['all'] / 1e9:.1f} on all"
        for dtype, peak in peaks.items()
    ]
    lines.append(
        f"- Python {machine['python']}, "
        + ", ".join(f"{name} {version}" for name, version in versions["packages"].items())
    )
    lines.append(f"- BLAS of NumPy: {versions['blas']}")
    lines += [f"- {line}" for line in left_out]
    return [*lines, ""]


def summary(sections):
    """Return the lines that count which targets were met."""
    verdicts = [verdict for section in sections for verdict in section.verdicts]
    missed = [text for text, met in verdicts if not met]
    lines = ["## Targets", "", f"{len(verdicts) - len(missed)} of {len(verdicts)} are met."]
    if missed:
        lines += ["Missed:", "", *(f"- {text}" for text in missed)]
    return [*lines, ""]
