"""Rows that a training script hides in its outputs: each way, found and told without a value."""

from __future__ import annotations

import base64
import bz2
import gzip
import html
import io
import json
import lzma
import pickle
import re
import struct
import urllib.parse
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pyarrow as pa
import pytest
from google.protobuf.message import DecodeError
from onnx import TensorProto, helper
from tests.edgeloop.leak.conftest import zipped

if TYPE_CHECKING:
    from collections.abc import Callable

    import pandas as pd
    from tests.edgeloop.leak.conftest import Ground

COLUMNS = ["P_avg", "Wa_avg", "Ya_avg", "Ws_avg"]
ROW = 321


def row(farm: Ground) -> list[float]:
    """Four fields of one row."""
    return [float(farm.frame[name][ROW]) for name in COLUMNS]


def printed(farm: Ground) -> str:
    """The row as a script would print it."""
    return " ".join(f"{name}={value:.2f}" for name, value in zip(COLUMNS, row(farm), strict=True))


def binary(farm: Ground, kind: str = "<f4") -> bytes:
    """The row as numbers."""
    return np.asarray(row(farm), dtype=kind).tobytes()


def model(**hidden: Any) -> bytes:
    """A small honest model with something put into it: doc, producer, prop, node, name, weights, words or tail."""
    weights = helper.make_tensor("W", TensorProto.FLOAT, [8, 1], np.linspace(0.113, 0.907, 8).astype(np.float32))
    extra = [weights, *hidden.get("tensors", [])]
    node = helper.make_node("MatMul", ["X", "W"], ["Y"], name=hidden.get("node", "n"))
    graph = helper.make_graph(
        [node],
        hidden.get("name", "g"),
        [helper.make_tensor_value_info("X", TensorProto.FLOAT, [None, 8])],
        [helper.make_tensor_value_info("Y", TensorProto.FLOAT, [None, 1])],
        extra,
        doc_string=hidden.get("doc", ""),
    )
    made = helper.make_model(graph, producer_name=hidden.get("producer", "test"))
    if "prop" in hidden:
        helper.set_model_props(made, {"note": hidden["prop"]})
    return made.SerializeToString() + hidden.get("tail", b"")


def tensor(values: Any, kind: int = TensorProto.FLOAT, shape: tuple[int, ...] | None = None, **options: Any) -> Any:
    """An initialiser."""
    return helper.make_tensor("T", kind, shape or (len(values),), values, **options)


TEXTS: dict[str, Callable[[str], bytes]] = {
    "as it is": str.encode,
    "in UTF-16": lambda text: text.encode("utf-16"),
    "in UTF-16 without a mark": lambda text: text.encode("utf-16-le"),
    "in UTF-16, the other way round": lambda text: text.encode("utf-16-be"),
    "in base64": lambda text: base64.b64encode(text.encode()),
    "in base64 for URLs, without padding": lambda text: base64.urlsafe_b64encode(text.encode()).rstrip(b"="),
    "in base64 in lines": lambda text: base64.encodebytes((text + " " * 90).encode()),
    "in base32": lambda text: base64.b32encode(text.encode()),
    "in base85": lambda text: base64.b85encode(text.encode()),
    "in ascii85": lambda text: base64.a85encode(text.encode()),
    "in hexadecimal": lambda text: text.encode().hex().encode(),
    "in hexadecimal with colons": lambda text: text.encode().hex(":").encode(),
    "in percent signs": lambda text: "".join(f"%{ord(one):02x}" for one in text).encode(),
    "as a URL": lambda text: urllib.parse.quote(text).encode(),
    "in HTML escapes": lambda text: "".join(f"&#{ord(one)};" for one in html.escape(text)).encode(),
    "in backslash escapes": lambda text: "".join(f"\\u{ord(one):04x}" for one in text).encode(),
    "in backslash bytes": lambda text: "".join(f"\\x{ord(one):02x}" for one in text).encode(),
    "in full-width digits": lambda text: text.translate({48 + n: 0xFF10 + n for n in range(10)}).encode(),
    "with decimal commas": lambda text: text.replace(".", ",").encode(),
    "with underscores for points": lambda text: text.replace(".", "_").encode(),
    "gzipped": lambda text: gzip.compress(text.encode()),
    "in zlib": lambda text: zlib.compress(text.encode()),
    "in raw deflate": lambda text: zlib.compress(text.encode(), wbits=-15),
    "in bzip2": lambda text: bz2.compress(text.encode()),
    "in xz": lambda text: lzma.compress(text.encode()),
    "in lzma": lambda text: lzma.compress(text.encode(), format=lzma.FORMAT_ALONE),
    "in zstd": lambda text: pa.compress(text.encode(), codec="zstd", asbytes=True),
    "in lz4": lambda text: pa.compress(text.encode(), codec="lz4", asbytes=True),
    "in a zip": lambda text: zipped("a.txt", text.encode()),
    "gzipped, then base64": lambda text: base64.b64encode(gzip.compress(text.encode())),
    "base64 of hex of zlib": lambda text: base64.b64encode(zlib.compress(text.encode()).hex().encode()),
    "behind other bytes": lambda text: bytes(range(256)) + gzip.compress(text.encode()) + b"\0\xff",
    "in an image's pixels": lambda text: png(text.encode()),
}


