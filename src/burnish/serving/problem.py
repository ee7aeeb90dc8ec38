"""OpenAI's error object: the one shape in which the server says no."""

from __future__ import annotations

from burnish.errors import BurnishError, FeedbackError, ModelError, Refused, ServingError, StoreError
from burnish.records import Json

TYPES = {401: "authentication_error", 403: "permission_error", 404: "not_found_error"}


class Problem(Exception):
    """A request that cannot be met: the HTTP status and what OpenAI's error object holds."""

    def __init__(self, status: int, message: str, *, code: str | None = None, param: str | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.code, self.param = status, message, code, param

    def body(self) -> dict[str, Json]:
        """The JSON that the client gets."""
        kind = TYPES.get(self.status, "invalid_request_error" if self.status < 500 else "server_error")
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}


def problem_of(error: BurnishError) -> Problem:
    """The problem that an error of ours is to a client: 409 for a gate's no, 503 where the server cannot
    (no version, too many waiting, a full disk), 400 for all that the caller can mend."""
    status, code = 400, "invalid_value"
    if isinstance(error, Refused):
        status, code = 409, "refused"
    elif isinstance(error, ServingError | StoreError | ModelError):
        status, code = 503, "not_ready"
    elif isinstance(error, FeedbackError):
        code = "invalid_feedback"
    said = "; ".join(str(error).split("\n"))  # what is wrong; how to mend it
    return Problem(status, " ".join(said.split()), code=code)
