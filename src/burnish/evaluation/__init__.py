"""Evaluation: answers to held-out prompts, what they measure, what people prefer, and the gate."""

from burnish.evaluation.gates import ALPHA, LEAST_CLUSTERS, RULES, check_rules, decide, recheck
from burnish.evaluation.possible import never_passes
from burnish.evaluation.preference import judge_campaign, judged
from burnish.evaluation.report import SIMULATED, dominant_part, lines, table, verdict_lines
from burnish.evaluation.stage import cluster, evaluate

__all__ = [
    "ALPHA",
    "LEAST_CLUSTERS",
    "RULES",
    "SIMULATED",
    "check_rules",
    "cluster",
    "decide",
    "dominant_part",
    "evaluate",
    "judge_campaign",
    "judged",
    "lines",
    "never_passes",
    "recheck",
    "table",
    "verdict_lines",
]
