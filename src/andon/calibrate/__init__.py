"""Scores of good images -> a threshold, and what can be promised of it.

Split conformal prediction: the threshold is the k-th smallest of n nominal scores that the detector never
saw, and ``image_score > threshold`` fails. If good parts to come are exchangeable with those n, the true
false-alarm rate R at that threshold is at most Beta(n + 1 - k, k) distributed (exactly so without ties), so

- on average over calibration sets, E[R] <= (n + 1 - k) / (n + 1)  (Vovk et al. 2005);
- for this very calibration set, R <= r with a confidence c as soon as P(Binomial(n, r) <= n - k) <= 1 - c
  (Vovk 2012, "Conditional validity of inductive conformal predictors"; Bates et al. 2023,
  "Testing for outliers with conformal p-values"; Wilks 1941 for k = n).

The second promise is the one to have, and is used as soon as n allows it. Exchangeable means: calibrate on
later lots, not on neighbours of the images that were fitted.
"""

from andon.calibrate.conformal import check_share, images_needed, promised_rate
from andon.calibrate.costs import Costs, Expected, cheapest_band, expected_cost
from andon.calibrate.decision import decide, outcome_table, score01
from andon.calibrate.differences import Differences, group_differences
from andon.calibrate.extrapolated import calibrate_extrapolated
from andon.calibrate.groups import (
    calibration_for,
    calibration_of_group,
    group_images_needed,
    group_of,
    group_paths,
    refused_group,
    too_few,
    with_groups,
)
from andon.calibrate.storage import calibration_from_dict, calibration_to_dict
from andon.calibrate.thresholds import calibrate, measured, percent, require_images, uncalibrated
from andon.calibrate.with_defects import calibrate_with_defects, check_criterion
from andon.path_pattern import PathPattern

__all__ = [
    "Costs",
    "Differences",
    "Expected",
    "PathPattern",
    "calibrate",
    "calibrate_extrapolated",
    "calibrate_with_defects",
    "calibration_for",
    "calibration_from_dict",
    "calibration_of_group",
    "calibration_to_dict",
    "cheapest_band",
    "check_criterion",
    "check_share",
    "decide",
    "expected_cost",
    "group_differences",
    "group_images_needed",
    "group_of",
    "group_paths",
    "images_needed",
    "measured",
    "outcome_table",
    "percent",
    "promised_rate",
    "refused_group",
    "require_images",
    "score01",
    "too_few",
    "uncalibrated",
    "with_groups",
]
