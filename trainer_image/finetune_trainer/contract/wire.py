"""How values travel: camelCase JSON, floats as strings, numbers within the bounds of a status."""

from __future__ import annotations

import math
from typing import Annotated, Any, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer
from pydantic.alias_generators import to_camel


def _format_float(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    return f"{value:.6g}"


def _read_float(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, OverflowError) as error:  # pydantic turns ValueError alone into its own
        raise ValueError(f"not a number: {error}") from error


FloatString = Annotated[
    float,
    BeforeValidator(_read_float),
    PlainSerializer(_format_float, return_type=str),
]
"""A float that travels as a string with six significant digits ("2.0413", "NaN"): for reading."""

ExactFloatString = Annotated[
    float,
    BeforeValidator(_read_float),
    PlainSerializer(repr, return_type=str),
]
"""A float that travels as the shortest string that reads back to the same bits: for computing."""

# The bounds of the custom resource's status: a record beyond them is malformed, and could not be
# written down.
Step = Annotated[int, Field(ge=0, le=2_147_483_647)]
Count = Annotated[int, Field(ge=0, le=9_007_199_254_740_991)]


class Wire(BaseModel):
    """Base of everything that crosses: camelCase JSON, immutable, unknown fields refused."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, extra="forbid", frozen=True
    )

    def to_json(self, *, indent: int | None = None) -> str:
        """JSON by alias, unset (None) members left out."""
        return self.model_dump_json(by_alias=True, exclude_none=True, indent=indent)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready mapping by alias, unset (None) members left out."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Parse; raises pydantic.ValidationError naming each wrong field."""
        return cls.model_validate_json(text)


class LenientWire(Wire):
    """Records read by a possibly older or newer peer: unknown members are ignored."""

    model_config = ConfigDict(extra="ignore")
