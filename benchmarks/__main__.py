"""`make bench`: measures every figure, or those of ONLY=name,name; exits 1 if a bar does not hold."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from rich.console import Console

from benchmarks import (
    arrival,
    harness,
    image,
    lineage,
    parquet,
    parse_time,
    resume,
    resync,
    scan,
    ssh_staging,
    upload,
    validation,
    wire_bytes,
)

BENCHES = {
    "parse_time": parse_time.measure,
    "arrival": arrival.measure,
    "scan": scan.measure,
    "upload": upload.measure,
    "resync": resync.measure,
    "resume": resume.measure,
    "validation": validation.measure,
    "parquet": parquet.measure,
    "ssh_staging": ssh_staging.measure,
    "lineage": lineage.measure,
    "image": image.measure,
    "wire_bytes": wire_bytes.measure,
}
KEPT = Path("build") / "bench.json"


def main(only: str, console: Console) -> int:
    """Measure; 2 if ``only`` names an unknown figure, 1 if a bar does not hold."""
    wanted = [name.strip() for name in only.split(",") if name.strip()] or list(BENCHES)
    if unknown := sorted(set(wanted) - set(BENCHES)):
        console.print(f"There is no figure {', '.join(unknown)}. Choose from: {', '.join(BENCHES)}.")
        return 2
    figures: list[harness.Figure] = []
    for name in wanted:
        console.print(f"measuring {name} ...", style="dim")
        figures += BENCHES[name](lambda text: console.print(f"  {text}", style="dim", highlight=False))
    harness.keep(figures, KEPT)
    console.print(harness.table(figures))
    console.print(f"kept in {KEPT}")
    return 0 if all(figure.holds for figure in figures) else 1


if __name__ == "__main__":
    wide = None if sys.stdout.isatty() else 140
    sys.exit(main(os.environ.get("ONLY", ""), Console(width=wide)))
