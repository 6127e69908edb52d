"""The group that an image belongs to, read from its path: a lot, a shift, a camera."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePath

from andon.errors import DataError, SettingsError

_TOKEN = re.compile(r"\{(?P<name>[A-Za-z_]\w*)\}|(?P<wild>[*?])|(?P<literal>[^{}*?]+)|(?P<wrong>.)", re.S)
_EXAMPLE = "such as {shift}/{lot}_*.png"


@dataclass(frozen=True)
class PathPattern:
    """A pattern of the last parts of a path, such as ``{shift}/{lot}_*.png``.

    ``{name}`` takes the shortest text that fits, ``*`` any text, ``?`` one character, none of them a "/"; all else
    stands for itself. Only as many parts as the pattern has are looked at, from the end, so that the same pattern fits
    wherever the folders lie.

    >>> PathPattern.parse("{shift}/{lot}_*.png").group_of("/line3/photos/night/B12_007_a.png")
    'shift=night, lot=B12'
    >>> PathPattern.parse("{shift}/{lot}_*.png").group_of("night/B12.jpg") is None
    True
    """

    text: str
    expression: re.Pattern[str]

    @classmethod
    @lru_cache(maxsize=64)
    def parse(cls, text: str, option: str = "group_by") -> PathPattern:
        """The pattern that ``text``, the value of ``option``, writes.

        Raises :class:`SettingsError` where it has no {name}, or two meet.
        """
        pieces: list[str] = []
        names: list[str] = []
        open_before = False  # the piece before has no fixed end
        for token in _TOKEN.finditer(text.replace("\\", "/")):
            literal, name = token["literal"], token["name"]
            if token["wrong"]:
                _refuse(option, text, f"{token['wrong']!r} belongs to no {{name}}")
            if literal is None and open_before:
                _refuse(option, text, f"nothing stands between {token[0]!r} and what is before it")
            if name in names:
                _refuse(option, text, f"{{{name}}} stands in it twice")
            names += [name] if name else []
            pieces.append(re.escape(literal) if literal else _open_piece(token[0], name))
            open_before = literal is None and token[0] != "?"
        if not names:
            _refuse(option, text, "it has no {name}")
        return cls(text, re.compile(rf"(?:^|/){''.join(pieces)}$"))

    def group_of(self, path: str) -> str | None:
        """The name of the group of the image at ``path``, or None where the path does not fit the pattern."""
        fields = self.fields_of(path)
        return None if fields is None else ", ".join(f"{name}={value}" for name, value in fields.items())

    def fields_of(self, path: str) -> dict[str, str] | None:
        """{name: text} of the pattern's names in ``path``, or None where the path does not fit.

        >>> PathPattern.parse("{part}_{side}.png").fields_of("in/A17_left.png")
        {'part': 'A17', 'side': 'left'}
        """
        found = self.expression.search(PurePath(path).as_posix())
        return found.groupdict() if found else None


def group_names(group_by: str, paths: Iterable[Path]) -> dict[Path, str]:
    """The group that the pattern ``group_by`` finds in each of ``paths``.

    Raises :class:`SettingsError` for a pattern that names no group, :class:`DataError` for a path that does not fit it.
    """
    pattern = PathPattern.parse(group_by)
    names = {path: pattern.group_of(str(path.absolute())) for path in paths}
    for path, name in names.items():
        if name is None:
            raise DataError(
                f"group_by: the pattern {group_by!r} does not fit {path}; every image needs a group. "
                "The pattern is compared with the last parts of the path, whole."
            )
    return {path: name for path, name in names.items() if name is not None}


def _open_piece(token: str, name: str | None) -> str:
    """The regular expression of ``*``, ``?`` or a ``{name}``."""
    return rf"(?P<{name}>[^/]+?)" if name else {"*": "[^/]*", "?": "[^/]"}[token]


def _refuse(option: str, text: str, reason: str) -> None:
    raise SettingsError(f"{option}: expected a pattern of paths {_EXAMPLE}, got {text!r}: {reason}")
