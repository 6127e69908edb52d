"""A table of results as data, and as Markdown, CSV, JSON and LaTeX.

Markdown and LaTeX print shares in percent, rounded; CSV and JSON hold the figures as they are. The same table always gives
the same text.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from andon.bench.rows import Quantity
from andon.cells import csv_cell, finite

NO_VALUE = "–"


@dataclass(frozen=True)
class Column:
    """A column's head, and how its numbers are printed; ``is_text``: it holds words."""

    title: str
    is_share: bool = True
    decimals: int | None = 1  # None: three digits that count
    is_text: bool = False

    @classmethod
    def of(cls, quantity: Quantity, title: str = "") -> Column:
        """A column of ``quantity``, under its own title where none is given."""
        return cls(title or quantity.title, quantity.is_share, quantity.decimals)

    def number(self, value: float) -> str:
        """``value`` as the column prints it.

        >>> Column("AUROC").number(0.9731), Column("ms", False, None).number(0.1234)
        ('97.3', '0.123')
        >>> Column("change").number(-0.0001)
        '0.0'
        """
        shown = 100 * value if self.is_share else value
        decimals = self.decimals
        if decimals is None:
            decimals = max(0, 3 - len(f"{abs(shown):.0f}")) if abs(shown) >= 1 else 3
        text = f"{shown:.{decimals}f}"
        return text.removeprefix("-") if float(text) == 0 else text


@dataclass(frozen=True)
class Entry:
    """One field of a table: words, or the mean of ``n`` runs with its spread, and what others published.

    ``significant``: it differs significantly from what the table compares with. ``source``: where ``published`` is from.
    """

    text: str = ""
    mean: float | None = None
    std: float | None = None
    n: int = 0
    bold: bool = False
    underlined: bool = False
    significant: bool = False
    published: float | None = None
    source: str = ""
    note: str = ""


@dataclass(frozen=True)
class Table:
    """A title, a caption that says how to read it, and as many entries in every row as there are columns."""

    name: str
    title: str
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Entry, ...], ...]

    @property
    def sources(self) -> list[str]:
        """Where the published figures are from, in the order in which they appear."""
        return list(dict.fromkeys(entry.source for row in self.rows for entry in row if entry.source))

    @property
    def notes(self) -> list[str]:
        """What there is to say of single entries, in the order in which it appears."""
        return list(dict.fromkeys(entry.note for row in self.rows for entry in row if entry.note))


@dataclass(frozen=True)
class _Style:
    """How one kind of text writes an entry; ``safe`` makes words harmless."""

    safe: Callable[[str], str]
    bold: str
    underlined: str
    raised: str
    plus_minus: str
    star: str
    dash: str


def to_markdown(table: Table) -> str:
    """The table in GitHub's Markdown, with its caption before it and notes and sources after it."""
    style = _Style(_markdown_safe, "**{}**", "<u>{}</u>", "<sup>{}</sup>", " ± ", "\\*", NO_VALUE)
    lines = [f"### {_markdown_safe(table.title)}", "", _markdown_safe(table.caption), ""]
    lines.append(_pipes(_markdown_safe(column.title) for column in table.columns))
    lines.append(_pipes("---" if column.is_text else "---:" for column in table.columns))
    lines += [_pipes(_shown(table, row, k, style) for k in range(len(row))) for row in table.rows]
    tail = [f"<sup>{mark}</sup> {_markdown_safe(said)}" for mark, said in _tail(table)]
    return "\n".join([*lines, *(["", "  \n".join(tail)] if tail else [])]) + "\n"


def to_latex(table: Table) -> str:
    """The table in LaTeX; it needs the package booktabs."""
    style = _Style(
        _latex_safe,
        r"\textbf{{{}}}",
        r"\underline{{{}}}",
        r"\textsuperscript{{{}}}",
        r" $\pm$ ",
        r"$^{*}$",
        "--",
    )
    lines = [
        r"\begin{table}[t]", r"\centering", rf"\caption{{{_latex_safe(table.title)}. {_latex_safe(table.caption)}}}",
        rf"\label{{tab:{re.sub('[^a-z0-9-]+', '-', table.name.lower())}}}",
        rf"\begin{{tabular}}{{{''.join('l' if column.is_text else 'r' for column in table.columns)}}}", r"\toprule",
    ]  # fmt: skip
    lines.append(" & ".join(_latex_safe(column.title) for column in table.columns) + r" \\")
    lines.append(r"\midrule")
    lines += [
        " & ".join(_shown(table, row, k, style) for k in range(len(row))) + r" \\" for row in table.rows
    ]
    lines += [r"\bottomrule", r"\end{tabular}"]
    lines += [
        rf"\par\footnotesize \textsuperscript{{{mark}}} {_latex_safe(said)}" for mark, said in _tail(table)
    ]
    return "\n".join([*lines, r"\end{table}"]) + "\n"


