"""Which of a job's outputs may leave the VM: regular files of an allow-list, within their sizes, nothing else."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from edgeloop.errors import TrainingFailedError
from edgeloop.records import canonical_json

MIB = 1024 * 1024
MODEL, METRICS = "model.onnx", "metrics.json"
ALLOWED = {MODEL: 512 * MIB, METRICS: MIB}
"""What is collected, and how many bytes each may have."""
MENTIONED = 10
KINDS = {"d": "folder", "l": "link", "p": "pipe", "s": "socket", "b": "device", "c": "device"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """Something in the outputs: ``kind`` is find's letter (``f`` a regular file), ``size`` in bytes."""

    path: str
    kind: str
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What is collected, and what stays on the VM, each with the reason."""

    files: tuple[Entry, ...]
    left: tuple[str, ...]


def parse_listing(raw: bytes) -> tuple[Entry, ...]:
    """Read the NUL-separated ``type size path`` of :func:`edgeloop.training.commands.listing`."""
    entries = []
    for one in raw.decode(errors="replace").split("\0"):
        if one:
            kind, size, path = one.split(" ", 2)
            entries.append(Entry(path=path, kind=kind, size=int(size)))
    return tuple(sorted(entries, key=lambda entry: entry.path))


def choose(entries: tuple[Entry, ...]) -> Choice:
    """Sort a listing into what may be collected and what stays.

    Raises:
        TrainingFailedError: A file that is needed is missing, no regular file, empty or too big.
    """
    by_path = {one.path: one for one in entries}
    wrong = [why for name in ALLOWED if (why := _unfit(name, by_path.get(name)))]
    if wrong:
        raise TrainingFailedError(
            "The training ended well, but its outputs will not do: " + "; ".join(wrong) + ".",
            left="the container and its folder on the VM, nothing was taken from there",
            next="Let train.py write model.onnx and metrics.json as plain files to $EDGELOOP_OUTPUTS, then clear it.",
        )
    others = [one for one in entries if one.path not in ALLOWED]
    left = [f"{one.path!r} ({_describe(one)}, not in the allow-list)" for one in others[:MENTIONED]]
    if len(others) > MENTIONED:
        left.append(f"{len(others) - MENTIONED} more")
    return Choice(files=tuple(by_path[name] for name in ALLOWED), left=tuple(left))


def _describe(entry: Entry) -> str:
    return f"{entry.size} bytes" if entry.kind == "f" else KINDS.get(entry.kind, "no regular file")


def _unfit(name: str, entry: Entry | None) -> str:
    if entry is None:
        return f"{name} is missing"
    if entry.kind != "f":
        return f"{name} is a {KINDS.get(entry.kind, 'special file')}, not a regular file"
    if entry.size == 0:
        return f"{name} is empty"
    if entry.size > ALLOWED[name]:
        return f"{name} has {entry.size} bytes, {ALLOWED[name]} are allowed"
    return ""


def canonical_metrics(raw: bytes) -> str:
    """metrics.json as canonical JSON; raises ``TrainingFailedError`` if it is no JSON object of finite numbers."""
    try:
        metrics: Any = json.loads(raw)
        if not isinstance(metrics, dict):
            raise TypeError("it is no object")  # noqa: TRY301 - one place says what is wrong with the file
        return canonical_json(metrics).decode()
    except (ValueError, TypeError) as error:
        raise TrainingFailedError(
            f"The training wrote a metrics.json that cannot be used: {error}.",
            left="the container and its folder on the VM",
            next="Let train.py write a JSON object of finite numbers; changed code trains anew.",
        ) from error
