"""The image: what is in it, and that a container of it serves, takes beats, and stops."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

import telemetron
from tests.ports import free_port
from tests.real.deploy import image as images
from tests.real.deploy.image import Image
from tests.real.process import wait_until

MAX_ADDED_MB = 170
STOP_SECONDS = 2.0
READ, WRITE = "read-token-0123456789", "write-token-0123456789"
# None of these is needed by a server, and each would be a way in.
TOOLS = ("pip", "setuptools", "ensurepip", "hatchling", "build")


@pytest.fixture
def config(tmp_path: Path) -> dict[str, Path]:
    """A configuration with tokens, as it is mounted into a container."""
    (tmp_path / "read").write_text(READ)
    (tmp_path / "write").write_text(WRITE)
    auth = {"read_file": "/etc/telemetron/read", "write_file": "/etc/telemetron/write"}
    file = tmp_path / "telemetron.yaml"
    file.write_text(json.dumps({"server": {"host": "0.0.0.0", "auth": auth}}))
    names = ("telemetron.yaml", "read", "write")
    return {f"/etc/telemetron/{name}": tmp_path / name for name in names}


@contextmanager
def client(port: int, token: str | None = None) -> Iterator[httpx.Client]:
    headers = {"authorization": f"Bearer {token}"} if token else {}
    url = f"http://127.0.0.1:{port}"
    with httpx.Client(base_url=url, headers=headers, trust_env=False) as client:
        yield client


def serves(port: int) -> bool:
    with client(port) as probe:
        try:
            return probe.get("/livez").status_code == 200
        except httpx.TransportError:
            return False


@pytest.mark.usefixtures("image")
def test_it_adds_little_to_its_base() -> None:
    added = images.megabytes(images.IMAGE) - images.megabytes(images.BASE)
    assert 50 < added <= MAX_ADDED_MB


def test_the_image_has_the_server_and_no_tools(image: Image) -> None:
    (packages,) = image.root.glob("opt/telemetron/lib/python3*/site-packages")
    assert (packages / "telemetron" / "__pycache__").is_dir()  # its root may be read-only
    assert (packages / "telemetron_collectors").is_dir()
    assert (packages / "swagger_ui" / "static" / "swagger-ui-bundle.js").is_file()
    for tool in TOOLS:
        assert not (packages / tool).exists(), tool
    binaries = {path.name for path in (image.root / "opt" / "telemetron" / "bin").iterdir()}
    assert "telemetron" in binaries
    assert not {name for name in binaries if name.startswith("pip")}
    assert not (image.root / "build").exists()
    assert not (image.root / "wheels").exists()


def test_the_labels_describe_the_image(image: Image) -> None:
    said = image.said
    assert said["User"] == "65532:65532"
    assert said["Entrypoint"] == ["/opt/telemetron/bin/telemetron"]  # no shell
    assert said["Cmd"] == ["serve"]
    labels = {key.rpartition(".")[2]: value for key, value in said["Labels"].items()}
    assert labels["version"] == telemetron.__version__
    assert labels["title"] == "Telemetron"
    assert labels["licenses"] == "Apache-2.0"


def test_a_container_serves_takes_beats_and_stops(
    image: Image, tmp_path: Path, config: dict[str, Path]
) -> None:
    port = free_port()
    env = {"SERVER_PORT": str(port)}
    command = ("serve", "--config", "/etc/telemetron/telemetron.yaml")
    with images.container(image, tmp_path, command=command, env=env, files=config) as container:
        wait_until(lambda: serves(port), seconds=60, what="the container")
        with client(port, WRITE) as agent:
            beat = {"instance": "i", "tasks": [{"id": "t"}]}
            assert agent.post("/agents/planner/heartbeat", json=beat).status_code == 204
        with client(port, READ) as reader:
            state = reader.get("/system/state").json()
            assert [agent["status"] for agent in state["agents"]] == ["active"]
            assert reader.get("/swagger/swagger-ui-bundle.js").status_code == 200
            assert reader.get("/metrics").status_code == 200
        with client(port) as stranger:
            assert stranger.get("/system/state").status_code == 401
        assert health(image, tmp_path, port) == 0
        started = time.monotonic()
        container.terminate()
        assert container.wait(10) == 0
        assert time.monotonic() - started < STOP_SECONDS
    assert health(image, tmp_path, port) != 0
    log = (tmp_path / "log").read_text()
    assert "listening on" in log
    assert READ not in log


def test_the_tools_for_agents_run_in_it(image: Image, tmp_path: Path) -> None:
    port = free_port()
    command = ("mcp", f"--http=127.0.0.1:{port}", "--url=http://127.0.0.1:1")
    with images.container(image, tmp_path, command=command) as container:
        wait_until(lambda: serves(port), seconds=60, what="the container")
        with client(port) as agent:
            ping = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
            assert agent.post("/mcp", json=ping).json() == {"jsonrpc": "2.0", "id": 1, "result": {}}
        container.terminate()
        assert container.wait(10) == 0


def health(image: Image, folder: Path, port: int) -> int:
    """The exit code of the health check, run as Docker runs it: with the container's variables."""
    check: dict[str, Any] = image.said["Healthcheck"]
    kind, *command = check["Test"]
    assert kind == "CMD"  # no shell
    inside = folder / "health"
    inside.mkdir(exist_ok=True)
    env = {"SERVER_PORT": str(port)}
    with images.container(image, inside, entrypoint=command, env=env) as probe:
        return probe.wait(20)


def test_a_container_without_tokens_does_not_open_itself(image: Image, tmp_path: Path) -> None:
    env = {"SERVER_HOST": "0.0.0.0", "SERVER_PORT": str(free_port())}
    with images.container(image, tmp_path, env=env) as container:
        assert container.wait(20) == 78
    assert "auth" in (tmp_path / "log").read_text()


def test_every_collector_and_command_works_in_it(image: Image, tmp_path: Path) -> None:
    """Nothing that was left behind is missed."""
    with images.container(image, tmp_path, command=("collectors",)) as container:
        assert container.wait(60) == 0
    found = json.loads((tmp_path / "log").read_text())
    assert {"heartbeats"} <= {one["name"] for one in found}
    assert {one["name"]: one["problem"] for one in found if one["problem"]} == {}


def test_its_root_is_never_written(image: Image, tmp_path: Path) -> None:
    """The container is what the manifests ask for: else the test before would prove little."""
    script = "import os; os.open('/opt/telemetron/x', os.O_CREAT)"
    command = ("/opt/telemetron/bin/python", "-c", script)
    with images.container(image, tmp_path, entrypoint=command) as container:
        assert container.wait(20) == 1
    assert "Read-only file system" in (tmp_path / "log").read_text()


def test_its_packages_are_those_of_the_lock(image: Image) -> None:
    locks = (images.ROOT / "requirements" / name for name in ("run.txt", "mcp.txt"))
    lines = [line for lock in locks for line in lock.read_text().splitlines()]
    wanted = dict(line.split()[0].split("==") for line in lines if "==" in line)
    (packages,) = image.root.glob("opt/telemetron/lib/python3*/site-packages")
    found = dict(path.stem.rsplit("-", 1) for path in packages.glob("*.dist-info"))
    found = {name.replace("_", "-").lower(): version for name, version in found.items()}
    own = {"telemetron", "telemetron-agent"}
    assert own <= found.keys()
    assert {name: wanted.get(name) for name in found.keys() - own} == {
        name: version for name, version in found.items() if name not in own
    }
