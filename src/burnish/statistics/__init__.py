"""The one home of every interval: bootstrap over clusters, preferences, calibration, sequential tests."""

from burnish.statistics.calibration import Bin, calibration_error, reliability
from burnish.statistics.detection import average_precision
from burnish.statistics.preferences import agreement, bradley_terry, win_rate
from burnish.statistics.resampling import crossed_bootstrap, mean_interval, paired_bootstrap
from burnish.statistics.sequential import alpha_for_use, confidence_sequence
from burnish.statistics.shares import share_interval

__all__ = [
    "Bin",
    "agreement",
    "alpha_for_use",
    "average_precision",
    "bradley_terry",
    "calibration_error",
    "confidence_sequence",
    "crossed_bootstrap",
    "mean_interval",
    "paired_bootstrap",
    "reliability",
    "share_interval",
    "win_rate",
]
