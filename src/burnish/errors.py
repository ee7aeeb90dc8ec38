"""One error class per boundary. Each message says what is wrong, where, and how to mend it.

The command line turns them into exit codes: 1 a gate or check said no, 2 the input is wrong, 70 our bug.
"""

from __future__ import annotations


class BurnishError(Exception):
    """What every error of Burnish derives from: a sentence, a place, and a remedy.

    Args:
        what: One sentence that names the value that is wrong.
        where: The file and line, recipe key, route or record that holds it.
        mend: What to do about it.
    """

    exit_code = 2

    def __init__(self, what: str, *, where: str | None = None, mend: str | None = None) -> None:
        self.what, self.where, self.mend = what, where, mend
        super().__init__(str(self))

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        remedy = f"\n  {self.mend}" if self.mend else ""
        return f"{place}{self.what}{remedy}"


class ConfigError(BurnishError):
    """The recipe or a host setting is wrong."""


class PartError(BurnishError):
    """An own part cannot be loaded, breaks its contract, or raised."""


class DataError(BurnishError):
    """A data file or a row of it is wrong."""


class StoreError(BurnishError):
    """The store cannot be opened, read or written."""


class ModelError(BurnishError):
    """A base, an adapter or a saved artifact is wrong."""


class SamplingError(BurnishError):
    """A request to the sampler cannot be met."""


class TrainingError(BurnishError):
    """Training cannot start, or had to stop."""


class EvaluationError(BurnishError):
    """An evaluation or a gate rule cannot be computed."""


class FeedbackError(BurnishError):
    """A vote, a rater or a comparison is wrong."""


class ServingError(BurnishError):
    """The server cannot start or answer."""


class Refused(BurnishError):
    """A gate or a check said no: not a mistake, a decision."""

    exit_code = 1
