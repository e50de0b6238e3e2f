"""kustomize, as `kubectl apply -k` has it inside."""

import os
import subprocess
from pathlib import Path
from typing import Any

import yaml

from tests.real import gomodule

DEPLOY = Path(__file__).parents[3] / "deploy" / "kubernetes"
Object = dict[str, Any]


def build() -> Path:
    """The binary; made where it is not there yet."""
    return gomodule.install(
        "kustomize", "sigs.k8s.io/kustomize/kustomize/v5", "v5.8.1", "kustomize"
    )


def render(folder: Path) -> list[Object]:
    """The objects of a kustomization."""
    done = subprocess.run(
        [build(), "build", folder], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""  # a warning: something is deprecated
    return list(yaml.safe_load_all(done.stdout))


def kustomization(folder: Path, *resources: str | Path, **more: Any) -> Path:
    """A folder with a kustomization of a user's; names without a slash are below `deploy`."""
    written = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [_relative(folder, path) for path in resources],
        **more,
    }
    if "components" in more:
        written["components"] = [_relative(folder, path) for path in more["components"]]
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(written))
    return folder


def _relative(folder: Path, path: str | Path) -> str:
    """kustomize takes no absolute paths."""
    return os.path.relpath(DEPLOY / path, folder.resolve())


def one(objects: list[Object], kind: str, name: str | None = None) -> Object:
    """The only object of that kind, or of that kind and name."""
    (found,) = [
        each
        for each in objects
        if each["kind"] == kind and name in (None, each["metadata"]["name"])
    ]
    return found
