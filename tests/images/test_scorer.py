"""The scorer over real HTTP: what it answers, what it refuses, what it never loses."""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import socket
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime as ort
import pytest
from scorer_process import SCORER, launch, make_model  # the conftest.py beside it puts it on the path

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from scorer_process import Scorer


def body(rows: Any, **extra: Any) -> dict[str, Any]:
    """A valid request of so many rows, with fields of X replaced."""
    x = np.asarray(rows, dtype=np.float32)
    return {"inputs": [{"name": "X", "datatype": "FP32", "shape": list(x.shape), "data": x.ravel().tolist()} | extra]}


def timed(rows: Any, times: list[Any]) -> dict[str, Any]:
    """A valid request with event times."""
    request = body(rows)
    request["inputs"].append({"name": "event_time", "datatype": "BYTES", "shape": [len(times)], "data": times})
    return request


def test_answers_are_those_of_onnxruntime_byte_for_byte(scorer: Scorer) -> None:
    """The text of every float gives back the very float32 that onnxruntime computes in process."""
    x = (np.random.default_rng(0).standard_normal((500, 3)) * 1000).astype(np.float32)
    status, answer = scorer.infer(body(x) | {"id": "abc"})
    want = ort.InferenceSession(scorer.onnx).run(None, {"X": x})[0]
    output = answer["outputs"][0]
    assert (status, answer["id"], answer["model_name"], answer["model_version"]) == (200, "abc", "small", "7")
    assert (output["name"], output["datatype"], output["shape"]) == ("Y", "FP32", [500, 1])
    assert np.asarray(output["data"], dtype=np.float32).tobytes() == want.tobytes()
    shortest = [np.format_float_positional(v, unique=True, trim="0") for v in want.ravel()]
    assert [float(a) for a in shortest] == output["data"]


def test_nested_data_is_the_same_as_flat(scorer: Scorer) -> None:
    """The protocol allows rows as lists."""
    flat, nested = body([[1, 2, 3], [4, 5, 6]]), body([[1, 2, 3], [4, 5, 6]], data=[[1, 2, 3], [4, 5, 6]])
    assert scorer.infer(flat) == scorer.infer(nested)


def test_health_and_metadata_name_the_model(scorer: Scorer) -> None:
    """Every address of the protocol answers, with and without the version."""
    for path in ("/v2", "/v2/health/live", "/v2/health/ready", "/v2/models/small", "/v2/models/small/versions/7"):
        assert scorer.ask("GET", path)[0] == 200, path
    assert json.loads(scorer.ask("GET", "/v2/models/small/ready")[1]) == {"name": "small", "ready": True}
    assert json.loads(scorer.ask("GET", "/v2/models/small/versions/7/ready")[1])["ready"] is True
    card = json.loads(scorer.ask("GET", "/v2/models/small")[1])
    assert card["versions"] == ["7"]
    assert card["inputs"][0] == {"name": "X", "datatype": "FP32", "shape": [-1, 3]}
    assert scorer.ask("POST", "/v2/models/small/versions/7/infer", json.dumps(body([[1, 2, 3]])).encode())[0] == 200


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v2/models/other", 404),
        ("POST", "/v2/models/other/infer", 404),
        ("POST", "/v2/models/small/versions/6/infer", 404),
        ("GET", "/v2/models/small/versions/6/ready", 404),
        ("GET", "/", 404),
        ("GET", "/v2/health", 404),
        ("GET", "/v2/models/small/infer", 405),
        ("DELETE", "/v2/models/small", 405),
    ],
)
def test_other_addresses_are_refused(scorer: Scorer, method: str, path: str, status: int) -> None:
    """An unknown model, version, address or method gets its status and an error in words."""
    found, content = scorer.ask(method, path, b"{}" if method == "POST" else b"")
    assert (found, set(json.loads(content))) == (status, {"error"})


