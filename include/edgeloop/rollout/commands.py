"""The commands a device runs, as shell text. Pure: every one is tested by its exact words."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

USER = "10001:10001"
STOP_SECONDS = 10
LOG_LINES = 40
LABEL = "edgeloop.reference"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scorer:
    """How a pipeline's scorer runs on one device; ``share`` is the device's local share as the device sees it."""

    pipeline: str
    site: str
    share: str
    port: int

    @property
    def name(self) -> str:
        """The container that serves."""
        return f"edgeloop-scorer-{self.pipeline}"

    @property
    def previous(self) -> str:
        """The container that served before, kept stopped for an instant restore."""
        return f"{self.name}-previous"


def inspect(scorer: Scorer) -> str:
    """What is there of the serving and the previous container: one JSON document a line."""
    return shlex.join(
        ["docker", "inspect", "--type", "container", "--format", "{{json .}}", scorer.name, scorer.previous]
    )


def has_image(reference: str) -> str:
    """Whether the device has the image; exit code 1 if not."""
    return shlex.join(["docker", "image", "inspect", "--format", "{{.Id}}", reference])


def digests(image_id: str) -> str:
    """The digests under which the device pulled an image."""
    return shlex.join(["docker", "image", "inspect", "--format", "{{json .RepoDigests}}", image_id])


def held() -> str:
    """Every image of the device, layers and digests: one JSON document a line."""
    shape = '{"digests":{{json .RepoDigests}},"layers":{{json .RootFS.Layers}}}'
    inspect_all = shlex.join(["xargs", "-r", "docker", "image", "inspect", "--format", shape])
    # Of a pipe only the last command's exit code is told: an engine that is away would have no image at all.
    return f'ids=$(docker image ls --all --quiet --no-trunc) || exit 1; echo "$ids" | sort -u | {inspect_all}'


def pull(reference: str) -> str:
    """Pull an image by digest, telling what becomes of each layer."""
    return shlex.join(["docker", "pull", reference])


def run(scorer: Scorer, reference: str) -> str:
    """Start the scorer: read-only, without capabilities, restarted after a power cut, writing only to the share."""
    return shlex.join(
        [
            "docker",
            "run",
            "--detach",
            "--name",
            scorer.name,
            "--network",
            "host",
            "--read-only",
            "--init",
            "--cap-drop",
            "ALL",
            "--security-opt",
            "no-new-privileges",
            "--restart",
            "unless-stopped",
            "--user",
            USER,
            "--env",
            f"EDGELOOP_SITE={scorer.site}",
            "--env",
            "EDGELOOP_SHARE=/share",
            "--env",
            f"PORT={scorer.port}",
            "--volume",
            f"{scorer.share}:/share",
            "--label",
            f"edgeloop.pipeline={scorer.pipeline}",
            "--label",
            f"{LABEL}={reference}",
            reference,
        ]
    )


def start(name: str) -> str:
    """Start a stopped container again."""
    return shlex.join(["docker", "start", name])


def stop(name: str) -> str:
    """Stop a container: asked first, killed after STOP_SECONDS."""
    return shlex.join(["docker", "stop", "--time", str(STOP_SECONDS), name])


def rename(name: str, to: str) -> str:
    """Give a container another name."""
    return shlex.join(["docker", "rename", name, to])


def remove(name: str) -> str:
    """Kill and remove a container."""
    return shlex.join(["docker", "rm", "--force", "--volumes", name])


def logs(name: str) -> str:
    """The last lines a container wrote, both streams."""
    return shlex.join(["docker", "logs", "--tail", str(LOG_LINES), name]) + " 2>&1"
