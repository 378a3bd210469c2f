"""What reading a DAG file costs on top of `from airflow.sdk import DAG`, and that it imports nothing heavy.

Every task start reads its DAG file again, so this is paid thousands of times a day. One fresh interpreter per run
imports `DAG`, then freezes the garbage collector and forks once per file, as the dag-processor and LocalExecutor do
before they fork; the child executes the file. Without the freeze whichever file comes first pays 110 ms for collecting
what importing Airflow left. Counted is CPU time: reading a
file is computing, and the wall clock would measure who else uses the machine.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.harness import Figure, Pair, beyond_peer

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).resolve().parents[1]
RUNS = 5
BAR_MS = 150.0
HEAVY = ("great_expectations", "azure.ai.ml", "pandas", "docker", "onnxruntime", "paramiko")

CHILD = """
import gc, json, os, runpy, sys, time
from airflow.sdk import DAG
alone = time.process_time()
gc.freeze()
heavy, files = sys.argv[1].split(","), sys.argv[2:]
found = {}
for file in files:
    reader, writer = os.pipe()
    if os.fork() == 0:
        began = time.process_time()
        runpy.run_path(file)
        seconds = time.process_time() - began
        os.write(writer, json.dumps([seconds, [one for one in heavy if one in sys.modules]]).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as answer:
        text = answer.read()
    os.wait()
    if not text:
        sys.exit(f"{file} does not load")
    found[os.path.basename(file)] = json.loads(text)
print(json.dumps({"alone": alone, "files": found}))
"""


def measure(say: Callable[[str], None]) -> list[Figure]:
    """One figure per DAG file, and one for heavy imports; raises ``CalledProcessError`` if a file does not load."""
    files = sorted(path for path in (ROOT / "dags").glob("*.py"))
    pairs: dict[str, list[Pair]] = {}
    heavy: list[float] = []
    with tempfile.TemporaryDirectory() as home:
        _run(files, home)  # fills the caches that the dag-processor has filled long ago
        for number in range(RUNS):
            say(f"run {number + 1} of {RUNS}")
            answer = _run(files, home)
            alone = 1000 * answer["alone"]
            for name, (seconds, _) in answer["files"].items():
                pairs.setdefault(name, []).append(Pair(ours=alone + 1000 * seconds, peer=alone))
            heavy.append(float(sum(len(names) for _, names in answer["files"].values())))
    peer = "from airflow.sdk import DAG alone"
    figures = [
        beyond_peer(f"parse_time: {name}", runs, unit="ms CPU", bar=BAR_MS, peer=peer)
        for name, runs in sorted(pairs.items())
    ]
    imports = [Pair(ours=one, peer=0.0) for one in heavy]
    limit = f"none of {len(HEAVY)} heavy libraries"
    return [*figures, beyond_peer("parse_time: heavy imports", imports, unit="modules", bar=0.0, peer=limit)]


def _run(files: list[Path], home: str) -> dict[str, dict[str, tuple[float, list[str]]]]:
    environment = {
        **os.environ,
        "AIRFLOW_HOME": home,
        "EDGELOOP_PIPELINES": str(ROOT / "include" / "pipelines"),
        "EDGELOOP_LAST_VALID": f"{home}/last_valid",
    }
    argv = [sys.executable, "-c", CHILD, ",".join(HEAVY), *map(str, files)]
    done = subprocess.run(argv, env=environment, stdout=subprocess.PIPE, text=True, timeout=300, check=True)
    answer: dict[str, dict[str, tuple[float, list[str]]]] = json.loads(done.stdout.splitlines()[-1])
    return answer