def to_csv(table: Table) -> str:
    """The table as CSV: a field for every piece that any entry of a column has, figures unrounded.

    Words stand in the column itself; ``marks`` are bold, underlined and significant.
    """
    pieces = [(k, *piece) for k in range(len(table.columns)) for piece in _pieces(table, k)]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([csv_cell(f"{table.columns[k].title} {name}".strip()) for k, name, _ in pieces])
    writer.writerows([csv_cell(get(row[k])) for k, _, get in pieces] for row in table.rows)
    return text.getvalue()


def to_json(table: Table) -> str:
    """The table as strict JSON: figures unrounded, an entry's parts only where they say something."""
    kinds = [
        "text" if column.is_text else "share" if column.is_share else "number" for column in table.columns
    ]
    whole = {
        "name": table.name, "title": table.title, "caption": table.caption,
        "columns": [{"title": column.title, "kind": kind} for column, kind in zip(table.columns, kinds)],
        "rows": [[_said(entry) for entry in row] for row in table.rows],
        "notes": table.notes, "sources": table.sources,
    }  # fmt: skip
    return json.dumps(whole, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


WRITERS: Mapping[str, Callable[[Table], str]] = {
    "md": to_markdown,
    "csv": to_csv,
    "json": to_json,
    "tex": to_latex,
}


def _shown(table: Table, row: Sequence[Entry], k: int, style: _Style) -> str:
    """An entry as it is printed: value, marks, what was published, marks of its note and source."""
    entry, column = row[k], table.columns[k]
    if entry.mean is None:
        shown = style.dash if entry.text == NO_VALUE else style.safe(entry.text)
    else:
        spread = "" if entry.std is None else style.plus_minus + column.number(entry.std)
        shown = column.number(entry.mean) + spread
    shown = style.underlined.format(shown) if entry.underlined else shown
    shown = (style.bold.format(shown) if entry.bold else shown) + (style.star if entry.significant else "")
    letter = _letter(table, entry.source) if entry.source else ""
    if entry.published is not None:
        shown += f" [{column.number(entry.published)}{style.raised.format(letter) if letter else ''}]"
    return shown + (style.raised.format(1 + table.notes.index(entry.note)) if entry.note else "")


def _letter(table: Table, source: str) -> str:
    """a, b, ... z, aa: the mark of a source."""
    place, letters = table.sources.index(source) + 1, ""
    while place:
        place, rest = divmod(place - 1, 26)
        letters = chr(ord("a") + rest) + letters
    return letters


def _tail(table: Table) -> list[tuple[str, str]]:
    """What stands below the table: (mark, words) of its notes and sources."""
    notes = [(str(place), note) for place, note in enumerate(table.notes, 1)]
    return notes + [(_letter(table, source), source) for source in table.sources]


def _pieces(table: Table, k: int) -> list[tuple[str, Callable[[Entry], object]]]:
    entries = [row[k] for row in table.rows]
    pieces: list[tuple[str, Callable[[Entry], object]]] = [
        ("std", lambda entry: _plain(entry.std)), ("runs", lambda entry: entry.n or None),
        ("marks", _marks), ("published", lambda entry: _plain(entry.published)),
        ("source", lambda entry: entry.source or None), ("note", lambda entry: entry.note or None),
    ]  # fmt: skip
    kept = [piece for piece in pieces if any(piece[1](entry) is not None for entry in entries)]
    return [("", _value), *kept]


def _value(entry: Entry) -> object:
    words = "" if entry.text == NO_VALUE else entry.text
    return words if entry.mean is None else _plain(entry.mean)


def _plain(value: float | None) -> float | None:
    return None if value is None else finite(value)


def _marks(entry: Entry) -> str | None:
    names = ("bold", "underlined", "significant")
    return " ".join(name for name in names if getattr(entry, name)) or None


def _said(entry: Entry) -> dict[str, Any]:
    """The parts of an entry that differ from the default."""
    return {
        part.name: value
        for part in fields(Entry)
        if (value := getattr(entry, part.name)) != part.default and value is not None
    }


def _pipes(texts: Iterable[str]) -> str:
    return f"| {' | '.join(texts)} |"


def _markdown_safe(text: str) -> str:
    """Words that no Markdown renderer takes for more than words, on one line.

    >>> _markdown_safe("engine_wiring | <b> *x*")
    'engine_wiring \\\\| &lt;b&gt; \\\\*x\\\\*'
    """
    text = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    text = re.sub(r"([\\|*`~\[\]])", r"\\\1", text)
    return re.sub(r"(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])", r"\\_", text)


_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "[": "{[}", "]": "{]}", "±": r"$\pm$", "×": r"$\times$", "–": "--", "’": "'",
}  # fmt: skip


def _latex_safe(text: str) -> str:
    r"""Words that LaTeX prints as they are, on one line.

    >>> _latex_safe("5 % of a_b")
    '5 \\% of a\\_b'
    """
    return "".join(_LATEX.get(letter, letter) for letter in " ".join(text.split()))
