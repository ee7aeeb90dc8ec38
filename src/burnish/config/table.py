"""What every table of the recipe is: strict, frozen, with typed keys; and the types that its keys share."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

Auto = Literal["auto"]
Positive = Annotated[int, Field(gt=0)]
PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[int, Field(ge=0)]
NotNegativeFloat = Annotated[float, Field(ge=0, allow_inf_nan=False)]
PART = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*", re.ASCII)
Names = tuple[Annotated[str, Field(min_length=1)], ...]
TypeName = Annotated[str, Field(pattern=r"^[A-Za-z_][\w.:-]*$")]  # of an error; figures are logged under it
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


def _named(name: str) -> str:
    if not PART.fullmatch(name):
        raise ValueError("an own part is named package.module:function")
    return name


PartName = Annotated[str, AfterValidator(_named)]
Criterion = Annotated[str, Field(pattern=r"^\w([\w '&-]{0,38}\w)?$")]  # a few words, without what logs and names use


class Table(BaseModel):
    """A table of the recipe: unknown keys are errors, values are not coerced, nothing changes after loading."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


def default_of(table: Table, name: str) -> object:
    """What a key is where the recipe does not give it."""
    return type(table).model_fields[name].default
