"""How the benchmark's sentences say names, figures and differences."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from andon.bench.rows import Quantity, quantity
from andon.bench.writers import Column

NBSP = "\u00a0"
TITLES = {
    "patchcore": "PatchCore", "padim": "PaDiM", "autoencoder": "Autoencoder", "vae": "VAE", "riad": "RIAD", "gcad": "GCAD",
    "ganomaly": "GANomaly", "fanogan": "f-AnoGAN", "draem": "DRAEM", "dsr": "DSR", "cflow": "CFLOW-AD", "csflow": "CS-Flow",
    "fastflow": "FastFlow", "efficientad": "EfficientAD", "stfpm": "STFPM", "uninformed_students": "Uninformed Students",
    "reverse_distillation": "Reverse Distillation", "subspacead": "SubspaceAD", "simplenet": "SimpleNet",
    "supersimplenet": "SuperSimpleNet", "dinomaly": "Dinomaly", "vit_inpainting": "ViT inpainting", "fre": "FRE",
}  # fmt: skip


def title_of(method: str) -> str:
    """The method's name as people write it; one that is not known here stays as it is."""
    return TITLES.get(method, method)


def listed(names: Iterable[str]) -> str:
    """Names as a sentence has them.

    >>> listed(["a"]), listed(["a", "b", "c"])
    ('a', 'a, b and c')
    """
    *before, last = list(names) or [""]
    return f"{', '.join(before)} and {last}" if before else last


def shown(value: float, what: Quantity) -> str:
    """A figure with its unit.

    >>> shown(0.9731, quantity("image_auroc")).replace(NBSP, " ")
    '97.3 %'
    """
    return Column.of(what).number(value) + (f"{NBSP}%" if what.is_share else "")


def points(difference: float, what: Quantity) -> str:
    """A signed difference of two figures, of shares in points.

    >>> points(-0.0042, quantity("image_auroc")).replace(NBSP, " ")
    '−0.4 points'
    """
    number = Column.of(what).number(abs(difference))
    sign = "" if float(number) == 0 else "+" if difference > 0 else "−"
    return f"{sign}{number}" + (f"{NBSP}points" if what.is_share else "")


def phrase(what: Quantity) -> str:
    """A figure's title inside a sentence: ``AUPRO (FPR to 30 %)``."""
    title, comma, rest = what.title.partition(", ")
    return f"{title} ({rest})" if comma else title


def milliseconds(value: float) -> str:
    """A time of one image.

    >>> milliseconds(4.22).replace(NBSP, " ")
    '4.22 ms'
    """
    return f"{Column.of(quantity('p50_ms')).number(value)}{NBSP}ms"


def titles(names: Iterable[str]) -> str:
    """Methods as a sentence lists them."""
    return listed(map(title_of, names))


def verb(names: Sequence[str], one: str, several: str) -> str:
    """``one`` for a single name, ``several`` for more."""
    return one if len(names) == 1 else several


def quoted(name: str) -> str:
    """A variant's name inside a sentence."""
    return f"“{name}”"


def counted(count: float, word: str) -> str:
    """So many of something.

    >>> counted(1, "case"), counted(3, "case")
    ('1 case', '3 cases')
    """
    return f"{count:,g} {word}" + ("" if count == 1 else "s")


def first_up(sentence: str) -> str:
    """The same, beginning with a capital."""
    return sentence[:1].upper() + sentence[1:]
