"""The shell text about images on the training VM, built without any effect."""

from __future__ import annotations

import shlex

FACTS = (
    "import json, platform, sys; print(json.dumps("
    "[list(sys.version_info[:2]), platform.machine(), platform.libc_ver()[1]]))"
)
"""Says for which Python, processor and C library an image needs wheels."""

VERSIONS = (
    "import importlib.metadata as m, json, re, sys; "
    "print(json.dumps({re.sub('[-_.]+', '-', d.metadata['Name']).lower(): d.version "
    "for d in reversed(list(m.distributions()))}))"
)
"""Says which packages an image finds: of two of a name the one that is imported, which comes first on the path."""


def inspect(image: str) -> str:
    """An image as Docker's JSON; nothing if it is not there, and an error only if Docker does not answer."""
    name = shlex.quote(image)
    return f"docker image inspect {name} 2>/dev/null || docker version --format ok >/dev/null"


def ask(image: str, code: str) -> str:
    """Run a line of Python in an image, which may do nothing but answer."""
    return shlex.join(
        ["docker", "run", "--rm", "--pull", "never", "--network", "none", "--read-only", "--cap-drop", "ALL",
         "--security-opt", "no-new-privileges", "--entrypoint", "python3", image, "-c", code]
    )  # fmt: skip


def load() -> str:
    """Take an image from standard input."""
    return "docker load -q"


def tag(image_id: str, name: str) -> str:
    """Give an image a name."""
    return shlex.join(["docker", "tag", image_id, name])


def prune(repository: str, keep: str) -> str:
    """Take the other images of a pipeline off the VM; one that a container still uses stays."""
    names = shlex.join(["docker", "image", "ls", "--format", "{{.Repository}}:{{.Tag}}", repository])
    return (
        f"for name in $({names}); do "
        f'test "$name" = {shlex.quote(keep)} || docker rmi "$name" >/dev/null 2>&1 || true; done'
    )
