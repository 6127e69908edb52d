"""Which of the images that are said to be good look wrong, and how.

No image is judged by a detector that saw it: the images are dealt into folds, near copies into the same one, and each
is scored by the memory banks of the other folds (``crossfit``, ``folds``). What it shows is put into a few numbers
(``signals``), these into a kind with its evidence in words (``kinds``), and all of it into one list (``ranking``).
``left_out`` reads such a list back.

``crossfit`` needs torch; the rest is NumPy.
"""

from andon.audit.kinds import KINDS, Kind
from andon.audit.left_out import LEAVE_OUT, LOOK, read_left_out
from andon.audit.ranking import Audit, Judged, rank

__all__ = ["KINDS", "LEAVE_OUT", "LOOK", "Audit", "Judged", "Kind", "rank", "read_left_out"]
