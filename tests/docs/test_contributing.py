"""Rules of CONTRIBUTING.md that a machine can check: twins of modules, and no patched constants."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
ROOMS = {
    "telemetron": "tests/telemetron",
    "collectors/telemetron_collectors": "tests/collectors",
    "sdk/telemetron_agent": "tests/sdk",
}
"""Folders of modules, and of their tests."""
MAX_LINES = 45
"""A longer module has a test module of its own."""
CONSTANT = re.compile(r"(.*\.)?_?[A-Z][A-Z0-9]*(_[A-Z0-9]+)*")
PATCHING = {"setattr", "patch", "object"}
"""`monkeypatch.setattr`, `setattr`, `mock.patch`, `mock.patch.object`."""


def long_modules(root: Path) -> Iterator[tuple[str, list[str]]]:
    """Yield each long module with the names that its test module may have."""
    for folder, tests in ROOMS.items():
        for file in sorted((root / folder).rglob("*.py")):
            if len(file.read_text("utf-8").splitlines()) > MAX_LINES:
                room = Path(tests) / file.relative_to(root / folder).parent
                yield str(file.relative_to(root)), [str(one) for one in twins(room, file)]


def twins(room: Path, file: Path) -> list[Path]:
    """Return the test modules that a module may have; a package's are in its room or beside it."""
    if file.name != "__init__.py":
        return [room / f"test_{file.name}"]
    return [one / f"test_{file.parent.name}.py" for one in (room, room.parent)]


def exceptions() -> set[str]:
    section = PAGE.partition("### Modules without a test module\n")[2].partition("\n## ")[0]
    reasons = re.findall(r"^- (.*?):\s", section, re.MULTILINE | re.DOTALL)
    return {name for reason in reasons for name in re.findall(r"`([^`]+\.py)`", reason)}


def without_twin(root: Path) -> set[str]:
    return {
        module
        for module, tests in long_modules(root)
        if not any((root / test).exists() for test in tests)
    }


def patched(text: str) -> list[int]:
    """Return the lines of a test module that replace a constant of another module."""
    found = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Call) and called(node.func) in PATCHING:
            names = [one.value for one in node.args[:2] if isinstance(one, ast.Constant)]
            if any(isinstance(name, str) and CONSTANT.fullmatch(name) for name in names):
                found.append(node.lineno)
        elif isinstance(node, ast.Assign):
            targets = [one.attr for one in node.targets if isinstance(one, ast.Attribute)]
            if any(map(CONSTANT.fullmatch, targets)):
                found.append(node.lineno)
    return found


def called(function: ast.expr) -> str:
    """Return the last part of a called function's name."""
    return getattr(function, "attr", None) or getattr(function, "id", "")


def test_each_long_module_has_a_test_module_of_its_name() -> None:
    missing = sorted(without_twin(ROOT) - exceptions())
    assert not missing, "\n".join(missing)


def test_each_exception_is_needed() -> None:
    assert exceptions()
    assert exceptions() <= without_twin(ROOT)


def test_no_test_patches_a_constant() -> None:
    found = [
        f"{file.relative_to(ROOT)}:{line}"
        for file in sorted((ROOT / "tests").rglob("*.py"))
        for line in patched(file.read_text("utf-8"))
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    "line",
    [
        'monkeypatch.setattr(store, "SLICE_SECONDS", 1)',
        'monkeypatch.setattr("telemetron.store.store._LIMIT", 1)',
        'setattr(module, "MAX", 1)',
        'mock.patch.object(module, "MAX", 1)',
        "module.MAX = 1",
    ],
)
def test_a_patched_constant_is_found(line: str) -> None:
    assert patched(f"x = 1\n{line}\n") == [2]


@pytest.mark.parametrize(
    "line", ['monkeypatch.setattr(module, "Class", 1)', 'setenv("MAX", "1")', "MAX = 1", "a.b = 1"]
)
def test_other_assignments_are_not_found(line: str) -> None:
    assert patched(line) == []


def test_a_module_without_a_test_module_is_found(tmp_path: Path) -> None:
    long, short = "x = 1\n" * (MAX_LINES + 1), "x = 1\n" * MAX_LINES
    room, tests = tmp_path / "telemetron" / "store", tmp_path / "tests" / "telemetron" / "store"
    room.mkdir(parents=True)
    tests.mkdir(parents=True)
    for name, text in (("rope", long), ("part", short), ("store", long), ("__init__", long)):
        (room / f"{name}.py").write_text(text)
    (tests / "test_store.py").touch()
    assert without_twin(tmp_path) == {"telemetron/store/rope.py"}
