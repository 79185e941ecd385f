"""Field types shared by spec and status.

Every type carries its bounds, because the API server prices each CEL rule by the largest value
that the schema admits and refuses rules over fields without bounds. Floats are strings, since JSON
floats do not survive a round trip through every client unchanged and JSON has no NaN.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic.alias_generators import to_camel

AUTO: Final = "Auto"
NUMBER_PATTERN: Final = "[0-9]+([.][0-9]+)?([eE][-+]?[0-9]+)?"
QUANTITY_PATTERN: Final = (  # with a digit other than 0
    r"^([0-9]*[1-9][0-9]*([.][0-9]+)?|[0-9]+[.][0-9]*[1-9][0-9]*)(m|k|M|G|T|Ki|Mi|Gi|Ti)?$"
)
SUBDOMAIN: Final = "[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*"  # RFC 1123
NAME_LENGTH: Final = 253  # characters of a subdomain
SECRET_PATTERN: Final = r"^finetune-[a-z0-9]([-.a-z0-9]*[a-z0-9])?$"
_LABEL_NAME: Final = "[A-Za-z0-9]([-._A-Za-z0-9]{0,61}[A-Za-z0-9])?"
QUALIFIED_PATTERN: Final = f"^({SUBDOMAIN}/)?{_LABEL_NAME}$"
QUALIFIED_LENGTH: Final = NAME_LENGTH + 1 + 63
RELATIVE_PATH_PATTERN: Final = r"^[A-Za-z0-9_][-.A-Za-z0-9_/]*$"


class ApiModel(BaseModel):
    """Base of spec and status: camelCase JSON, immutable, unknown fields ignored.

    Unknown fields are ignored here because the API server already refused or pruned them by the CRD
    that is installed, which may be newer than this process. Field descriptions are the docstrings
    below the fields; they end up in the CRD and in `kubectl explain`.
    """

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        extra="ignore",
        frozen=True,
        use_attribute_docstrings=True,
        protected_namespaces=(),
    )

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready mapping by alias; unset (None) members are left out."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


def _shorten(limit: int) -> BeforeValidator:
    def cut(value: Any) -> Any:
        if isinstance(value, str) and len(value) > limit:
            return value[: limit - 1] + "…"
        return value

    return BeforeValidator(cut)


def list_map(key: str) -> dict[str, Any]:
    """A list whose items are told apart by one of their fields, as `json_schema_extra`."""
    return {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": [key]}


def _validations(*rules: tuple[str, str]) -> dict[str, Any]:
    """CEL rules of a field as `json_schema_extra`: (rule, what the value must be)."""
    return {"x-kubernetes-validations": [{"rule": rule, "message": must} for rule, must in rules]}


# --- numbers --------------------------------------------------------------------------------------
# Messages of the rules start with "must"; the CRD generator puts the field's path in front. The
# rules repeat the pattern, because the server evaluates them even where the pattern fails.

_IS_NUMBER: Final = f"self.matches('^{NUMBER_PATTERN}$')"


def _number(*, pattern: str, rule: str, must: str) -> Any:
    return Field(pattern=pattern, max_length=16, json_schema_extra=_validations((rule, must)))


PositiveNumber = Annotated[
    str,
    _number(
        pattern=f"^{NUMBER_PATTERN}$",
        rule=f"{_IS_NUMBER} && double(self) > 0.0",
        must='must be a number above 0 as a string, such as "0.5"',
    ),
    BeforeValidator(str),
]
"""A number above 0 as a string, such as "0.3" or "2e-4"."""

NonNegativeNumber = Annotated[
    str,
    _number(
        pattern=f"^{NUMBER_PATTERN}$",
        rule=f"{_IS_NUMBER} && double(self) >= 0.0",  # not beyond what a double holds
        must='must be a number of at least 0 as a string, such as "0.01"',
    ),
    BeforeValidator(str),
]
"""A number of at least 0 as a string."""

Fraction = Annotated[
    str,
    _number(
        pattern=f"^{NUMBER_PATTERN}$",
        rule=f"{_IS_NUMBER} && double(self) < 1.0",
        must='must be a number from 0 to below 1 as a string, such as "0.05"',
    ),
    BeforeValidator(str),
]
"""A number in [0, 1) as a string."""

AutoPositiveNumber = Annotated[
    str,
    _number(
        pattern=f"^({AUTO}|{NUMBER_PATTERN})$",
        rule=f"self == '{AUTO}' || ({_IS_NUMBER} && double(self) > 0.0)",
        must='must be Auto or a number above 0 as a string, such as "2e-4"',
    ),
    BeforeValidator(str),
]
"""A number above 0 as a string, or Auto: preflight chooses."""

AutoEpochs = Annotated[
    str,
    _number(
        pattern=f"^({AUTO}|{NUMBER_PATTERN})$",
        rule=f"self == '{AUTO}' || ({_IS_NUMBER} && double(self) > 0.0 && double(self) <= 1000.0)",
        must='must be Auto or a number above 0 and at most 1000 as a string, such as "3"',
    ),
    BeforeValidator(str),
]
"""Passes over the rows as a string, or Auto: preflight chooses."""

AutoFraction = Annotated[
    str,
    _number(
        pattern=f"^({AUTO}|{NUMBER_PATTERN})$",
        rule=f"self == '{AUTO}' || ({_IS_NUMBER} && double(self) < 1.0)",
        must='must be Auto or a number from 0 to below 1 as a string, such as "0.03"',
    ),
    BeforeValidator(str),
]
"""A number in [0, 1) as a string, or Auto: preflight chooses."""

AutoCount = Annotated[int, Field(ge=1, le=65_536)] | Literal["Auto"]
"""A whole number of at least 1, or Auto: preflight chooses."""

Seconds = Annotated[int, Field(ge=0, le=31_536_000)]
"""A duration in whole seconds, at most a year."""

Quantity = Annotated[
    str,
    Field(
        pattern=QUANTITY_PATTERN,
        max_length=24,
        json_schema_extra={"x-kubernetes-int-or-string": True, "minimum": 1},
    ),
    BeforeValidator(str),
]
"""A Kubernetes quantity above 0 such as 500m, 4 or 20Gi."""

# --- names ----------------------------------------------------------------------------------------

ObjectName = Annotated[str, Field(pattern=f"^{SUBDOMAIN}$", min_length=1, max_length=NAME_LENGTH)]
"""The name of a Kubernetes object in the job's namespace."""

