"""The key `findings` of the configuration."""

import re
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from telemetron.collector import Config
from telemetron.diagnosis.rule import Symptom


class RuleSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What differs from the rule's own."""

    hold_seconds: Annotated[
        Annotated[float, Meta(ge=0)] | None,
        Meta(description="How long it must last to be a finding."),
    ] = None
    clear_seconds: Annotated[
        Annotated[float, Meta(ge=0)] | None,
        Meta(description="How long it must be gone for the finding to end."),
    ] = None
    severity: Annotated[
        Literal["critical", "warning", "info"] | None, Meta(description="Its severity.")
    ] = None


class Ignored(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Findings that nobody wants to see."""

    rule: Annotated[str, Meta(description="Name of the rule; `*` stands for any characters.")] = "*"
    key: Annotated[
        str, Meta(description="Key of the entity; `*` stands for any characters, as `kafka/x-*`.")
    ] = "*"

    def covers(self, symptom: Symptom) -> bool:
        """Return whether the symptom is meant."""
        return _matches(symptom.rule, self.rule) and _matches(symptom.key, self.key)


def _matches(text: str, pattern: str) -> bool:
    """Return whether the text has this form. Only `*` is special: a key may contain `[` and `?`."""
    expression = ".*".join(map(re.escape, pattern.split("*")))
    return re.fullmatch(expression, text, re.DOTALL) is not None


class FindingsSettings(Config, frozen=True):
    """Which findings there are."""

    rules: Annotated[
        dict[str, RuleSettings | Literal["off"]],
        Meta(description="By the rule's name what differs from its own settings, or off."),
    ] = msgspec.field(default_factory=dict)
    ignore: Annotated[
        list[Ignored], Meta(description="Entities for which a rule is not applied.")
    ] = msgspec.field(default_factory=list)
