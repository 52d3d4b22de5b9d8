"""Every operation of the OpenAPI document, with data that its schema allows and data that it does not: nothing fails, and every answer is one that the document tells of."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hostile_helpers import Target, bystander, no_failures, target
from serve_helpers import DOCUMENTS, wait_until

SECONDS = 30
# What a schema cannot say is still refused: a layout's own options, edges between documents that are there, ids without control characters.
NOT_CHECKED = "positive_data_acceptance"


@pytest.fixture(scope="module")
def attacked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    with target(tmp_path_factory.mktemp("schema")) as found:
        with found.client() as client:
            client.put("/v1/documents", json={"documents": [*DOCUMENTS, {"id": "0", "text": "It rains."}]}).raise_for_status()
        yield found


def schemathesis(attacked: Target, folder: Path, *arguments: str, examples: int) -> subprocess.CompletedProcess[str]:
    """Run it for a while, with the same data every time."""
    command = [sys.executable, "-c", "from schemathesis.cli import schemathesis; schemathesis()", "run", f"{attacked.address}/openapi.json", "--no-color"]
    command += ["--max-examples", str(examples), "--max-time", str(SECONDS), "--generation-deterministic", "--continue-on-failure", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=3 * SECONDS)


def test_every_operation(attacked: Target, tmp_path: Path) -> None:
    before = attacked.tree()
    with no_failures(), bystander(attacked):
        done = schemathesis(attacked, tmp_path, "--phases", "coverage,fuzzing", "--exclude-checks", NOT_CHECKED, examples=10)
        wait_until(attacked.idle)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-1000:]
    tested = re.search(r"Tested:\s+(\d+)", done.stdout)
    assert tested and int(tested[1]) == sum(len(operations) for operations in openapi(attacked)["paths"].values()) >= 12
    assert attacked.tree() == before


def test_it_finds_what_is_wrong(attacked: Target, tmp_path: Path) -> None:
    """With the check that the schema cannot satisfy it ends with a failure, so it does look at answers."""
    done = schemathesis(attacked, tmp_path, "--phases", "coverage", "--checks", NOT_CHECKED, "--include-path", "/v1/graph", examples=5)
    assert done.returncode == 1 and "documents: expected at least one document" in done.stdout, done.stdout[-3000:]


def openapi(attacked: Target) -> dict[str, dict[str, dict[str, object]]]:
    with attacked.client() as client:
        document: dict[str, dict[str, dict[str, object]]] = client.get("/openapi.json").json()
    return document
