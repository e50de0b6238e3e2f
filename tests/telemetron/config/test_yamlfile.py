"""YAML files: plain values with their lines, `${VARIABLE}` replaced, and every problem."""

import itertools
from pathlib import Path
from typing import Any

import pytest

from telemetron.config import yamlfile
from telemetron.config.convert import ConfigError, Location

UNREADABLE = "YAML cannot read this value; quote it if it is text"


@pytest.fixture
def read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Reads a file of this text in the working directory, so that its name is short."""
    monkeypatch.chdir(tmp_path)

    def read(text: str, **environ: str) -> yamlfile.YamlReader:
        Path("t.yaml").write_text(text)
        return yamlfile.read("t.yaml", environ)

    return read


def problems(read: Any, text: str, **environ: str) -> list[str]:
    try:
        return [str(problem) for problem in read(text, **environ).problems]
    except ConfigError as error:
        return [str(problem) for problem in error.problems]


def test_values_have_their_lines(read: Any) -> None:
    reader = read("id: a\nagents:\n- name: x\n  models: [m,\n    n]\n")
    assert reader.values == {"id": "a", "agents": [{"name": "x", "models": ["m", "n"]}]}
    assert reader.origin.location(("agents", 0, "models", 1)) == Location("t.yaml", 5)
    assert reader.origin.location(("agents", 0, "other")) == Location("t.yaml", 3)


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n"])
def test_an_empty_file_has_no_values(read: Any, text: str) -> None:
    assert read(text).values == {}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("- a\n", "t.yaml:1: expected a mapping (key: value) at the top"),
        ("\nhello\n", "t.yaml:2: expected a mapping (key: value) at the top"),
        ("a: 1\n b: 2\n", "t.yaml:2: not valid YAML: mapping values are not allowed here"),
        ("id: x\nlog: {level: [\n", "t.yaml:3: not valid YAML: expected"),
        ("id: a\n---\nid: b\n", "t.yaml:2: not valid YAML: but found another document"),
        ("id: *x\n", "t.yaml:1: not valid YAML: found undefined alias"),
        ("id: \x01\n", "t.yaml: not valid YAML: not text in UTF-8"),
        ("[" * 1_000, "t.yaml: nested too deeply"),
        ("id: &x [*x]\n", "t.yaml: nested too deeply"),
        ("id: x\nlog: {level: info}\nid: y\n", "t.yaml:1: id: given twice, again in line 3"),
        ("server:\n  port: 1\n  port: 1\n", "t.yaml:2: server.port: given twice, again in line 3"),
        ("8080: x\n", "t.yaml:1: expected text as key; quote it"),
        ("log:\n  on: x\n", "t.yaml:2: log: expected text as key; quote it"),
        ("sources: {1: {}}\n", "t.yaml:1: sources: expected text as key; quote it"),
        ("id: !!python/name:os.system\n", f"t.yaml:1: id: {UNREADABLE}"),
        ("id: 2024-99-99\n", f"t.yaml:1: id: {UNREADABLE}"),
    ],
)
def test_each_mistake_is_reported_in_one_line(read: Any, text: str, problem: str) -> None:
    (found,) = problems(read, text)
    assert found.startswith(problem)


@pytest.mark.usefixtures("read")
def test_a_missing_file_is_reported() -> None:
    with pytest.raises(ConfigError, match=r"^no\.yaml: cannot read the file: No such file"):
        yamlfile.read("no.yaml", {})


@pytest.mark.usefixtures("read")
def test_a_file_that_is_not_text_or_too_large_is_reported() -> None:
    Path("t.yaml").write_bytes(b"id: \xff\xff\n")
    with pytest.raises(ConfigError, match="not text in UTF-8"):
        yamlfile.read("t.yaml", {})
    Path("t.yaml").write_bytes(b"#" * 2_000_000)
    with pytest.raises(ConfigError, match="larger than 1,048,576 bytes"):
        yamlfile.read("t.yaml", {})


def test_aliases_of_aliases_are_bounded(read: Any) -> None:
    names = "abcdefghij"
    lines = ["a: &a [x, x, x, x, x, x, x, x, x, x]"]
    for before, name in itertools.pairwise(names):
        lines.append(f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]")
    assert "more than 100,000 values" in problems(read, "\n".join(lines))[0]


def test_variables_are_replaced_once(read: Any) -> None:
    text = 'id: a-${NAME}${EMPTY}-$${NAME}-$NAME-${TWICE}\nport: "${PORT}"'
    reader = read(text, NAME="x", PORT="81", EMPTY="", TWICE="${NAME}")
    assert reader.values == {"id": "a-x-${NAME}-$NAME-${NAME}", "port": "81"}
    assert reader.origin.textual == {("port",)}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("id: ${NOT_THERE}", "the environment variable NOT_THERE is not set"),
        ("id: a${}", "expected ${VARIABLE}; write $${ for a literal ${"),
        ("id: a${b", "expected ${VARIABLE}; write $${ for a literal ${"),
    ],
)
def test_wrong_variables_are_reported(read: Any, text: str, problem: str) -> None:
    assert problems(read, text) == [f"t.yaml:1: id: {problem}"]
