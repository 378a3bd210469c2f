"""Real rows of the wind farm as a training has them, and what the leak check says about outputs made from them."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from edgeloop.errors import LeakError
from edgeloop.leak.check import Checked, check
from edgeloop.leak.rows import Rows

if TYPE_CHECKING:
    from collections.abc import Sequence

EXTRACTS = Path(__file__).parents[2] / "data" / "wind_power"
PEOPLE = 400
FIRST = ("Anna", "Berta", "Carla", "Dora", "Emma", "Frieda", "Gerda", "Hanna")
LAST = ("Ackermann", "Bergstrand", "Castellano", "Dombrowski", "Eriksson", "Fontaine", "Gunnarsson")


@dataclass(frozen=True)
class Ground:
    """Data, and outputs to be compared with it."""

    rows: Rows
    frame: pd.DataFrame
    folder: Path

    def checked(
        self,
        outputs: dict[str, bytes],
        *,
        names: Sequence[str] = (),
        columns: tuple[str, ...] = (),
        alone: bool = False,
    ) -> Checked:
        """Compare; raises ``LeakError``."""
        paths = {}
        for number, (name, data) in enumerate(outputs.items()):
            paths[name] = self.folder / f"{number}"
            paths[name].write_bytes(data)
        return check(paths, self.rows, names=names, columns=columns, alone=alone)

    def refused(self, outputs: dict[str, bytes], **options: object) -> str:
        """What the check says against outputs that hold data."""
        with pytest.raises(LeakError) as caught:
            self.checked(outputs, **options)  # type: ignore[arg-type]
        return str(caught.value)


@pytest.fixture(scope="session")
def farm_rows(tmp_path_factory: pytest.TempPathFactory) -> tuple[Rows, pd.DataFrame]:
    """The extracts of tests/data as Parquet with the types that ingest gives them, a file for each site; 5,600 rows."""
    folder, frames = tmp_path_factory.mktemp("rows"), []
    for site in ("R80711", "R80721", "R80736"):
        frame = pd.concat([pd.read_csv(path) for path in sorted(EXTRACTS.glob(f"{site}_*.csv"))], ignore_index=True)
        frame["Date_time"] = pd.to_datetime(frame["Date_time"], utc=True).astype("datetime64[us, UTC]")
        pq.write_table(pa.Table.from_pandas(frame, preserve_index=False), folder / f"{site}.parquet")
        frames.append(frame)
    return Rows(files=tuple(sorted(folder.glob("*.parquet")))), pd.concat(frames, ignore_index=True)


@pytest.fixture
def farm(farm_rows: tuple[Rows, pd.DataFrame], tmp_path: Path) -> Ground:
    """The wind farm."""
    return Ground(rows=farm_rows[0], frame=farm_rows[1], folder=tmp_path)


@pytest.fixture
def clinic(tmp_path: Path) -> Ground:
    """Rows about people: a name, a serial number in two notations, a town, a measurement."""
    towns = [f"{one.lower()}hausen" for one in LAST]
    frame = pd.DataFrame(
        {
            "name": [f"{FIRST[n % 8]} {LAST[n % 7]}-{n:03d}x" for n in range(PEOPLE)],
            "serial": [f"SN-{n * 7919 % 10007:05d}-{n % 10}" for n in range(PEOPLE)],
            "number": [50_000_000 + n * 104_729 for n in range(PEOPLE)],
            "town": [towns[n * 5 % 7] for n in range(PEOPLE)],
            "dose": [round(3.217 + n * 0.0713, 4) for n in range(PEOPLE)],
        }
    )
    path = tmp_path / "clinic.parquet"
    pq.write_table(pa.Table.from_pandas(frame, preserve_index=False), path)
    folder = tmp_path / "outputs"
    folder.mkdir()
    return Ground(rows=Rows(files=(path,)), frame=frame, folder=folder)


def zipped(name: str, data: bytes) -> bytes:
    """A zip with one member."""
    sink = BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, data)
    return sink.getvalue()
