"""The task that a registry of Azure runs for one image, and what it works on. Pure: the same plan gives the same bytes.

Four steps: build the image; serve it, locked down as on a device; ask it the golden rows from beside it and compare;
push it, which happens only after the third has succeeded. Options before an image's name reach ``docker run`` as they
are (Azure/acr-builder, builder/docker_helper.go); a registry that would not take them fails the run before the push.
"""

from __future__ import annotations

import base64
import gzip
import io
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgeloop.packaging import proof
from edgeloop.packaging.layer import pack
from edgeloop.records import canonical_json

if TYPE_CHECKING:
    from edgeloop.packaging.build import Plan
    from edgeloop.packaging.golden import Golden

LABEL = "edgeloop."
MARK = "EDGELOOP-PROOF "
"""Begins the line of the log that tells how the proof went."""
RUN_SECONDS = 1800
"""For the whole run in Azure; the specification takes 300 to 28800."""
BUILD_SECONDS, PROVE_SECONDS, PUSH_SECONDS = 900, 120, 600
CHECK = f"""
import json, os, struct, sys, time, urllib.error, urllib.request
ask = json.load(open(sys.argv[1]))
{proof.ASKING}
ready, tick = time.clock_gettime(time.CLOCK_BOOTTIME), os.sysconf("SC_CLK_TCK")
began, cpu, scorers = ready, 0.0, []
for process in os.listdir("/proc"):
    try:
        fields = open("/proc/%s/stat" % process).read().rpartition(")")[2].split()
    except OSError:
        continue
    if fields[1] == "1":
        scorers.append(process)
        began = min(began, int(fields[19]) / tick)
        cpu += (int(fields[11]) + int(fields[12])) / tick
answer = infer()
memory = sum(int(line.split()[1]) * 1024 for one in scorers for line in open("/proc/%s/status" % one)
             if line.startswith("VmRSS"))
output = next((one for one in answer.get("outputs", []) if one.get("name") == "Y"), {{}})
said = {{"start_seconds": round(ready - began, 3), "cpu_seconds": round(cpu, 3), "memory_bytes": memory,
        "answer": {{"outputs": [output]}}}}
print(ask["mark"] + json.dumps(said), flush=True)
def packed(values):
    return [struct.pack("<f", one) for one in values]
try:
    same = output["datatype"] == "FP32" and packed(output["data"]) == packed(ask["answers"])
except (KeyError, TypeError, OverflowError, struct.error):
    same = False
sys.exit(0 if same else "the golden answers are other than the model's")
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What the proof's line of a log tells."""

    start_seconds: float
    cpu_seconds: float
    memory_bytes: int
    answer: dict[str, Any]


def context(plan: Plan, base: str, rows: Golden) -> bytes:
    """The source that a run works on, as a tar.gz: Dockerfile, the model's layer, the golden rows and who asks them."""
    ask = {
        "port": proof.PORT,
        "ready": proof.READY_SECONDS,
        "timeout": proof.ASK_SECONDS,
        "path": f"/v2/models/{plan.model.pipeline}/infer",
        "body": rows.request(),
        "answers": list(rows.answers),
        "mark": MARK,
    }
    files = {
        "Dockerfile": dockerfile(plan, base).encode(),
        "model.tar": plan.layer,
        "proof/ask.json": canonical_json(ask),
        "proof/check.py": CHECK.encode(),
    }
    buffer = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", fileobj=buffer, mtime=0) as target:
        target.write(pack(files))
    return buffer.getvalue()


def dockerfile(plan: Plan, base: str) -> str:
    """``base`` (by digest) with the model's layer and the labels that the engine's builder gives."""
    labels = {**plan.base.labels, **json.loads(plan.configuration)["config"]["Labels"]}
    said = " \\\n      ".join(f"{_quoted(name)}={_quoted(value)}" for name, value in sorted(labels.items()))
    return f"FROM {base}\nADD model.tar /\nLABEL {said}\n"


def steps(name: str) -> dict[str, Any]:
    """The task's text, as a document: build, serve, prove, push ``name``; one with a digest is only proven again."""
    locked = [
        "--read-only", "--init", "--cap-drop=ALL", "--security-opt=no-new-privileges",
        f"--memory={proof.MEMORY_LIMIT}", "--tmpfs=/share:mode=1777,size=64m",
    ]  # fmt: skip
    whole: list[dict[str, Any]] = [
        {"id": "build", "build": f"-t {name} -f Dockerfile .", "timeout": BUILD_SECONDS, "when": ["-"]},
        {
            "id": "serve",
            "cmd": " ".join([*locked, name]),
            "detach": True,
            "disableWorkingDirectoryOverride": True,
            "env": ["EDGELOOP_SITE=proof", "EDGELOOP_SHARE=/share", f"PORT={proof.PORT}"],
            "network": "none",
            "user": proof.USER,
            "timeout": RUN_SECONDS,
            "when": ["build"],
        },
        {
            "id": "prove",
            "cmd": f"--pid=container:serve {name} proof/check.py proof/ask.json",
            "entryPoint": "python3",
            "network": "container:serve",
            # Whoever unpacked the source decides who may read it.
            "user": "0:0",
            "timeout": PROVE_SECONDS,
            "when": ["serve"],
        },
        {"id": "push", "push": [name], "timeout": PUSH_SECONDS, "when": ["prove"]},
    ]
    if "@" in name:
        whole = [{**one, "when": ["-"] if one["id"] == "serve" else one["when"]} for one in whole[1:-1]]
    return {"version": "v1.1.0", "steps": whole}


def body(name: str, source: str, *, again: str = "", pool: str = "") -> dict[str, Any]:
    """The task run's PUT: nothing in it is secret. ``again`` names the run before it, if that failed."""
    import yaml

    text = yaml.safe_dump(steps(name), sort_keys=False, width=4096)
    request = {
        "type": "EncodedTaskRunRequest",
        "encodedTaskContent": base64.b64encode(text.encode()).decode(),
        "values": [],
        "timeout": RUN_SECONDS,
        "platform": {"os": "Linux", "architecture": "amd64"},
        "sourceLocation": source,
        "credentials": {"sourceRegistry": {"loginMode": "Default"}},
        "isArchiveEnabled": False,
        **({"agentPoolName": pool} if pool else {}),
    }
    return {"properties": {"runRequest": request, **({"forceUpdateTag": again} if again else {})}}


def said(log: str) -> Said | None:
    """The proof's last line in a log; None if there is none that can be read."""
    for line in reversed(log.splitlines()):
        _, mark, text = line.partition(MARK)
        if not mark:
            continue
        try:
            found = json.loads(text)
            return Said(
                start_seconds=float(found["start_seconds"]),
                cpu_seconds=float(found["cpu_seconds"]),
                memory_bytes=int(found["memory_bytes"]),
                answer=dict(found["answer"]),
            )
        except (ValueError, KeyError, TypeError):
            return None
    return None


def _quoted(text: str) -> str:
    """As a Dockerfile's LABEL takes it: a dollar would be a variable."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("$", "\\$").replace("\n", "\\\n")
    return f'"{escaped}"'