SecretName = Annotated[
    str,
    Field(
        max_length=253,
        json_schema_extra=_validations(
            (
                f"self.matches('{SECRET_PATTERN}')",
                "must name a secret whose name starts with finetune-",
            )
        ),
    ),
]
"""The name of a secret; the prefix keeps other secrets of the namespace out of reach."""

LabelKey = Annotated[
    str,
    Field(
        pattern=QUALIFIED_PATTERN,
        max_length=QUALIFIED_LENGTH,
        json_schema_extra=_validations(
            (
                f"size(self.split('/')[0]) <= {NAME_LENGTH}",
                f"must have at most {NAME_LENGTH} characters before the '/'",
            )
        ),
    ),
]
"""The key of a label or taint: a qualified name such as example.com/pool."""

LabelValue = Annotated[
    str, Field(max_length=63, pattern=r"^([A-Za-z0-9]([-._A-Za-z0-9]*[A-Za-z0-9])?)?$")
]
"""The value of a label or taint."""

Labels = Annotated[
    dict[str, LabelValue],
    Field(
        max_length=16,
        json_schema_extra=_validations(  # a schema has no words for keys
            (
                f"self.all(key, key.matches('{QUALIFIED_PATTERN}')"
                f" && size(key.split('/')[0]) <= {NAME_LENGTH})",
                "must have label keys, such as pool or example.com/pool",
            )
        ),
    ),
]
"""Labels by key."""

ResourceName = Annotated[
    str,
    Field(
        pattern=f"^{SUBDOMAIN}/{_LABEL_NAME}$",
        max_length=QUALIFIED_LENGTH,
        json_schema_extra=_validations(
            (
                # Quotas name it with requests. in front, which has to be a qualified name as well.
                "!self.startsWith('requests.') && !self.contains('kubernetes.io/')"
                f" && size(self.split('/')[0]) <= {NAME_LENGTH - len('requests.')}",
                "must be an extended resource such as nvidia.com/gpu, "
                "which is neither of kubernetes.io nor starts with requests.",
            )
        ),
    ),
]
"""An extended resource such as nvidia.com/gpu."""

RelativePath = Annotated[
    str,
    Field(
        pattern=RELATIVE_PATH_PATTERN,
        max_length=512,
        json_schema_extra=_validations(
            (r"!self.matches('(^|/)[.][.](/|$)')", "must not contain '..'")
        ),
    ),
]
"""A path below a volume's root, without '..'."""

Word = Annotated[str, Field(min_length=1, max_length=253)]
"""A short string."""


def source(*, pattern: str, must: str) -> Any:
    """Field of a URI whose scheme this release can read; `must` is the message for any other."""
    return Field(
        min_length=1,
        max_length=1024,
        json_schema_extra=_validations(
            (f"self.matches('{pattern}')", must),
            (r"!self.matches('/[.][.](/|$)')", "must not contain '..'"),
            (
                f"!self.matches('^[a-z]+://[^/]{{{NAME_LENGTH + 1}}}')",
                f"must name an object by at most {NAME_LENGTH} characters",
            ),
        ),
    )


# --- status ---------------------------------------------------------------------------------------

Number = Annotated[str, Field(max_length=32), BeforeValidator(str)]
"""A measured float as a string, "NaN" included."""

Count = Annotated[int, Field(ge=0, le=9_007_199_254_740_991)]
"""A counter that fits a JSON number exactly."""

Step = Annotated[int, Field(ge=0, le=2_147_483_647)]
"""An optimizer step."""

Message = Annotated[str, Field(max_length=1024), _shorten(1024)]
"""Words for people; a longer text is cut and ends with '…'."""

LongMessage = Annotated[str, Field(max_length=4096), _shorten(4096)]
"""Words for people where a table of problems must fit; cut like Message."""

ShortText = Annotated[str, Field(max_length=253), _shorten(253)]
"""A name, reason, path segment or digest; cut like Message."""

Path = Annotated[str, Field(max_length=1024), _shorten(1024)]
"""A path on the workspace."""

Time = Annotated[str, Field(max_length=64, json_schema_extra={"format": "date-time"})]
"""RFC 3339 in UTC."""
