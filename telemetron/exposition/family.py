"""Families of metrics, and the lines of one entity: the text of Prometheus and of OpenMetrics.

The sample lines of both formats are the same; they differ in the lines before and after them.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from functools import cached_property, lru_cache
from typing import Any, Literal, NamedTuple

from msgspec import Struct

from telemetron.exposition.piece import Piece

_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})

Samples = Sequence[tuple[str, float]]
"""The labels beside those of the entity, as `,status="idle"`, and the value."""
NONE: Samples = ()


class Family(Struct, frozen=True, dict=True):
    """One metric: its name, its type, its labels and its meaning."""

    name: str
    labels: tuple[str, ...]
    help: str
    type: Literal["gauge", "counter"] = "gauge"

    @cached_property
    def text_header(self) -> Piece:
        """The lines before its samples in Prometheus' text format."""
        return Piece(f"# HELP {self.name} {self.help}\n# TYPE {self.name} {self.type}\n".encode())

    @cached_property
    def open_header(self) -> Piece:
        """The lines before its samples in OpenMetrics."""
        name = self.name.removesuffix("_total") if self.type == "counter" else self.name
        unit = f"# UNIT {name} seconds\n" if name.endswith("_seconds") else ""
        return Piece(f"# TYPE {name} {self.type}\n{unit}# HELP {name} {self.help}\n".encode())


class Lines(Struct, frozen=True, gc=False):
    """The samples of one entity."""

    texts: tuple[bytes, ...]
    """By family of its section."""
    series: int
    worth: int
    """If not all entities fit, those with the highest are kept."""


class SectionSeries(NamedTuple):
    """How the entities of one section become lines."""

    families: Sequence[Family]
    labels: Callable[[Any], str]
    """The labels that all samples of an entity have."""
    samples: Callable[[Any], Iterable[Samples]]
    """By family."""
    worth: Callable[[Any], int] = lambda entity: 0

    def lines(self, entity: Any) -> Lines:
        """Return the lines of an entity."""
        common, texts, series = self.labels(entity), [], 0
        for family, samples in zip(self.families, self.samples(entity), strict=True):
            name = family.name
            texts.append(
                "".join([f"{name}{{{common}{more}}} {value}\n" for more, value in samples])
            )
            series += len(samples)
        # Names that a collector did not check may contain what UTF-8 cannot encode.
        encoded = tuple([text.encode(errors="replace") for text in texts])
        return Lines(encoded, series, self.worth(entity))


def labels(**values: str | None) -> str:
    """Return labels as the text formats write them; null is the empty text."""
    return ",".join([f'{name}="{escaped(value or "")}"' for name, value in values.items()])


def escaped(value: str) -> str:
    """Return a value as it is written between the quotes of a label."""
    return value.translate(_ESCAPES)


def single(value: float | None) -> Samples:
    """Return one sample without further labels; none if the value is unknown."""
    return NONE if value is None else (("", value),)


def moment(at: datetime | None) -> Samples:
    """Return the Unix time as one sample; none if it is unknown."""
    return NONE if at is None else (("", at.timestamp()),)


def counts(label: str, numbers: Mapping[str, float]) -> Samples:
    """Return one sample for each value of the label."""
    return [(_further(label, value), number) for value, number in numbers.items()]


@lru_cache(maxsize=1024)
def states(label: str, known: tuple[str, ...], state: str | None) -> Samples:
    """Return 1 for the state and 0 for each other known one; none if the state is unknown."""
    if state is None:
        return NONE
    every = known if state in known else (*known, state)
    return tuple([(_further(label, one), int(one == state)) for one in every])


@lru_cache(maxsize=1024)
def _further(label: str, value: str) -> str:
    return f',{label}="{escaped(value)}"'
