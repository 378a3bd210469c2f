"""Values of identifier columns: one is enough."""

from __future__ import annotations

import base64
import json
import zlib
from typing import TYPE_CHECKING

import numpy as np
import pytest
from tests.edgeloop.leak.test_hidden import model, tensor

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.edgeloop.leak.conftest import Ground

SERIAL, NUMBER, NAME = "serial", "number", "name"
WAYS: dict[str, Callable[[str], bytes]] = {
    "as it is": str.encode,
    "in a sentence": lambda value: f"the worst one was {value}, by far".encode(),
    "in capitals": lambda value: value.upper().encode(),
    "with other marks between": lambda value: value.replace("-", "/").replace(" ", "_").encode(),
    "with nothing between": lambda value: value.replace("-", "").replace(" ", "").encode(),
    "in base64": lambda value: base64.b64encode(f"worst: {value}".encode()),
    "compressed, in hexadecimal": lambda value: zlib.compress(f"worst: {value}".encode()).hex().encode(),
    "in UTF-16": lambda value: value.encode("utf-16"),
    "in a name of a metric": lambda value: json.dumps({value: 1}).encode(),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("column", [SERIAL, NUMBER, NAME])
@pytest.mark.parametrize("alone", [False, True])
def test_a_single_value_is_found(clinic: Ground, way: str, column: str, alone: bool) -> None:
    """In every notation, whether rows are searched for too or identifiers alone; the value is not told."""
    value = str(clinic.frame[column][77])
    said = clinic.refused({"report.txt": WAYS[way](value)}, columns=(SERIAL, NUMBER, NAME), alone=alone)
    assert f"a value of identifier column {column}" in said
    assert value not in said


def test_a_value_among_numbers_is_found(clinic: Ground) -> None:
    """A number of six digits or more in an initialiser, whole or as a float that holds it."""
    value = int(clinic.frame[NUMBER][0])
    for hidden in (tensor([3, value, 4], 7), tensor([0.5, float(value), 0.25], 11)):
        said = clinic.refused({"model.onnx": model(tensors=[hidden])}, columns=(NUMBER,))
        assert "model.onnx, graph[0].initializer[1]" in said


def test_other_values_pass(clinic: Ground) -> None:
    """What only looks like a value is none: a neighbouring number, a part of a name, a serial with another digit."""
    serial, number, name = (clinic.frame[column][77] for column in (SERIAL, NUMBER, NAME))
    text = f"{serial[:-1]}Z {number + 1} {name.split()[0]} {'x' + serial}"
    clinic.checked({"report.txt": text.encode(), "model.onnx": model()}, columns=(SERIAL, NUMBER, NAME))


def test_an_identifier_in_a_file_name_is_found(clinic: Ground) -> None:
    """Also in the name of a file that stays on the VM, which would be told in the log."""
    said = clinic.refused({}, names=(f"plot-{clinic.frame[SERIAL][5]}.png",), columns=(SERIAL,), alone=True)
    assert "the names of the outputs" in said
    assert clinic.frame[SERIAL][5] not in said


def test_noise_holds_no_identifier(clinic: Ground) -> None:
    """Short words that random bytes hold by chance raise no alarm, though they are values."""
    import pandas as pd
    import pyarrow as pa
    import pyarrow.parquet as pq

    rng = np.random.default_rng(0)
    codes = ["".join(chr(97 + one) for one in rng.integers(0, 26, 3)) for _ in range(500)]
    pq.write_table(pa.Table.from_pandas(pd.DataFrame({"code": codes})), clinic.rows.files[0])
    noise = rng.integers(0, 256, 1 << 20, dtype=np.uint8).tobytes()
    clinic.checked({"report.bin": noise}, columns=("code",))
    assert "identifier column code" in clinic.refused({"report.txt": f"see {codes[7]}".encode()}, columns=("code",))


def test_values_too_short_to_be_told_apart_are_counted(clinic: Ground) -> None:
    """A column of small numbers is not searched for, and whoever reads the log learns how many that concerns."""
    import pandas as pd
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.Table.from_pandas(pd.DataFrame({"bed": [1, 2, 3, 3]})), clinic.rows.files[0])
    done = clinic.checked({"report.txt": b"bed 1, bed 2"}, columns=("bed",))
    assert done.skipped == (("bed", 3),)
