"""The OpenAPI document against the server, by all checks that schemathesis makes by default."""

import asyncio
import os
import re
import shutil
import sys
from pathlib import Path

import pytest

READ, WRITE, METRICS = (f"{role}-token-0123456789" for role in ("read", "write", "metrics"))
CONFIG = f"server: {{auth: {{read: {READ}, write: {WRITE}, metrics: {METRICS}}}}}"
# A place may well be one that is not kept, and an agent may well be silent.
CHECKS = """
[[operations]]
include-path = "/agents/{name}/livez"
checks.not_a_server_error.expected-statuses = ["2xx", "4xx", "503"]

# A beat that is refused has its problem in the answer; too many beats are too large a batch.
[[operations]]
include-path = "/agents/heartbeats"
checks.negative_data_rejection.expected-statuses = ["200", "4xx", "5xx"]

[checks.positive_data_acceptance]
expected-statuses = ["2xx", "3xx", "401", "403", "404", "409", "410", "429", "5xx"]
"""
# With tokens, so that the checks of who may do what have something to check.
AUTH = f"""
[auth.openapi.read]
bearer = "{READ}"
[auth.openapi.write]
bearer = "{WRITE}"
[auth.openapi.metrics]
bearer = "{METRICS}"
"""
OPTIONS = ("--seed=1", "--max-examples=5", "--request-timeout=10", "--no-color")


@pytest.mark.timeout(120)
async def test_the_server_is_what_its_openapi_document_says(serving, tmp_path):
    async with serving(CONFIG) as live:
        # An entity that can be found, and one whose key has a slash.
        for name in ("planner", "a%2Fb"):
            beat = await live.client.post(
                f"/agents/{name}/heartbeat",
                json={"instance": "one", "interval_seconds": 300, "tasks": [{"id": "t"}]},
                headers={"authorization": f"Bearer {WRITE}"},
            )
            assert beat.status_code == 204
        document = await live.client.get(
            "/openapi.json", headers={"authorization": f"Bearer {READ}"}
        )
        (tmp_path / "openapi.json").write_bytes(document.content)
        (tmp_path / "schemathesis.toml").write_text(AUTH + CHECKS)
        code, said = await run(tmp_path, live.url)
    assert code == 0, said
    operations = sum(len(item) for item in document.json()["paths"].values())
    assert f"Tested: {operations}" in said
    for phase in ("Coverage", "Fuzzing", "Stateful"):
        assert re.search(f"✅ +{phase} ", said), said


async def run(folder: Path, url: str) -> tuple[int | None, str]:
    # The coverage of schemathesis itself is nobody's business, and takes its time.
    environ = {name: value for name, value in os.environ.items() if "COVERAGE" not in name}
    process = await asyncio.create_subprocess_exec(
        *(shutil.which("schemathesis", path=Path(sys.executable).parent), "run", *OPTIONS),
        *("--url", url, "openapi.json"),
        cwd=folder,
        env=environ,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(110):
            out, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return process.returncode, out.decode()
