"""The plant beside a device: feeds the scorer the signals of its turbine, month by month, as the historian has them.

python -m lab.player --site demo --device R80711 --months 2014-10,2014-11 [--rows-per-request 36] [--speed 0]
"""

from __future__ import annotations

import argparse
import csv
import http.client
import importlib.util
import json
import sys
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from edgeloop.errors import EdgeloopError, UnreachableError
from lab import site as sites
from lab.errors import LabError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import ModuleType

    from numpy.typing import NDArray

PIPELINES = Path(__file__).parents[1] / "pipelines"
CONNECT_SECONDS, IDLE_SECONDS, WHOLE_SECONDS = 2.0, 15.0, 120.0  # one try; one answer; one request with its retries
PAUSE_SECONDS = 0.2
OK, UNAVAILABLE = 200, 503


@dataclass(frozen=True, slots=True, kw_only=True)
class Played:
    """What was played: rows answered, seconds it took, and the rows that each model version answered."""

    rows: int
    seconds: float
    versions: dict[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """The rows of one file that lie in the model's domain: X float32 [n, 8] and their instants."""

    x: NDArray[Any]
    times: tuple[datetime, ...]

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.times)


def read(path: Path, pipeline: str = "wind_power") -> Rows:
    """Read a historian's CSV; rows outside the model's domain (no wind, silent sensor) are left out.

    Raises:
        LabError: The file is not there, or is no such CSV.
    """
    features = _features(pipeline)
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            rows = list(csv.DictReader(stream))
        signals = {name: [float(row[name] or "nan") for row in rows] for name in features.SIGNALS}
        times = [datetime.fromisoformat(row["Date_time"]).astimezone(UTC) for row in rows]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise LabError(f"{path} cannot be played: {error!r}", next="name a month that lab.data has cut") from error
    keep = features.in_domain(signals)
    return Rows(x=features.derive(signals)[keep], times=tuple(t for t, k in zip(times, keep, strict=True) if k))


@dataclass(slots=True)
class Position:
    """Which rows of which file each model version has answered, from the first on; kept in a file if there is one."""

    path: Path | None = None
    done: dict[str, dict[str, int]] = field(default_factory=dict)

    @classmethod
    def load(cls, path: Path | None) -> Position:
        """Read it, or start afresh when the file is not there or was torn."""
        try:
            return cls(path, json.loads(path.read_text(encoding="utf-8")) if path else {})
        except (OSError, ValueError):
            return cls(path, {})

    def of(self, name: str, version: str) -> int:
        """Rows of file `name` that `version` has answered without a gap."""
        return self.done.get(name, {}).get(version, 0)

    def best(self, name: str) -> int:
        """The most rows of file `name` that any one version, or several one after the other, have answered."""
        return max(self.done.get(name, {}).values(), default=0)

    def advance(self, name: str, version: str, rows: int) -> None:
        """Say that the first `rows` rows were answered, the last of them by `version`; write it down."""
        self.done.setdefault(name, {})[version] = rows
        if self.path:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            part = self.path.with_suffix(".part")
            part.write_text(json.dumps(self.done), encoding="utf-8")
            part.replace(self.path)


@dataclass(slots=True)
class Scorer:
    """A scorer over one kept connection; every request is tried again while the container restarts."""

    url: str
    model: str
    whole: float = WHOLE_SECONDS
    _connection: http.client.HTTPConnection | None = None

    def version(self) -> str:
        """The version that answers now."""
        return str(self._ask("GET", f"/v2/models/{self.model}", b"")["versions"][0])

    def infer(self, x: NDArray[Any], times: Sequence[datetime]) -> str:
        """Send rows; return the version that answered them."""
        stamps = [instant.isoformat().replace("+00:00", "Z") for instant in times]
        inputs = [
            {"name": "X", "datatype": "FP32", "shape": list(x.shape), "data": x.reshape(-1).tolist()},
            {"name": "event_time", "datatype": "BYTES", "shape": [len(stamps)], "data": stamps},
        ]
        answer = self._ask("POST", f"/v2/models/{self.model}/infer", json.dumps({"inputs": inputs}).encode())
        return str(answer["model_version"])

    def close(self) -> None:
        """Give the connection back."""
        if self._connection:
            self._connection.close()
            self._connection = None

    def _ask(self, method: str, path: str, body: bytes) -> dict[str, Any]:
        deadline = time.monotonic() + self.whole
        while True:
            try:
                status, content = self._once(method, path, body)
                if status == OK:
                    return dict(json.loads(content))
                trouble = content.decode(errors="replace")[:300]
                if status != UNAVAILABLE:
                    raise LabError(f"{self.url}{path} answered {status}: {trouble}", next="compare model and features")
            except (OSError, http.client.HTTPException) as error:
                self.close()
                trouble = repr(error)
            if time.monotonic() > deadline:
                raise UnreachableError(
                    f"the scorer at {self.url} did not answer for {self.whole:.0f} s: {trouble}",
                    left="the rows answered so far; the position was written",
                    next="look at the container on that device, then play the same months again",
                )
            time.sleep(PAUSE_SECONDS)

    def _once(self, method: str, path: str, body: bytes) -> tuple[int, bytes]:
        if self._connection is None:
            parts = urlsplit(self.url)
            self._connection = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=CONNECT_SECONDS)
            self._connection.connect()
            self._connection.sock.settimeout(IDLE_SECONDS)
        self._connection.request(method, path, body, {"content-type": "application/json"})
        response = self._connection.getresponse()
        return response.status, response.read()


