"""Tables of plain text as Markdown, LaTeX and CSV."""

import csv
import io
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

NONE = "–"  # where a cell has no figure
LATEX = {
    "\\": r"\textbackslash{}",
    **{character: f"\\{character}" for character in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "[": "{[}",  # after \\ it would open an optional argument
    "*": "{*}",  # after \\ it would be part of the command
    "±": r"$\pm$",
    "×": r"$\times$",
    "−": "$-$",
    "–": "--",
    "κ": r"$\kappa$",
}
LATEX_HEAD = r"""% Needs \usepackage{booktabs} in the preamble. Captions are yours to write.
% Wider than the page: \resizebox{\linewidth}{!}{...} around the tabular, or shorter --names.
"""


@dataclass(frozen=True)
class Table:
    """A table of plain text, to be escaped as its format demands.

    Attributes
    ----------
    caption : str
    header : sequence of str
    rows : sequence of sequences of str
    align : str
        ``l`` or ``r`` for each column.
    bold : set of (row, column)
    rule_above : int or None
        Row that a rule sets apart from those above it, where the format has rules.
    notes : sequence of str
        Lines under the table.
    """

    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    align: str
    bold: frozenset[tuple[int, int]] = frozenset()
    rule_above: int | None = None
    notes: Sequence[str] = field(default_factory=tuple)


def markdown(tables: Iterable[Table]) -> str:
    """Tables with their captions above and their notes below, ending in a line feed."""
    return "\n".join(_markdown_table(table) for table in tables)


def _markdown_table(table: Table) -> str:
    rules = ["---:" if side == "r" else "---" for side in table.align]
    rows = [
        [
            f"**{escape_markdown(cell)}**" if (r, c) in table.bold else escape_markdown(cell)
            for c, cell in enumerate(row)
        ]
        for r, row in enumerate(table.rows)
    ]
    lines = [escape_markdown(table.caption), ""]
    lines += [
        f"| {' | '.join(cells)} |" for cells in (map(escape_markdown, table.header), rules, *rows)
    ]
    if table.notes:
        lines += ["", *(f"- {escape_markdown(note)}" for note in table.notes)]
    return "\n".join(lines) + "\n"


def escape_markdown(text: str) -> str:
    """Text as one line without any character's meaning in Markdown."""
    return re.sub(r"([\\`*_|<\[])", r"\\\1", " ".join(text.split()))


def latex(tables: Iterable[Table]) -> str:
    r"""Floating tables for the package booktabs, to be read with ``\input``."""
    return LATEX_HEAD + "\n".join(_latex_table(table) for table in tables)


def _latex_table(table: Table) -> str:
    body = []
    for r, row in enumerate(table.rows):
        cells = [
            rf"\textbf{{{escape_latex(cell)}}}" if (r, c) in table.bold else escape_latex(cell)
            for c, cell in enumerate(row)
        ]
        body += [r"\midrule"] * (r == table.rule_above) + [" & ".join(cells) + r" \\"]
    lines = [
        r"\begin{table}[htbp]",
        r"\centering",
        rf"\caption{{{escape_latex(table.caption)}}}",
        rf"\begin{{tabular}}{{{table.align}}}",
        r"\toprule",
        " & ".join(map(escape_latex, table.header)) + r" \\",
        r"\midrule",
        *body,
        r"\bottomrule",
        r"\end{tabular}",
    ]
    if table.notes:
        lines += [r"\par\medskip\raggedright\footnotesize"]
        lines += [escape_latex(note) + r"\par" for note in table.notes]
    return "\n".join([*lines, r"\end{table}"]) + "\n"


def escape_latex(text: str) -> str:
    """Text as one line without any character's meaning in LaTeX."""
    return "".join(LATEX.get(character, character) for character in " ".join(text.split()))


def csv_text(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Comma-separated values; None becomes an empty field, and no text a spreadsheet's formula."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerows([_no_formula(cell) for cell in row] for row in (header, *rows))
    return buffer.getvalue()


def _no_formula(cell: object) -> object:
    """Set an apostrophe before text that a spreadsheet would compute, as names may ask for."""
    if not isinstance(cell, str) or not cell.lstrip().startswith(("=", "+", "-", "@")):
        return cell
    try:
        float(cell)
    except ValueError:
        return f"'{cell}"
    return cell