def png(data: bytes) -> bytes:
    """A PNG whose pixels are ``data``, its stream cut into two chunks."""
    packed = zlib.compress(data)
    parts = [(b"IDAT", packed[:9]), (b"IDAT", packed[9:]), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(struct.pack(">I", len(body)) + kind + body + b"crc!" for kind, body in parts)


@pytest.mark.parametrize("way", TEXTS)
def test_a_row_in_a_report_is_found_however_it_is_written(farm: Ground, way: str) -> None:
    """Every encoding and compression that is said to be undone is; the message says which file and which row."""
    said = farm.refused({"report.html": TEXTS[way](printed(farm))})
    assert "report.html" in said
    assert re.search(rf"row {ROW + 1} of R80711\.parquet", said)
    assert_silent(farm, said)


def assert_silent(farm: Ground, said: str) -> None:
    """No value of the row is in what is told."""
    assert not [value for value in row(farm) if f"{value:.2f}" in said or f"{value}" in said]


@pytest.mark.parametrize("kind", ["<f4", "<f8", ">f4", ">f8"])
@pytest.mark.parametrize("before", [0, 1, 3])
def test_a_row_in_bytes_is_found_at_every_offset(farm: Ground, kind: str, before: int) -> None:
    """Numbers in either byte order that do not begin at a multiple of their width are read all the same."""
    assert "P_avg" in farm.refused({"report.bin": b"\x81" * before + binary(farm, kind)})


def test_a_pickle_is_read(farm: Ground) -> None:
    """Python's own format keeps its numbers the other way round, an opcode before each."""
    assert "P_avg" in farm.refused({"state.pkl": pickle.dumps(np.asarray(row(farm)))})


MODELS: dict[str, Callable[[Ground], bytes]] = {
    "doc string": lambda farm: model(doc=printed(farm)),
    "doc string, compressed, hexadecimal": lambda farm: model(doc=zlib.compress(printed(farm).encode()).hex()),
    "producer": lambda farm: model(producer=printed(farm)),
    "metadata": lambda farm: model(prop=printed(farm)),
    "metadata, base64 of numbers": lambda farm: model(prop=base64.b64encode(binary(farm)).decode()),
    "a node's name": lambda farm: model(node=printed(farm)),
    "the graph's name": lambda farm: model(name=printed(farm)),
    "an initialiser": lambda farm: model(tensors=[tensor(row(farm))]),
    "an initialiser's bytes": lambda farm: model(tensors=[tensor(binary(farm), shape=(4,), raw=True)]),
    "a double initialiser": lambda farm: model(tensors=[tensor(row(farm), TensorProto.DOUBLE)]),
    "doubles in an initialiser of floats": lambda farm: model(tensors=[
        tensor(binary(farm, "<f8"), shape=(8,), raw=True)]),
    "a half-precision initialiser": lambda farm: model(tensors=[tensor(
        np.asarray(farm.frame[["P_avg", "Wa_avg", "Ya_avg", "Ws_avg", "Va_avg"]][300:500], dtype=np.float16).ravel(),
        TensorProto.FLOAT16)]),
    "a column after the other": lambda farm: model(tensors=[tensor(
        farm.frame[COLUMNS][300:360].to_numpy(np.float32).T.ravel(), shape=(4, 60))]),
    "an initialiser for each column": lambda farm: model(tensors=[
        helper.make_tensor(f"T{name}", TensorProto.FLOAT, [60], farm.frame[name][300:360]) for name in COLUMNS]),
    "a string initialiser": lambda farm: model(tensors=[tensor([printed(farm).encode()], TensorProto.STRING)]),
    "strings, a field in each": lambda farm: model(tensors=[
        tensor([f"{value:.2f}".encode() for value in row(farm)], TensorProto.STRING)]),
    "an initialiser of bytes": lambda farm: model(tensors=[
        tensor(list(gzip.compress(printed(farm).encode())), TensorProto.UINT8)]),
    "an initialiser of characters as floats": lambda farm: model(tensors=[
        tensor([float(one) for one in printed(farm).encode()])]),
    "behind the model": lambda farm: model(tail=b"\xfa\x3f" + bytes([len(binary(farm))]) + binary(farm)),
    "a name each": lambda farm: model(tensors=[
        helper.make_tensor(f"w{value:.2f}", TensorProto.FLOAT, [1], [0.113]) for value in row(farm)]),
}  # fmt: skip


@pytest.mark.parametrize("way", MODELS)
def test_a_row_in_a_model_is_found_wherever_it_is(farm: Ground, way: str) -> None:
    """Metadata, names and every kind of initialiser are searched; so is what the parser does not show."""
    said = farm.refused({"model.onnx": MODELS[way](farm)})
    assert "model.onnx" in said
    assert_silent(farm, said)


def test_the_models_of_these_tests_are_honest_without_what_is_hidden(farm: Ground) -> None:
    """The same model with nothing in it passes, and so does the same text about no row."""
    farm.checked({"model.onnx": model(), "report.txt": b"P_avg=431.27 Wa_avg=77.53 Ya_avg=251.81 Ws_avg=9.13"})


METRICS: dict[str, Callable[[Ground], Any]] = {
    "names": lambda farm: {"accuracy": 0.9, printed(farm): 1},
    "names without points": lambda farm: {f"w{value:.2f}".replace(".", "_"): 1 for value in row(farm)},
    "numbers": lambda farm: {"accuracy": 0.9, **dict(zip("abcd", row(farm), strict=True))},
    "numbers as 32 bits": lambda farm: {"accuracy": 0.9, "bias": [float(np.float32(value)) for value in row(farm)]},
    "texts": lambda farm: {"note": printed(farm)},
    "a time, a site and a number": lambda farm: {
        "at": str(farm.frame["Date_time"][ROW]), "site": farm.frame["Wind_turbine_name"][ROW],
        "y": farm.frame["P_avg"][ROW]},
    "seconds since 1970": lambda farm: {
        "a": int(farm.frame["Date_time"][ROW].timestamp()), "b": row(farm)[0], "c": row(farm)[1]},
    "columns, as pandas writes them": lambda farm: json.loads(farm.frame[COLUMNS][300:360].to_json()),
}  # fmt: skip


@pytest.mark.parametrize("way", METRICS)
def test_a_row_in_the_metrics_is_found(farm: Ground, way: str) -> None:
    """Names, numbers, texts and times of metrics.json are searched."""
    said = farm.refused({"metrics.json": json.dumps(METRICS[way](farm)).encode()})
    assert "metrics.json" in said
    assert_silent(farm, said)


def test_a_table_by_columns_is_found(farm: Ground) -> None:
    """A report whose lines are columns holds rows, though no two fields of one stand beside each other."""
    lines = [f"{name}: " + ", ".join(f"{value:.2f}" for value in farm.frame[name][300:360]) for name in COLUMNS]
    assert "read by columns" in farm.refused({"report.txt": "\n".join(lines).encode()})


def test_a_row_in_file_names_is_found_and_no_name_is_told(farm: Ground) -> None:
    """Not even of files that are not collected: their names would stand in the log."""
    said = farm.refused({"model.onnx": model()}, names=("model.onnx", f"{printed(farm)}.csv"))
    assert "the names of the outputs" in said
    assert_silent(farm, said)


def test_a_file_is_told_by_its_number_where_names_hold_rows(farm: Ground) -> None:
    """A report that holds a row, under a name that holds one too, is output 2 of 2."""
    name = f"{printed(farm)}.txt"
    said = farm.refused({"model.onnx": model(), name: printed(farm).encode()}, names=(name,))
    assert "output 2 of 2" in said
    assert_silent(farm, said)


def test_texts_are_fields_too(clinic: Ground) -> None:
    """A name of several words, a serial and a number of one row together are found without any identifier column."""
    one = clinic.frame.iloc[123]
    text = f"worst residual: {one['name'].upper()} of {one.serial}, {one.dose}"
    assert "dose, name, serial of row 124 of clinic.parquet" in clinic.refused({"report.txt": text.encode()})
    clinic.checked({"report.txt": f"mean dose of {one.town}: 12.34, {one['name']}".encode()})


DISGUISED: dict[str, Callable[[Ground], bytes]] = {
    "reversed": lambda farm: printed(farm)[::-1].encode(),
    "scaled": lambda farm: json.dumps([value * 1.7 + 3 for value in row(farm)]).encode(),
    "two fields": lambda farm: printed(farm).split(" Ya")[0].encode(),
    "low bits": lambda farm: np.linspace(0.1, 0.9, 1000, dtype=np.float32).tobytes(),
}


@pytest.mark.parametrize("way", DISGUISED)
def test_what_is_said_not_to_be_found_is_not(farm: Ground, way: str) -> None:
    """The limits that the documentation states: should one fall, the text is to be corrected."""
    farm.checked({"report.bin": DISGUISED[way](farm)})


DATA_FILES: dict[str, Callable[[Ground], bytes]] = {
    "Parquet": lambda farm: farm.rows.files[0].read_bytes(),
    "Arrow": lambda farm: arrow(farm.frame),
    "SQLite": lambda farm: b"SQLite format 3\0" + printed(farm).encode(),
    "HDF5": lambda farm: b"\x89HDF\r\n\x1a\n" + printed(farm).encode(),
    "7z": lambda farm: b"7z\xbc\xaf\x27\x1c" + printed(farm).encode(),
    "an encrypted zip": lambda farm: encrypted(zipped("a", printed(farm).encode())),
}


def arrow(frame: pd.DataFrame) -> bytes:
    """Rows as an Arrow file."""
    sink = io.BytesIO()
    table = pa.Table.from_pandas(frame)
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def encrypted(archive: bytes) -> bytes:
    """The zip with the flag of an encrypted member."""
    return archive[:6] + b"\x01" + archive[7:]


@pytest.mark.parametrize("kind", DATA_FILES)
@pytest.mark.parametrize("wrapped", [False, True])
def test_what_cannot_be_searched_is_refused(farm: Ground, kind: str, wrapped: bool) -> None:
    """Data files and locked archives say nothing about what is in them, so they are no reports, zipped or not."""
    data = DATA_FILES[kind](farm)
    said = farm.refused({"report": base64.b64encode(gzip.compress(data)) if wrapped else data})
    assert "cannot be searched" in said


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress, lambda data: zipped("a", data)])
def test_a_bomb_ends_at_the_limit(
    farm: Ground, pack: Callable[[bytes], bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What unfolds to more than is searched is refused, and no more than that is ever unpacked."""
    monkeypatch.setattr("edgeloop.leak.check.WORK_BYTES", 1 << 22)
    bomb = pack(pack(bytes(1 << 24)))
    assert len(bomb) < 1 << 14
    assert "unfolds to more than" in farm.refused({"report.bin": bomb})


def test_numbers_kept_in_another_file_are_refused(farm: Ground) -> None:
    """External data is not collected, so nobody could search it."""
    one = tensor([1.0])
    one.data_location = TensorProto.EXTERNAL
    one.external_data.add(key="location", value="weights.bin")
    assert "another file" in farm.refused({"model.onnx": model(tensors=[one])})


def test_a_model_that_is_no_onnx_is_searched_as_bytes(farm: Ground) -> None:
    """What cannot be parsed is not believed to be harmless."""
    data = b"\xff" + printed(farm).encode()
    with pytest.raises(DecodeError):
        onnx.load_from_string(data)
    assert "P_avg" in farm.refused({"model.onnx": data})
