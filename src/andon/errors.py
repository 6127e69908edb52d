"""Every error that Andon raises on purpose, as one tree.

::

    AndonError                      catch this to catch them all
    ├── ImageError                  an image cannot be read, or is not what was expected
    ├── ArtifactError               an .andon file is damaged, too new, or not one
    ├── DataError                   a folder, data set, split or download is not what was expected
    ├── SettingsError               an option has a value that makes no sense
    ├── NotFittedError              a detector was asked before it was fitted
    ├── CalibrationError            scores from which no threshold can be had
    ├── MetricError                 a metric is not defined on what was given
    ├── BusyError                   another process is writing the same thing
    ├── AccessError                 a name or password is wrong, or that person may not do this
    └── MissingExtraError           an optional package is not installed

A message says what was expected, what came, and what to do next.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable


class AndonError(Exception):
    """Something that the user can put right; the message says how."""


class ImageError(AndonError):
    """An image cannot be read, or is not what was expected."""


class ArtifactError(AndonError):
    """An ``.andon`` file is damaged, too new, or not one at all."""


class DataError(AndonError):
    """A folder, data set, split or download is not what was expected."""


class SettingsError(AndonError, ValueError):
    """An option has a value that makes no sense."""


class NotFittedError(AndonError):
    """A detector was asked for an answer before it was fitted."""


class CalibrationError(AndonError):
    """The scores given do not allow a threshold."""


class MetricError(AndonError, ValueError):
    """The metric is not defined on what was given."""


class BusyError(AndonError):
    """Another process is writing the same thing."""


class AccessError(AndonError):
    """A name or password is wrong, or that person may not do this."""


class MissingExtraError(AndonError, ImportError):
    """An optional package is not installed.

    >>> raise MissingExtraError("matplotlib", extra="report", purpose="drawing the report's figures")
    Traceback (most recent call last):
        ...
    andon.errors.MissingExtraError: drawing the report's figures needs the package 'matplotlib', which is not installed. Install it with: pip install "andon[report]"
    """

    def __init__(self, package: str, *, extra: str, purpose: str) -> None:
        super().__init__(
            f"{purpose} needs the package {package!r}, which is not installed. "
            f'Install it with: pip install "andon[{extra}]"'
        )


def did_you_mean(word: str, choices: Iterable[str], shown: Callable[[str], str] = repr) -> str:
    """The end of a message: up to three of ``choices`` that look like ``word``, whatever their case; else nothing.

    ``shown``: how a choice is written.

    >>> did_you_mean("Botle", ["bottle", "cable"])
    " Did you mean 'bottle'?"
    >>> did_you_mean("x", ["bottle"])
    ''
    """
    import difflib

    lower = {choice.lower(): choice for choice in choices}
    close = [lower[match] for match in difflib.get_close_matches(word.lower(), lower, n=3, cutoff=0.7)]
    return f" Did you mean {' or '.join(map(shown, close))}?" if close else ""
