"""What others published, to stand beside our figures: data files, each with its source.

``published/sets.json`` names the public data sets and their categories. Every other file there is one source: a paper, its
authors' repository, a listing, or somebody's re-run, with the address and where its figures were read. ``rank`` orders
them: where two say the same thing, the lower rank is shown. Figures are kept in the source's own unit and leave this
module as shares. What could not be read is not there: a missing figure is None, never a guess.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from andon.errors import DataError

FOLDER = Path(__file__).with_name("published")
MEAN = "mean"  # stands for a category: the mean over all categories of the set
Place = tuple[str, str]  # set, category
_UNITS = {"percent": 100.0, "share": 1.0}


@dataclass(frozen=True)
class Source:
    """Where figures come from. ``read_in``: where we read them, which need not be the paper itself."""

    name: str
    title: str
    authors: str
    year: int
    url: str
    rank: int
    read_in: str
    settings: str = ""

    def citation(self, table: str | None) -> str:
        """One line: authors, title, year, table, address, where it was read, settings."""
        parts = [f"{self.authors}: {self.title} ({self.year})", *([table] if table else []), self.url]
        return "; ".join(
            [", ".join(parts), f"read in: {self.read_in}", *([self.settings] if self.settings else [])]
        )


@dataclass(frozen=True)
class Figure:
    """One published figure as a share, 0 to 1. ``std_over``: what its spread was taken over, "runs" or "categories"."""

    value: float
    source: Source
    table: str | None = None
    std: float | None = None
    std_over: str = ""

    @property
    def citation(self) -> str:
        """The line that says where this figure is from."""
        return self.source.citation(self.table)


@dataclass(frozen=True)
class PublicSet:
    """A public data set: the names that its folder may have, and all of its categories."""

    name: str
    title: str
    aliases: tuple[str, ...]
    categories: tuple[str, ...]


_Key = tuple[str, str, str, str, str, str]  # set, category, method, metric, variant, group


@dataclass(frozen=True)
class Published:
    """Every published figure that is known here."""

    sets: Mapping[str, PublicSet]
    figures: Mapping[_Key, Figure]

    def find(
        self, place: Place, method: str, metric: str, *, variant: str = "", group: str = ""
    ) -> Figure | None:
        """The figure of ``method`` at ``place`` (set, category), None where there is none.

        ``variant``: as a grid names it, "" for the method as it is. ``group``: a kind of defect, "" for all.
        """
        known = self.identify(place)
        return None if known is None else self.figures.get((*known, method, metric, variant, group))

    def find_mean(
        self, places: Sequence[Place], method: str, metric: str, *, variant: str = "", group: str = ""
    ) -> Figure | None:
        """The published mean over ``places``; None unless they are all the categories of one set, each once."""
        known = [self.identify(place) for place in places]
        names = {found[0] for found in known if found}
        if len(names) != 1 or None in known:
            return None
        (name,) = names
        if sorted(found[1] for found in known if found) != sorted(self.sets[name].categories):
            return None
        return self.figures.get((name, MEAN, method, metric, variant, group))

    def identify(self, place: Place) -> Place | None:
        """The public set and category that ``place`` is, by the names of its folders; None for any other.

        A folder of one category may carry both names: ``mvtec_transistor``, ``mvtec_loco_juice_bottle``.

        >>> load().identify(("mvtec", "bottle")), load().identify(("parts", "mvtec_transistor"))
        (('mvtec_ad', 'bottle'), ('mvtec_ad', 'transistor'))
        """
        folder, category = (_plain(name) for name in place)
        for known in self.sets.values():
            if folder in known.aliases and category in known.categories:
                return known.name, category
            for alias in known.aliases:
                rest = category.removeprefix(f"{alias}_")
                if rest != category and rest in known.categories:
                    return known.name, rest
        return None

    def places(self, name: str) -> list[Place]:
        """Every (set, category) of the public set ``name``, by which a table can show what was not run."""
        if name not in self.sets:
            raise DataError(f"no public set is called {name!r}; known are {', '.join(self.sets)}")
        return [(name, category) for category in self.sets[name].categories]


NOTHING = Published({}, {})


@cache
def load(folder: Path = FOLDER) -> Published:
    """The data files of ``folder``. Raises :class:`DataError` for one that does not say what it must."""
    sets = {
        name: PublicSet(name, said["title"], tuple(said["aliases"]), tuple(said["categories"]))
        for name, said in _read(folder / "sets.json").items()
    }
    figures: dict[_Key, Figure] = {}
    files = sorted(path for path in folder.glob("*.json") if path.name != "sets.json")
    for source, tables in sorted(
        (_source(path) for path in files), key=lambda found: (found[0].rank, found[0].name)
    ):
        for key, figure in _figures(source, tables, sets):
            figures.setdefault(key, figure)
    return Published(sets, figures)


def _source(path: Path) -> tuple[Source, list[dict[str, Any]]]:
    said = _read(path)
    names = ("title", "authors", "year", "url", "rank", "read_in", "settings")
    if missing := [name for name in (*names, "unit", "tables") if name not in said]:
        raise DataError(f"{path} does not say its {', '.join(missing)}")
    if said["unit"] not in _UNITS:
        raise DataError(f"{path}: expected the unit {' or '.join(_UNITS)}, got {said['unit']!r}")
    source = Source(path.stem, **{name: said[name] for name in names})
    return source, [{**table, "whole": _UNITS[said["unit"]]} for table in said["tables"]]


def _figures(
    source: Source, tables: Sequence[dict[str, Any]], sets: Mapping[str, PublicSet]
) -> list[tuple[_Key, Figure]]:
    found = []
    for table in tables:
        for category, methods in table["values"].items():
            known = sets.get(table["set"])
            if known is None or category not in (*known.categories, MEAN):
                raise DataError(
                    f"{source.name}.json: {table['set']} has no category {category!r} in sets.json"
                )
            for method, given in methods.items():
                parts = (table["metric"], table.get("variant", ""), table.get("group", ""))
                found.append(((known.name, category, method, *parts), _figure(source, table, given)))
    return found


def _figure(source: Source, table: dict[str, Any], given: float | list[float]) -> Figure:
    """``given``: a figure, or a figure and its spread, in the source's unit."""
    whole = table["whole"]
    value, *spread = given if isinstance(given, list) else [given]
    if not 0 <= value <= whole:
        raise DataError(f"{source.name}.json: {table['metric']} {value} is not between 0 and {whole:g}")
    std = round(spread[0] / whole, 6) if spread else None
    return Figure(round(value / whole, 6), source, table["table"], std, table.get("std_over", ""))


def _read(path: Path) -> dict[str, Any]:
    try:
        said: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read the published figures in {path}: {error}") from error
    return said


def _plain(name: str) -> str:
    """A folder's name as the aliases are spelled.

    >>> _plain("MVTec-AD")
    'mvtec_ad'
    """
    return name.lower().replace("-", "_").replace(" ", "_")
