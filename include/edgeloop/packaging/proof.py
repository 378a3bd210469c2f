"""The proof: the image, run on the engine as a device runs it, answers exactly as the registered model does.

It has no network at all, so it is asked from inside by a few lines of Python that the image's own interpreter runs.
"""

from __future__ import annotations

import json
import secrets
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgeloop.errors import EngineError, ProofFailedError
from edgeloop.packaging import leftovers
from edgeloop.records import canonical_json, sha256_hex

if TYPE_CHECKING:
    from edgeloop.containers.engine import Engine
    from edgeloop.packaging.golden import Golden

READY_SECONDS = 60.0
ASK_SECONDS = 30.0
SETTLE_SECONDS = 2.0
PORT = 8080
USER = "10001:10001"
MEMORY_LIMIT = "1g"
KILLED = 128 + 9
"""How a container ends by SIGKILL: its own limit of memory, or somebody else."""

ASKING = """
def get(path, body=None, timeout=ask["timeout"]):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request("http://127.0.0.1:%d%s" % (ask["port"], path), data)
    request.add_header("Content-Type", "application/json")
    with urllib.request.urlopen(request, timeout=timeout) as answer:
        return json.load(answer)
def infer():
    try:
        return get(ask["path"], ask["body"])
    except urllib.error.HTTPError as error:
        sys.exit("%d: %s" % (error.code, error.read(500).decode(errors="replace")))
deadline = time.time() + ask["ready"]
while True:
    try:
        get("/v2/health/ready", timeout=2)
        break
    except (OSError, ValueError) as error:
        if time.time() > deadline:
            sys.exit("not ready: %s" % error)
        time.sleep(0.05)
"""
"""Waits until the scorer of ``ask`` is ready, and can ask it the golden rows."""
CLIENT = f"""
import json, os, sys, time, urllib.error, urllib.request
ask = json.load(sys.stdin)
{ASKING}
ready = time.time()
cpu = 0.0
for process in os.listdir("/proc"):
    try:
        fields = open("/proc/%s/stat" % process).read().rpartition(")")[2].split()
    except OSError:
        continue
    if fields[1] == "1":
        cpu += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
print(json.dumps({{"ready": ready, "cpu": cpu, "answer": infer()}}))
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """A passed proof: how many golden rows, seconds from start to ready, bytes of memory after answering.

    ``cpu_seconds`` is the scorer's own process time until it was ready: what a start costs however busy the machine is.
    """

    rows: int
    start_seconds: float
    cpu_seconds: float
    memory_bytes: int
    engine_id: str

    def to_json(self) -> str:
        """Canonical JSON, as it stands in the image's record."""
        body = {
            "rows": self.rows,
            "start_seconds": self.start_seconds,
            "cpu_seconds": self.cpu_seconds,
            "memory_bytes": self.memory_bytes,
            "engine_id": self.engine_id,
        }
        return canonical_json(body).decode()


def run_options(site: str = "proof") -> dict[str, Any]:
    """How the proof's container runs: locked down as on a device, its share a tmpfs, no network."""
    return {
        "network_mode": "none",
        "read_only": True,
        "init": True,
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges"],
        "user": USER,
        "environment": {"EDGELOOP_SITE": site, "EDGELOOP_SHARE": "/share", "PORT": str(PORT)},
        "tmpfs": {"/share": "mode=1777,size=64m"},
        "mem_limit": MEMORY_LIMIT,
    }


def prove(
    engine: Engine, image: str, model_name: str, golden: Golden, *, ready_seconds: float = READY_SECONDS
) -> Proof:
    """Run ``image`` (an id on ``engine``), ask it the golden rows, compare byte for byte, and remove it again.

    Raises ``ProofFailedError`` with the container's last lines if it ends, does not get ready or answers otherwise.
    """
    leftovers.clear(engine)
    # A name of its own: two that prove one image at once would take each other's container away.
    name = f"{leftovers.PREFIX}{sha256_hex(image.encode())[:12]}-{secrets.token_hex(4)}"
    began = time.monotonic()
    with leftovers.removed(engine, name):
        engine.start(image, name, labels=leftovers.labels(), **run_options())
        body = {
            "port": PORT,
            "ready": ready_seconds,
            "timeout": ASK_SECONDS,
            "path": f"/v2/models/{model_name}/infer",
            "body": golden.request(),
        }
        said = _ask(engine, name, canonical_json(body), ready_seconds + ASK_SECONDS)
        state = engine.state(name)
        if differing := golden.differing(said["answer"]):
            raise _failed(engine, name, f"it {differing} ({golden.sha256[:16]})")
        return Proof(
            rows=len(golden.rows),
            start_seconds=round(max(said["ready"] - state.started_at, 0.0), 3) or round(time.monotonic() - began, 3),
            cpu_seconds=round(said["cpu"], 3),
            memory_bytes=engine.memory(name),
            engine_id=image,
        )


def _ask(engine: Engine, name: str, body: bytes, timeout: float) -> dict[str, Any]:
    try:
        answer = engine.ask(name, ["python3", "-c", CLIENT], body, timeout=timeout)
    except EngineError as error:
        # An exec into a container that has ended is refused; what counts is why it ended.
        if _runs_on(engine, name):
            raise
        raise _ended(engine, name) from error
    if answer.exit != 0 and _runs_on(engine, name):
        raise _failed(engine, name, answer.err.decode(errors="replace").strip() or f"gave no answer ({answer.exit})")
    if not engine.state(name).running:
        raise _ended(engine, name)
    said: dict[str, Any] = json.loads(answer.out)
    return said


def _runs_on(engine: Engine, name: str) -> bool:
    """Whether the container outlives an exec that failed; Docker takes a moment to see that both ended."""
    until = time.monotonic() + SETTLE_SECONDS
    while engine.state(name).running:
        if time.monotonic() > until:
            return True
        time.sleep(SETTLE_SECONDS / 20)
    return False


def _ended(engine: Engine, name: str) -> EngineError | ProofFailedError:
    """Why the container ended: by itself, or because somebody killed it, which says nothing of the image."""
    state = engine.state(name)
    if state.exit_code != KILLED or state.out_of_memory:
        return _failed(engine, name, f"ended by itself with exit code {state.exit_code}")
    return EngineError(
        f"The proof's container {name} was killed from outside on the engine of connection "
        f"{engine.endpoint.connection!r} (exit code {KILLED}).",
        left="nothing was proven or pushed; the devices serve what they served",
        next="See who kills containers there (an engine without memory, `docker kill`); then clear the prove task.",
    )


def _failed(engine: Engine, name: str, why: str) -> ProofFailedError:
    log = engine.logs(name)
    return ProofFailedError(
        f"The image, run as on a device, failed: {why}.\nIts last lines: {log or '(none)'}",
        left="it was not pushed; the devices serve what they served",
        next="Compare include/images/scorer with the model's inputs; then clear the build task with a reason to force.",
    )
