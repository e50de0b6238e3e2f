"""Label selectors as in kubectl's `-l`; the grammar follows labels.Parse in apimachinery."""

import re
from collections.abc import Callable, Mapping

Labels = Mapping[str, str]
Fits = Callable[[Labels], bool]

_BETWEEN = re.compile(r",(?![^(]*\))")
_PRESENT = re.compile(r"(?P<absent>!?)\s*(?P<key>[^\s!=<>()]+)")
_COMPARED = re.compile(r"(?P<key>[^\s!=<>()]+)\s*(?P<operator>==|=|!=|<|>)\s*(?P<value>\S*)")
_LISTED = re.compile(r"(?P<key>[^\s!=<>()]+)\s+(?P<operator>in|notin)\s*\((?P<values>.*)\)")


def selector(written: str) -> Fits:
    """Return a test of whether labels fit a selector; an invalid requirement fits nothing.

    The API server refuses an invalid selector anyway.
    """
    requirements = [_requirement(one.strip()) for one in _BETWEEN.split(written) if one.strip()]
    return lambda labels: all(fits(labels) for fits in requirements)


def _requirement(written: str) -> Fits:
    if one := _LISTED.fullmatch(written):
        key, values = one["key"], {value.strip() for value in one["values"].split(",")}
        if one["operator"] == "in":
            return lambda labels: labels.get(key) in values
        return lambda labels: labels.get(key) not in values
    if one := _COMPARED.fullmatch(written):
        return _comparison(one["key"], one["operator"], one["value"])
    if one := _PRESENT.fullmatch(written):
        key, is_absent = one["key"], bool(one["absent"])
        return lambda labels: (key not in labels) == is_absent
    return lambda labels: False


def _comparison(key: str, operator: str, value: str) -> Fits:
    if operator in ("=", "=="):
        return lambda labels: labels.get(key) == value
    if operator == "!=":
        return lambda labels: labels.get(key) != value
    return lambda labels: _is_ordered(labels.get(key), operator, value)


def _is_ordered(label: str | None, operator: str, value: str) -> bool:
    try:
        have, bound = int(label or ""), int(value)
    except ValueError:
        return False
    return have < bound if operator == "<" else have > bound
