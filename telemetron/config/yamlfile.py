"""Reads a YAML file into plain values, with their lines, and replaces `${VARIABLE}`."""

import re
from collections.abc import Mapping
from typing import Any

import yaml
from yaml import MappingNode, Node, SequenceNode

from telemetron.config.convert import INVALID, ConfigError, ConfigProblem, Location, Origin, Path

MAX_BYTES = 1 << 20
MAX_NODES = 100_000

NOT_TEXT = "expected text as key; quote it"

# `$${` is a literal `${`; the last alternative is a `${` that is not closed.
_VARIABLE = re.compile(r"\$\$\{|\$\{([^}]*)\}|\$\{")


def read(file: str, environ: Mapping[str, str]) -> "YamlReader":
    """Read the file; raise ConfigError if it is not one YAML mapping.

    Other problems are in the reader's `problems`.
    """
    reader = YamlReader(file, environ)
    try:
        loader = yaml.SafeLoader(_content(file))
        reader.read(loader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else None
        raise _failure(file, line, f"not valid YAML: {error.problem}") from None
    except (yaml.YAMLError, UnicodeError):
        raise _failure(file, None, "not valid YAML: not text in UTF-8") from None
    except RecursionError:
        raise _failure(file, None, "nested too deeply") from None
    return reader


class YamlReader:
    """The values of one file, their locations and their problems."""

    def __init__(self, file: str, environ: Mapping[str, str]) -> None:
        self.values: dict[str, Any] = {}
        self.origin = Origin(file)
        self.problems: list[ConfigProblem] = []
        self._file = file
        self._environ = environ
        self._nodes = 0

    def read(self, loader: yaml.SafeLoader) -> None:
        node = loader.get_single_node()
        if node is None or node.tag == "tag:yaml.org,2002:null":  # empty, or only comments
            return
        if not isinstance(node, MappingNode):
            line = node.start_mark.line + 1
            raise _failure(self._file, line, "expected a mapping (key: value) at the top")
        self.values = self._mapping(loader, node, ())

    def _report(self, path: Path, message: str) -> Any:
        self.problems.append(self.origin.problem(path, message))
        return INVALID

    def _value(self, loader: yaml.SafeLoader, node: Node, path: Path) -> Any:
        self._nodes += 1
        if self._nodes > MAX_NODES:  # aliases of aliases
            raise _failure(self._file, node.start_mark.line + 1, f"more than {MAX_NODES:,} values")
        if isinstance(node, MappingNode):
            return self._mapping(loader, node, path)
        if isinstance(node, SequenceNode):
            return self._sequence(loader, node, path)
        return self._scalar(loader, node, path)

    def _mapping(self, loader: yaml.SafeLoader, node: MappingNode, path: Path) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if key.tag != "tag:yaml.org,2002:str":
                self.problems.append(ConfigProblem(path, Location(self._file, line), NOT_TEXT))
                continue
            inner = (*path, key.value)
            if key.value in values:
                values[key.value] = self._report(inner, f"given twice, again in line {line}")
                continue
            self.origin.locations[inner] = Location(self._file, line)
            values[key.value] = self._value(loader, value, inner)
        return values

    def _sequence(self, loader: yaml.SafeLoader, node: SequenceNode, path: Path) -> list[Any]:
        values = []
        for index, item in enumerate(node.value):
            inner = (*path, index)
            self.origin.locations[inner] = Location(self._file, item.start_mark.line + 1)
            values.append(self._value(loader, item, inner))
        return values

    def _scalar(self, loader: yaml.SafeLoader, node: Node, path: Path) -> Any:
        try:
            value = loader.construct_object(node)
        except (yaml.YAMLError, ValueError):
            return self._report(path, "YAML cannot read this value; quote it if it is text")
        return self._expanded(value, path) if isinstance(value, str) else value

    def _expanded(self, text: str, path: Path) -> Any:
        """Replace each variable by its value, in which `${` has no meaning."""
        wrong = [self._wrong(match) for match in _VARIABLE.finditer(text)]
        for message in filter(None, wrong):
            return self._report(path, message)
        whole = _VARIABLE.fullmatch(text)
        if whole and whole[1]:
            self.origin.textual.add(path)
        return _VARIABLE.sub(lambda match: self._environ[match[1]] if match[1] else "${", text)

    def _wrong(self, match: re.Match[str]) -> str:
        if match[0] == "${" or match[1] == "":
            return "expected ${VARIABLE}; write $${ for a literal ${"
        if match[1] and match[1] not in self._environ:
            return f"the environment variable {match[1]} is not set"
        return ""


def _content(file: str) -> bytes:
    try:
        with open(file, "rb") as opened:
            content = opened.read(MAX_BYTES + 1)
    except OSError as error:
        raise _failure(file, None, f"cannot read the file: {error.strerror}") from None
    if len(content) > MAX_BYTES:
        raise _failure(file, None, f"the file is larger than {MAX_BYTES:,} bytes")
    return content


def _failure(file: str, line: int | None, message: str) -> ConfigError:
    return ConfigError([ConfigProblem((), Location(file, line), message)])
