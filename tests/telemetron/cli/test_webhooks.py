"""`telemetron webhooks test` sends a signed sample, and says what came back."""

import asyncio
from pathlib import Path

import pytest

from tests.telemetron.cli.program import Done, invoke
from tests.telemetron.notifications.receiver import SECRET, receiving


def configured(folder: Path, url: str) -> Path:
    file = folder / "t.yaml"
    hooks = [f"{{name: {name}, url: '{url}', secret: {SECRET}}}" for name in ("ops", "chat")]
    file.write_text(f"id: atlas\nwebhooks: [{', '.join(hooks)}]")
    return file


def run(file: Path, name: str) -> Done:
    return invoke("webhooks", "test", name, "--config", str(file))


async def test_a_sample_is_signed_and_its_answer_is_shown(tmp_path: Path) -> None:
    async with receiving() as receiver:
        file = configured(tmp_path, f"{receiver.url}/secret-path")
        done = await asyncio.to_thread(run, file, "ops")
    assert done.exit_code == 0, done.stderr
    assert done.stdout.startswith(f"ops: {receiver.url} answered 204 after ")
    (request,) = receiver.requests
    assert request.body["type"] == "dev.telemetron.test"
    assert request.body["data"]["system"] == "atlas"


async def test_a_refusal_is_an_error_of_one_line(tmp_path: Path) -> None:
    async with receiving() as receiver:
        receiver.always = 401
        file = configured(tmp_path, f"{receiver.url}/secret-path")
        done = await asyncio.to_thread(run, file, "ops")
    assert done.exit_code == 1
    assert "answered 401 Unauthorized: <b>text of others</b> after" in done.stderr
    assert "secret-path" not in done.stderr
    assert SECRET not in done.stderr


@pytest.mark.parametrize(("name", "said"), [("opps", 'did you mean "ops"?'), ("x", "known: chat")])
def test_an_unknown_name_is_refused(tmp_path: Path, name: str, said: str) -> None:
    done = run(configured(tmp_path, "http://127.0.0.1:1"), name)
    assert done.exit_code == 78
    assert said in done.stderr


def test_without_webhooks_there_is_nothing_to_test(tmp_path: Path) -> None:
    file = tmp_path / "t.yaml"
    file.write_text("id: atlas")
    assert "has no webhooks" in run(file, "ops").stderr
