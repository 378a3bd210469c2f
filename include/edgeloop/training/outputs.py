"""Which of a job's outputs may leave the VM: regular files of an allow-list, within their sizes, nothing else."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from edgeloop.errors import TrainingFailedError
from edgeloop.records import canonical_json

MIB = 1024 * 1024
MODEL, METRICS = "model.onnx", "metrics.json"
ALLOWED = {MODEL: 512 * MIB, METRICS: MIB}
"""What is always collected, and how many bytes each may have."""
REPORTS, REPORTS_BYTES = 64, 256 * MIB
"""How many reports are collected, and how large they may be together (or one alone, if that may be larger)."""
LISTING_BYTES = 1 << 20
"""How much of a listing is read: ten thousand names or so."""
DEPTH = 4
"""How deep a report may lie; what is deeper is not even listed."""
LONGEST_PATH = 200
PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
"""A part of a report's path: nothing that a shell, a URL, a log or a person could take for something else."""
MORE = "and more, which is not listed"
MENTIONED = 10
KINDS = {"d": "folder", "l": "link", "p": "pipe", "s": "socket", "b": "device", "c": "device"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowance:
    """The reports that are collected beside model and metrics: glob patterns, and the most bytes of one."""

    reports: tuple[str, ...] = ()
    each: int = 16 * MIB

    def wants(self, path: str) -> bool:
        """Whether a path is a report by its name; a ``*`` does not lead into folders."""
        parts = path.split("/")
        return any(
            len(parts) == len(wanted) and all(map(fnmatchcase, parts, wanted))
            for wanted in (pattern.split("/") for pattern in self.reports)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """Something in the outputs: ``kind`` is find's letter (``f`` a regular file), ``size`` in bytes."""

    path: str
    kind: str
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What is collected, and what stays on the VM, each with the reason; ``names`` are those of all that is there."""

    files: tuple[Entry, ...]
    left: tuple[str, ...]
    names: tuple[str, ...] = ()


def parse_listing(raw: bytes) -> tuple[Entry, ...]:
    """Read the NUL-separated ``type size path`` of :func:`edgeloop.training.commands.listing`.

    A last record without its NUL was cut off; something that stands for the rest takes its place. Bytes that are no
    UTF-8 are kept as escapes.
    """
    entries = [Entry(path=MORE, kind="?", size=0)] if len(raw) >= LISTING_BYTES else []
    for one in raw.decode(errors="backslashreplace").split("\0")[:-1]:
        kind, size, path = one.split(" ", 2)
        entries.append(Entry(path=path, kind=kind, size=int(size)))
    return tuple(sorted({one.path: one for one in entries}.values(), key=lambda entry: entry.path))


def choose(entries: tuple[Entry, ...], allowance: Allowance | None = None) -> Choice:
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
    reports, left = _sort(tuple(one for one in entries if one.path not in ALLOWED), allowance or Allowance())
    if len(left) > MENTIONED:
        left = [*left[:MENTIONED], f"{len(left) - MENTIONED} more"]
    files = (*(by_path[name] for name in ALLOWED), *reports)
    return Choice(files=files, left=tuple(left), names=tuple(by_path))


def _sort(others: tuple[Entry, ...], allowance: Allowance) -> tuple[list[Entry], list[str]]:
    """The reports, and what stays with its reason; a folder that reports lie in is neither."""
    reports: list[Entry] = []
    left: list[str] = []
    total = 0
    for one in others:
        why = _why_left(one, allowance)
        if not why and (len(reports) >= REPORTS or total + one.size > max(REPORTS_BYTES, allowance.each)):
            why = f"the reports before it are already {len(reports)} files of {total} bytes"
        if why:
            left.append(f"{one.path!r} ({_describe(one)}, {why})")
        else:
            reports.append(one)
            total += one.size
    folders = {parent for one in reports for parent in _parents(one.path)}
    kept = {repr(one.path) for one in others if one.kind == "d" and one.path in folders}
    return reports, [one for one in left if one.partition(" (")[0] not in kept]


def _parents(path: str) -> list[str]:
    parts = path.split("/")
    return ["/".join(parts[:count]) for count in range(1, len(parts))]


def _why_left(entry: Entry, allowance: Allowance) -> str:
    if not allowance.wants(entry.path):
        return "not in the allow-list"
    parts = entry.path.split("/")
    if len(entry.path) > LONGEST_PATH or not all(PLAIN.fullmatch(part) for part in parts):
        return f"its name has more than {LONGEST_PATH} characters, or others than letters, digits, '_', '.' and '-'"
    if entry.kind != "f":
        return "not a regular file"
    return f"{allowance.each} bytes are allowed" if entry.size > allowance.each else ""


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


def blob_name(run_id: str, path: str) -> str:
    """Where an output is stored in the pipeline's container; reports have a folder of their own."""
    return f"training/{run_id}/{path}" if path in ALLOWED else f"training/{run_id}/reports/{path}"


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
