"""One measurement in a fresh process: seconds, CPU seconds, and the most memory it ever had."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

CHILD = """
import importlib, json, sys, time
ready = getattr(importlib.import_module(sys.argv[1]), sys.argv[2])(*sys.argv[3:])
began, computed = time.perf_counter(), time.process_time()
ready()
seconds, cpu = time.perf_counter() - began, time.process_time() - computed
# Not ru_maxrss: a child inherits that of the process that started it.
(peak,) = [line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM:")]
print(json.dumps({"seconds": seconds, "cpu": cpu, "peak_mib": int(peak) / 1024}))
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What one run cost, imports and set-up apart; ``peak_mib`` is the whole process's."""

    seconds: float
    cpu: float
    peak_mib: float


def cost(module: str, function: str, *arguments: str) -> Cost:
    """Call ``function(*arguments)``, which gets ready and returns what is to be measured, in a process of its own."""
    argv = [sys.executable, "-c", CHILD, module, function, *arguments]
    done = subprocess.run(argv, cwd=ROOT, stdout=subprocess.PIPE, text=True, timeout=600, check=True)
    return Cost(**json.loads(done.stdout.splitlines()[-1]))


def write_rows(path: Path, rows: int) -> None:
    """A CSV file of 20 columns as a historian writes them: time, site, 18 readings with five decimals and some gaps."""
    import numpy as np
    import pyarrow as pa
    from pyarrow import csv

    chance, gaps = np.random.default_rng(1), 0.005
    seconds = np.arange(rows, dtype=np.int64) // 4 * 600
    times = np.char.add((np.datetime64("2014-01-01T00:00:00") + seconds.astype("m8[s]")).astype(str), "+00:00")
    columns = {"at": pa.array(times), "site": pa.array(np.array(["a", "b", "c", "d"])[np.arange(rows) % 4])}
    for number in range(18):
        values = np.round(chance.normal(scale=10, size=rows), 5)
        columns[f"x{number}"] = pa.array(values, mask=chance.random(rows) < gaps)
    csv.write_csv(pa.table(columns), path, csv.WriteOptions(quoting_style="none"))
