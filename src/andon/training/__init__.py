"""Training: the ``loss*`` of ``observe* -> loss* -> close``.

``plan`` says how to train, ``machine`` on what, ``images`` brings the images, ``frozen`` keeps what networks that never
change make of them, ``held_out`` stops early, ``packing`` turns what is in motion into tensors and JSON, ``loop`` trains.
"""

from andon.training.images import Images, Pick, Source
from andon.training.loop import NO_HELD_OUT, Trainer, train
from andon.training.machine import Machine
from andon.training.plan import Plan, Record, curve

__all__ = [
    "NO_HELD_OUT",
    "Images",
    "Machine",
    "Pick",
    "Plan",
    "Record",
    "Source",
    "Trainer",
    "curve",
    "train",
]
