"""What a data set looks like before anything is fitted on it: counts, light, sharpness, copies, drift, odd images.

:func:`survey` goes over the photographs once, a few at a time, and keeps some 4 kB of each: numbers, a thumbnail and a
descriptor. The rest is computed from these, without a loop over pairs. A photograph that cannot be read is listed, not
fatal. NumPy and Pillow only.

``looks`` puts one photograph into numbers, ``reading`` goes over all, ``order`` says when each was taken, ``alike`` and ``nearest`` find
copies, ``spread`` how far apart they lie, ``two_samples`` whether two groups differ, ``parts`` sums up one category.
"""

from andon.data.survey.alike import Copy, surplus
from andon.data.survey.parts import Odd, Outlier, Part, Shift
from andon.data.survey.reading import Embedder, Seen, small_pictures
from andon.data.survey.summary import Survey, survey

__all__ = [
    "Copy",
    "Embedder",
    "Odd",
    "Outlier",
    "Part",
    "Seen",
    "Shift",
    "Survey",
    "small_pictures",
    "surplus",
    "survey",
]