def play(
    url: str,
    paths: Sequence[Path],
    *,
    pipeline: str = "wind_power",
    rows_per_request: int = 36,
    speed: float = 0.0,
    position: Path | None = None,
    once: bool = False,
    whole: float = WHOLE_SECONDS,
    report: Callable[[str], None] = print,
) -> Played:
    """Send every row of the files' domain to a scorer, in order, and return what was answered.

    Args:
        url: The scorer's address, without a path.
        paths: Historian's CSVs, played one after the other.
        pipeline: The model's name and the folder with its features.py.
        rows_per_request: Rows of one inference request.
        speed: Seconds of event time that pass in one second; 0 sends as fast as the scorer answers.
        position: Where to remember what was answered. A file that the version that answers now has answered whole is
            `found` and not sent again; one that was broken off goes on where it stopped.
        once: Count what any version has answered, as for a plant whose hours never come back.
        whole: Seconds that one request may take with all its tries. Tries are at least once: rows of a request whose
            answer was lost on the way are logged twice.
        report: Told one line for each file.

    Raises:
        UnreachableError: The scorer did not answer for `whole` seconds.
        LabError: A file cannot be read, or the scorer refuses its rows.
    """
    begun, seen, total = time.monotonic(), Position.load(position), dict[str, int]()
    scorer = Scorer(url, pipeline, whole)
    try:
        for path in paths:
            rows = read(path, pipeline)
            first = seen.best(path.name) if once else seen.of(path.name, scorer.version())
            if first >= len(rows):
                report(f"found: {path.name}, {len(rows)} rows played before")
                continue
            pace = _Pace(rows_per_request, speed)
            versions = _play_file(scorer, rows, first, pace, seen=seen, name=path.name, once=once)
            for version, count in versions.items():
                total[version] = total.get(version, 0) + count
            report(f"played: {path.name}, {sum(versions.values())} rows, versions {', '.join(versions)}")
    finally:
        scorer.close()
    return Played(rows=sum(total.values()), seconds=time.monotonic() - begun, versions=total)


@dataclass(frozen=True, slots=True)
class _Pace:
    rows: int
    speed: float


def _play_file(
    scorer: Scorer, rows: Rows, first: int, pace: _Pace, *, seen: Position, name: str, once: bool
) -> dict[str, int]:
    versions: dict[str, int] = {}
    begun = time.monotonic()
    for start in range(first, len(rows), pace.rows):
        end = min(start + pace.rows, len(rows))
        if pace.speed > 0:
            due = begun + (rows.times[start] - rows.times[first]).total_seconds() / pace.speed
            time.sleep(max(0.0, due - time.monotonic()))
        version = scorer.infer(rows.x[start:end], rows.times[start:end])
        versions[version] = versions.get(version, 0) + end - start
        # A version that took over in the middle has not answered the rows before: only `once` may skip them.
        if once or seen.of(name, version) == start:
            seen.advance(name, version, end)
    return versions


def _features(pipeline: str) -> ModuleType:
    """The pipeline's own features.py, by its path: every pipeline has a module of that name."""
    path = PIPELINES / pipeline / "features.py"
    spec = importlib.util.spec_from_file_location(f"{pipeline}_features", path)
    if spec is None or spec.loader is None or not path.exists():
        raise LabError(f"pipeline {pipeline!r} has no features.py", next=f"look into {path.parent}")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main(arguments: list[str] | None = None) -> int:
    """Play months to one device of a site."""
    parser = argparse.ArgumentParser(prog="python -m lab.player", description=main.__doc__)
    parser.add_argument("--site", default="demo")
    parser.add_argument("--device", required=True, help="a turbine, R80711 for example")
    parser.add_argument("--months", required=True, help="YYYY-MM,YYYY-MM")
    parser.add_argument("--data", type=Path, help="folder of the CSVs; the lab's cache if not given")
    parser.add_argument("--rows-per-request", type=int, default=36)
    parser.add_argument("--speed", type=float, default=0.0, help="seconds of event time per second; 0: at full speed")
    parser.add_argument("--once", action="store_true", help="skip what any model version has answered")
    chosen = parser.parse_args(arguments)
    try:
        site = sites.load(sites.state_of(chosen.site))
        device = site.device(chosen.device)
        folder = chosen.data or site.cache / "wind_power"
        played = play(
            f"http://{device.host}:{device.scorer_port}",
            [folder / f"{device.name}_{month}.csv" for month in chosen.months.split(",")],
            rows_per_request=chosen.rows_per_request,
            speed=chosen.speed,
            position=site.state / "player" / f"{device.name}.json",
            once=chosen.once,
            report=lambda line: print(line, flush=True),
        )
    except EdgeloopError as error:
        print(error, file=sys.stderr)
        return 1
    print(json.dumps({"device": device.name, "rows": played.rows, "seconds": round(played.seconds, 1)}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
