"""Privacy of each image: noise on what leaves a site, what it promises, and the account of what was told.

``mechanism`` adds images up with noise, ``moments`` and ``banks`` say of what, ``public`` finds the scales on images that
anybody may see, ``accountant`` turns noise into a promise and back, ``budget`` keeps a site to its promise, ``training`` is
DP-SGD, ``masking`` lets a server see nothing but sums.
"""

from andon.federated.privacy.accountant import (
    Spent,
    delta_of,
    epsilon_of,
    epsilon_spent,
    noise_for,
    training_noise,
)
from andon.federated.privacy.banks import PrivateBank
from andon.federated.privacy.budget import Budget, SpentError
from andon.federated.privacy.masking import Masked, agreed_seeds, key_pair, masked_expected, unmasked
from andon.federated.privacy.mechanism import ClippedSum
from andon.federated.privacy.moments import PrivateMoments
from andon.federated.privacy.statistic import (
    Guarantee,
    PrivateStatistics,
    guarantee_of,
    merge_privately,
    observe_privately,
    statistic_of,
)
from andon.federated.privacy.training import private_training

__all__ = [
    "Budget",
    "ClippedSum",
    "Guarantee",
    "Masked",
    "PrivateBank",
    "PrivateMoments",
    "PrivateStatistics",
    "Spent",
    "SpentError",
    "agreed_seeds",
    "delta_of",
    "epsilon_of",
    "epsilon_spent",
    "guarantee_of",
    "key_pair",
    "masked_expected",
    "merge_privately",
    "noise_for",
    "observe_privately",
    "private_training",
    "statistic_of",
    "training_noise",
    "unmasked",
]
