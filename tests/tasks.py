"""A registry's task, run step by step on a real Docker engine as Azure's own runner does (Azure/acr-builder)."""

from __future__ import annotations

import base64
import gzip
import io
import json
import shlex
import subprocess
import tarfile
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from pathlib import Path


@dataclass
class TaskRunner:
    """Runs tasks on the engine at ``docker``; ``folder`` is where their sources are unpacked."""

    docker: str
    folder: Path
    log: list[str] = field(default_factory=list)
    done: list[str] = field(default_factory=list)
    """The steps that succeeded."""

    def run(self, body: dict[str, Any], source: bytes) -> str:
        """Run the task of a task run's PUT; how it ended."""
        text = base64.b64decode(body["properties"]["runRequest"]["encodedTaskContent"]).decode()
        with tarfile.open(fileobj=io.BytesIO(gzip.decompress(source))) as tar:
            tar.extractall(self.folder, filter="data")
        names = []
        try:
            for step in yaml.safe_load(text)["steps"]:
                names.append(step["id"])
                assert set(step["when"]) <= {"-", *self.done}
                if not self._step(step):
                    return "Failed"
                self.done.append(step["id"])
        finally:
            for name in names:
                self._docker("rm", "--force", name)
        return "Succeeded"

    def _step(self, step: dict[str, Any]) -> bool:
        if "build" in step:
            *options, place = shlex.split(step["build"])
            options[options.index("-f") + 1] = str(self.folder / "Dockerfile")
            assert place == "."
            return self._docker("build", *options, str(self.folder))
        if "push" in step:
            return all(self._docker("push", one) for one in step["push"])
        options = ["--rm"]
        options += ["--detach"] if step.get("detach") else []
        options += ["--user", step["user"], "--network", step["network"], "--name", step["id"]]
        options += ["--volume", f"{self.folder}:/workspace"]
        options += [] if step.get("disableWorkingDirectoryOverride") else ["--workdir", "/workspace"]
        options += [word for one in step.get("env", []) for word in ("--env", one)]
        options += ["--entrypoint", step["entryPoint"]] if "entryPoint" in step else []
        return self._docker("run", *options, *shlex.split(step["cmd"]))

    def _docker(self, *words: str) -> bool:
        command = ["docker", "--host", self.docker, *words]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
        if words[0] != "rm":
            self.log += [*done.stdout.splitlines(), *done.stderr.splitlines()]
        return done.returncode == 0


def result(run_id: str, status: str, digest: str = "", why: str = "") -> dict[str, Any]:
    """What a task run says of its run."""
    images = [{"registry": "r", "repository": "a", "tag": "t", "digest": digest}] if digest else []
    said = {"runId": run_id, "status": status, "outputImages": images, **({"runErrorMessage": why} if why else {})}
    found: dict[str, Any] = json.loads(json.dumps({"runResult": {"properties": said}}))
    return found