BAD: dict[str, Any] = {
    "a list": [],
    "no inputs": {},
    "no X": {"inputs": [{"name": "event_time", "datatype": "BYTES", "shape": [0], "data": []}]},
    "unknown input": {"inputs": [{"name": "Z", "datatype": "FP32", "shape": [1, 3], "data": [1, 2, 3]}]},
    "X twice": {"inputs": body([[1, 2, 3]])["inputs"] * 2},
    "too few columns": body([[1, 2]]),
    "no rows": body([[1, 2, 3]], shape=[0, 3], data=[]),
    "a vector": body([1.0, 2.0, 3.0]),
    "shape of others": body([[1, 2, 3]], shape=[2, 3]),
    "shape of text": body([[1, 2, 3]], shape=["1", 3]),
    "shape of truth": body([[1, 2, 3]], shape=[True, 3]),
    "shape beyond memory": body([[1, 2, 3]], shape=[2**62, 3]),
    "ragged": body([[1, 2, 3], [4, 5, 6]], data=[[1, 2, 3], [4, 5]]),
    "text for a number": body([[1, 2, 3]], data=[1, "2", 3]),
    "truth for a number": body([[1, 2, 3]], data=[1, True, 3]),
    "null": body([[1, 2, 3]], data=[1, None, 3]),
    "beyond float32": body([[1, 2, 3]], data=[1, 1e39, 3]),
    "doubles": body([[1, 2, 3]], datatype="FP64"),
    "data is an object": body([[1, 2, 3]], data={"a": 1}),
    "id is a number": body([[1, 2, 3]]) | {"id": 3},
    "another output": body([[1, 2, 3]]) | {"outputs": [{"name": "Z"}]},
    "times of others": timed([[1, 2, 3]], ["2014-01-01T00:00:00Z"] * 2),
    "time without zone": timed([[1, 2, 3]], ["2014-01-01T00:00:00"]),
    "time in words": timed([[1, 2, 3]], ["yesterday"]),
    "time as number": timed([[1, 2, 3]], [5]),
    "time before time": timed([[1, 2, 3]], ["0001-01-01T00:00:00+14:00"]),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_no_request_is_refused_in_words_and_not_logged(scorer: Scorer, case: str) -> None:
    """400 with a text; the next request is answered; nothing of the bad one is in the log."""
    status, answer = scorer.infer(BAD[case])
    assert status == 400
    assert answer["error"]
    assert scorer.infer(body([[1, 2, 3]]))[0] == 200
    assert len(scorer.logged()) == 1


def test_raw_bytes_never_end_it(scorer: Scorer) -> None:
    """Random bodies, truncated and mutated requests are refused or answered; the process lives through all of them."""
    rng = random.Random(1)
    good = json.dumps(timed([[1, 2, 3]], ["2014-01-01T00:00:00Z"])).encode()
    for turn in range(400):
        wrong = bytearray(good)
        for _ in range(rng.randint(1, 6)):
            wrong[rng.randrange(len(wrong))] = rng.randrange(256)
        content = [bytes(wrong), good[: rng.randrange(len(good))], rng.randbytes(50)][turn % 3]
        status, answer = scorer.ask("POST", "/v2/models/small/infer", content)
        assert status in (200, 400), content
        assert isinstance(json.loads(answer), dict)
    for nonsense in (b"\x00" * 100, b"GET\r\n\r\n", b"POST /v2 HTTP/1.1\r\nContent-Length: -5\r\n\r\n", b"["):
        with socket.create_connection(("127.0.0.1", scorer.port), 5) as connection:
            connection.sendall(nonsense)
    deep = b"[" * 100_000
    assert scorer.ask("POST", "/v2/models/small/infer", deep)[0] == 400
    assert scorer.infer(body([[1, 2, 3]]))[0] == 200
    assert scorer.process.poll() is None


def test_a_body_beyond_the_limit_is_refused(start: Callable[..., Scorer]) -> None:
    """413, told by the header or counted on the way; smaller bodies go on."""
    scorer = start(EDGELOOP_MAX_BODY="2000")
    assert scorer.ask("POST", "/v2/models/small/infer", b" " * 3000)[0] == 413
    with socket.create_connection(("127.0.0.1", scorer.port), 5) as connection:
        head = b"POST /v2/models/small/infer HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
        connection.sendall(head + b"bb8\r\n" + b" " * 3000 + b"\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 413")
    assert scorer.infer(body([[1, 2, 3]]))[0] == 200


def test_each_row_is_logged_by_the_month_of_its_event_time(scorer: Scorer) -> None:
    """Rows go to their UTC month, those without a time to `undated`, each with the answer that was given."""
    _, answer = scorer.infer(timed([[1, 2, 3], [4, 5, 6]], ["2014-10-31T23:50:00Z", "2014-11-01T00:30:00+01:00"]))
    _, other = scorer.infer(timed([[7, 8, 9]], ["2014-11-01T00:00:00.500Z"]))
    scorer.infer(body([[1, 1, 1]]))
    folders = {path.name for path in (scorer.share / "predictions").iterdir()}
    assert folders == {"2014-10", "2014-11", "undated"}
    lines = {line["event_time"]: line for line in scorer.logged()}
    assert set(lines) == {"2014-10-31T23:50:00Z", "2014-10-31T23:30:00Z", "2014-11-01T00:00:00.500000Z", None}
    assert lines["2014-10-31T23:50:00Z"]["y"] == answer["outputs"][0]["data"][0]
    assert lines["2014-11-01T00:00:00.500000Z"]["y"] == other["outputs"][0]["data"][0]
    card = json.loads((scorer.share.parent / "model" / "model.json").read_text())
    first = lines[None]
    assert (first["site"], first["model"], first["version"]) == ("R80711", "small", "7")
    assert first["sha256"] == card["sha256"]


def test_a_killed_scorer_has_logged_all_that_it_answered(start: Callable[..., Scorer]) -> None:
    """Killed with -9 under load: every answered row is in the log as a whole line, and a restart adds its own file."""
    scorer, answered = start(), [0] * 4

    def load(worker: int) -> None:
        while True:
            minute = f"2014-10-01T{worker:02}:00:00Z"
            try:
                status, _ = scorer.infer(timed([[1, 2, answered[worker]]], [minute]))
            except OSError:
                return
            except ValueError:
                return
            assert status == 200
            answered[worker] += 1

    threads = [threading.Thread(target=load, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    while sum(answered) < 400 and scorer.process.poll() is None:
        threads[0].join(0.01)
    scorer.stop(signal.SIGKILL)
    for thread in threads:
        thread.join()
    logged = [line["event_time"] for line in scorer.logged()]
    for worker, count in enumerate(answered):
        assert count <= logged.count(f"2014-10-01T{worker:02}:00:00Z") <= count + 1
    again = start()
    again.infer(body([[1, 2, 3]]))
    assert len(scorer.logged()) == len(logged) + 1
    assert len({path.name.rsplit("-", 1)[0] for path in (scorer.share / "predictions").rglob("*.jsonl")}) == 2


def test_sigterm_ends_it_at_once_and_answers_what_is_under_way(scorer: Scorer) -> None:
    """A request whose body is still coming when SIGTERM arrives is answered before the process ends."""
    content = json.dumps(body([[1, 2, 3]])).encode()
    head = f"POST /v2/models/small/infer HTTP/1.1\r\nHost: a\r\nContent-Length: {len(content)}\r\n\r\n".encode()
    with socket.create_connection(("127.0.0.1", scorer.port), 10) as connection:
        connection.sendall(head + content[:10])
        # The answer to a second connection shows that the first one's bytes were read.
        assert scorer.ask("GET", "/v2/health/live")[0] == 200
        scorer.process.send_signal(signal.SIGTERM)
        connection.sendall(content[10:])
        assert connection.recv(100).startswith(b"HTTP/1.1 200")
    assert scorer.process.wait(10) in (0, -signal.SIGTERM)
    assert len(scorer.logged()) == 1


def test_a_share_that_takes_nothing_makes_it_unready_and_answers_503(
    start: Callable[..., Scorer], tmp_path: Path
) -> None:
    """Without its log it gives no answer that nobody could judge; when the share is back it goes on."""
    scorer = start()
    (scorer.share / "predictions").rmdir()
    (scorer.share / "predictions").write_text("a file where the folder must be")
    assert scorer.infer(body([[1, 2, 3]]))[0] == 503
    assert scorer.ask("GET", "/v2/health/ready")[0] == 503
    assert scorer.ask("GET", "/v2/health/live")[0] == 200
    (scorer.share / "predictions").unlink()
    assert scorer.infer(body([[1, 2, 3]]))[0] == 200
    assert scorer.ask("GET", "/v2/health/ready")[0] == 200


def test_a_full_disk_leaves_whole_lines_and_no_unlogged_answer(scorer: Scorer) -> None:
    """When the disk takes half a line, the half is cut off again; as many rows are logged as were answered."""
    resource.prlimit(scorer.process.pid, resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
    statuses = [scorer.infer(timed([[1, 2, 3]] * 2, ["2014-10-01T00:00:00Z"] * 2))[0] for _ in range(6)]
    assert set(statuses) == {200, 503}
    resource.prlimit(scorer.process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    statuses.append(scorer.infer(timed([[1, 2, 3]] * 2, ["2014-10-01T00:00:00Z"] * 2))[0])
    assert statuses[-1] == 200
    assert len(scorer.logged()) == 2 * statuses.count(200)


@pytest.mark.parametrize("broken", ["no model", "other bytes", "no card", "no onnx", "wrong features"])
def test_a_broken_model_ends_it_before_it_listens(tmp_path: Path, broken: str) -> None:
    """Exit code 1 and one line that says why; the port never opens."""
    make_model(tmp_path / "m")
    card = json.loads((tmp_path / "m" / "model.json").read_text())
    if broken == "no model":
        (tmp_path / "m" / "model.onnx").unlink()
    elif broken == "other bytes":
        (tmp_path / "m" / "model.onnx").write_bytes(b"other")
    elif broken == "no card":
        (tmp_path / "m" / "model.json").write_text("{")
    elif broken == "no onnx":
        import hashlib

        (tmp_path / "m" / "model.onnx").write_bytes(b"no onnx")
        (tmp_path / "m" / "model.json").write_text(
            json.dumps(card | {"sha256": hashlib.sha256(b"no onnx").hexdigest()})
        )
    else:
        (tmp_path / "m" / "model.json").write_text(json.dumps(card | {"features": ["one"]}))
    process, _ = launch(tmp_path / "m", tmp_path)
    output = process.communicate(timeout=30)[0]
    assert process.returncode == 1
    assert output.startswith("scorer: ")
    assert len(output.strip().splitlines()) == 1


def test_a_long_log_goes_on_in_a_new_file(start: Callable[..., Scorer]) -> None:
    """Files stay small enough to be carried whole; rows are neither lost nor doubled."""
    scorer = start()
    rows = 5000
    for _ in range(6):
        assert scorer.infer(timed([[1, 2, 3]] * rows, ["2014-10-01T00:00:00Z"] * rows))[0] == 200
    files = sorted((scorer.share / "predictions" / "2014-10").iterdir())
    assert len(files) == 2
    assert len(scorer.logged()) == 6 * rows


def test_the_health_check_of_the_image_tells_ready_from_not(scorer: Scorer) -> None:
    """Exit 0 while it is ready, 1 when nothing listens."""
    command = [sys.executable, "-m", "scorer.healthcheck"]
    environment = {**os.environ, "PYTHONPATH": str(SCORER), "PORT": str(scorer.port)}
    assert subprocess.run(command, env=environment, check=False).returncode == 0
    scorer.stop()
    assert subprocess.run(command, env=environment, check=False).returncode == 1
