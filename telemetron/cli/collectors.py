"""The installed collectors: their descriptions, and problems of a source's configuration."""

import json
from collections.abc import Iterator
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from telemetron.collector import ENTRY_POINTS
from telemetron.config.convert import ConfigProblem, keys, unknown
from telemetron.config.settings import ConfigError, SourceSpec, configure
from telemetron.service.supervisor import NotInstalledError, load


def installed() -> Iterator[dict[str, Any]]:
    """Yield each installed collector for JSON; `problem` is why one cannot be imported."""
    for entry_point in _entry_points():
        distribution = entry_point.dist
        found: dict[str, Any] = {
            "name": entry_point.name,
            "distribution": f"{distribution.name} {distribution.version}" if distribution else None,
            "problem": None,
        }
        try:
            collector = entry_point.load()
            found |= {
                "description": collector.description,
                "sections": collector.sections,
                "paths": collector.paths,
                "config": [key._asdict() for key in keys(collector.config)],
            }
        except Exception as error:  # the collector's own code
            found["problem"] = f"{type(error).__name__}: {error}"
        yield found


def lines(found: dict[str, Any]) -> Iterator[str]:
    """Yield the lines that describe a collector on a terminal."""
    yield f"{found['name']}  ({found['distribution']})"
    if found["problem"]:
        yield f"  cannot be imported: {found['problem']}"
        return
    yield f"  {found['description']}"
    yield f"  sections: {', '.join(found['sections'])}"
    for key in found["config"]:
        default = "required" if key["required"] else f"default {json.dumps(key['default'])}"
        yield f"  {key['name']}: {key['type']}, {default}. {key['description']}"


def problems(spec: SourceSpec) -> Iterator[ConfigProblem]:
    """Yield the problems of a source's configuration, which its collector checks."""
    path = ("sources", spec.name, "collector")
    try:
        collector = load(spec.collector)
        collector.max_age_seconds(configure(spec, collector))
    except ConfigError as error:
        yield from error.problems
    except NotInstalledError:
        known = [entry_point.name for entry_point in _entry_points()]
        yield from spec.problems
        yield spec.origin.problem(path, unknown("collector", spec.collector, known))
    except Exception as error:  # the collector's own code
        message = f"{spec.collector} cannot be used: {type(error).__name__}: {error}"
        yield spec.origin.problem(path, message)


def _entry_points() -> list[EntryPoint]:
    return sorted(entry_points(group=ENTRY_POINTS), key=lambda entry_point: entry_point.name)
