"""The pipelines of a folder: loading, what is wrong with which, and the last configuration that was right.

A pipeline that does not validate keeps its DAGs from its last valid configuration: one exception in a stage file would
turn every DAG of that file stale, running ones included (tried on 3.3.2), so stage files never see an error from here.
"""

from __future__ import annotations

import contextlib
import os
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from edgeloop.errors import ConfigurationError, ConflictError
from edgeloop.problems import Problem, column_problems, line_in, parse_spec, script_problems, suite_problems
from edgeloop.records import canonical_json, sha256_hex
from edgeloop.residency import ON_PREMISES, clash, private, stricter
from edgeloop.training import requirements

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from edgeloop.pipeline import Pipeline
    from edgeloop.store import Objects

SPEC = "pipeline.yaml"
SUITE = "expectations.json"
SCRIPT = "train.py"
MAX_FILE_BYTES = 1_000_000
MARKED = r"^[^#\n]*\bresidency[\"']?\s*:\s*[\"']?on_premises\b"
"""Also in a text that is no YAML."""
SHIPPED = (".py", ".json", ".yaml", ".txt", ".md", ".toml")


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """A pipeline's folder at one moment: its text files by name, and the model read from them."""

    spec: Pipeline
    files: tuple[tuple[str, str], ...]

    @property
    def digest(self) -> str:
        """The sha256 that a batch pins."""
        return sha256_hex(self.to_json())

    @property
    def code_digest(self) -> str:
        """The sha256 of the Python files: what changes when the training script does."""
        return code_digest(self.files)

    def to_json(self) -> bytes:
        """The snapshot as stored."""
        return canonical_json({"files": [list(one) for one in self.files]})

    def text(self, name: str) -> str:
        """The text of one file; raises ``ConfigurationError`` if the pipeline has none of that name."""
        for known, text in self.files:
            if known == name:
                return text
        raise ConfigurationError(
            f"Pipeline {self.spec.name} has no {name}.", next=f"Add {name} to the pipeline's folder."
        )

    def under(self, today: Pipeline) -> Snapshot:
        """This snapshot under the stricter residency of its own and of the pipeline as it reads ``today``."""
        return replace(self, spec=stricter(self.spec, today))

    def save(self, objects: Objects) -> str:
        """Store the snapshot under its digest, once; returns the digest."""
        with contextlib.suppress(ConflictError):
            objects.put_new(f"configs/{self.digest}.json", self.to_json())
        return self.digest


def code_digest(files: Iterable[Sequence[str]]) -> str:
    """The sha256 of the Python files among some, each a name and a text."""
    return sha256_hex(canonical_json([list(one) for one in files if one[0].endswith(".py")]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalog:
    """What a folder of pipelines holds: those that may run, and everything that is wrong."""

    pipelines: tuple[Snapshot, ...]
    problems: tuple[Problem, ...]

    def find(self, name: str) -> Snapshot:
        """The pipeline ``name``; raises ``ConfigurationError`` if there is none that may run."""
        for one in self.pipelines:
            if one.spec.name == name:
                return one
        if wrong := [str(one) for one in self.problems if Path(one.file).parent.name == name]:
            raise ConfigurationError(
                f"Pipeline {name!r} does not validate, and no valid configuration of it was kept here.",
                next="Correct it: " + "; ".join(wrong),
            )
        known = ", ".join(one.spec.name for one in self.pipelines) or "none"
        raise ConfigurationError(f"There is no pipeline {name!r}.", next=f"Choose one of: {known}.")


def pipelines_folder() -> Path:
    """Where pipelines are looked for: ``EDGELOOP_PIPELINES``, else ``include/pipelines`` of this checkout."""
    return Path(os.environ.get("EDGELOOP_PIPELINES") or Path(__file__).resolve().parents[1] / "pipelines")


def last_valid_folder() -> Path:
    """Where the last valid configuration of each pipeline is kept: ``EDGELOOP_LAST_VALID``, else in AIRFLOW_HOME."""
    home = os.environ.get("AIRFLOW_HOME") or str(Path.home() / "airflow")
    return Path(os.environ.get("EDGELOOP_LAST_VALID") or Path(home) / "edgeloop" / "last_valid")


def load(folder: Path | None = None, last_valid: Path | None = None) -> Catalog:
    """Read every pipeline below ``folder``; never raises for what a user wrote."""
    folder, last_valid = folder or pipelines_folder(), last_valid or last_valid_folder()
    homes, problems = _homes(folder)
    found: list[tuple[Path, Snapshot | None, Snapshot | None]] = []
    for home in homes:
        snapshot, wrong = read(home)
        found.append((home, snapshot, _marked(_recall(last_valid, home.name, snapshot), home)))
        problems += wrong
    good: list[Snapshot] = []
    at_home = [one for _, now, before in found if (one := now or before) is not None and private(one.spec)]
    # Who had a container before keeps it: a newcomer must not take a running pipeline's DAGs away.
    for home, snapshot, before in sorted(found, key=lambda one: not _kept_container(one[1], one[2])):
        clashes = _clashes(snapshot, good, home) + _leaks(snapshot, at_home, home) if snapshot else []
        problems += clashes
        if snapshot is not None and not clashes:
            _remember(last_valid, snapshot)
            good.append(snapshot)
        elif before is not None and not _clashes(before, good, home) + _leaks(before, at_home, home):
            good.append(before)
    return Catalog(pipelines=tuple(sorted(good, key=lambda one: one.spec.name)), problems=tuple(problems))


def _kept_container(now: Snapshot | None, before: Snapshot | None) -> bool:
    return before is not None and (now is None or now.spec.storage == before.spec.storage)


def _clashes(snapshot: Snapshot, others: list[Snapshot], home: Path) -> list[Problem]:
    """A container belongs to one pipeline: two in one would share a promotion ledger."""
    mine = snapshot.spec.storage
    return [
        Problem(
            file=str(home / SPEC),
            line=line_in(snapshot.text(SPEC), "storage", "container"),
            field="storage.container",
            remedy=f"{mine.container!r} belongs to pipeline {other.spec.name}; give this one a container of its own",
        )
        for other in others
        if (other.spec.storage.connection, other.spec.storage.container) == (mine.connection, mine.container)
    ]


def _leaks(snapshot: Snapshot, at_home: list[Snapshot], home: Path) -> list[Problem]:
    """What this pipeline would carry away from others that are marked on_premises."""
    found = [one for other in at_home if (one := clash(snapshot.spec, other.spec)) is not None]
    text = snapshot.text(SPEC)
    return [
        Problem(file=str(home / SPEC), line=line_in(text, *one.at), field=one.field, remedy=one.remedy) for one in found
    ]


def _homes(folder: Path) -> tuple[list[Path], list[Problem]]:
    try:
        found = [one for one in folder.iterdir() if one.is_dir() and not one.name.startswith((".", "_"))]
    except OSError as error:
        remedy = f"cannot be listed ({error.strerror}); put pipelines there or set EDGELOOP_PIPELINES to their folder"
        return [], [Problem(file=str(folder), line=0, field="(folder)", remedy=remedy)]
    return sorted(found), []


def read(home: Path) -> tuple[Snapshot | None, list[Problem]]:
    """One pipeline's folder: its snapshot, or None and what is wrong."""
    files, problems = _texts(home)
    texts = dict(files)
    spec_file = str(home / SPEC)
    problems += [
        Problem(file=str(home / name), line=0, field=name, remedy=f"the file is missing; a pipeline needs {name}")
        for name in (SPEC, SUITE, SCRIPT)
        if name not in texts and not any(one.file == str(home / name) for one in problems)
    ]
    if SPEC not in texts:
        return None, problems
    spec, wrong = parse_spec(texts[SPEC], spec_file)
    problems += wrong
    if spec is not None and spec.name != home.name:
        problems.append(
            Problem(
                file=spec_file,
                line=line_in(texts[SPEC], "name"),
                field="name",
                remedy=f"must be the folder's name: 'name: {home.name}'",
            )
        )
    if spec is not None and spec.training.requirements:
        problems += _requirement_problems(texts, spec.training.requirements, home)
    unsuited = suite_problems(texts[SUITE], str(home / SUITE)) if SUITE in texts else []
    problems += unsuited
    if spec is not None:
        problems += script_problems(spec, files, str(home))
        if SUITE in texts and not unsuited:
            problems += column_problems(spec, texts[SPEC], texts[SUITE], spec_file)
    if spec is None or problems:
        return None, problems
    return Snapshot(spec=spec, files=tuple(files)), []


def _requirement_problems(texts: dict[str, str], name: str, home: Path) -> list[Problem]:
    """What keeps training.requirements from being installed exactly as it was resolved."""
    if name not in texts:
        remedy = f"names {name!r}, which is no .txt file beside pipeline.yaml"
        line = line_in(texts[SPEC], "training", "requirements")
        return [Problem(file=str(home / SPEC), line=line, field="training.requirements", remedy=remedy)]
    return [
        Problem(file=str(home / name), line=one.line, field="training.requirements", remedy=one.remedy)
        for one in requirements.read(texts[name])[1]
    ]


def from_json(raw: bytes) -> Snapshot:
    """A stored snapshot back."""
    import json

    files = tuple((name, text) for name, text in json.loads(raw)["files"])
    spec, problems = parse_spec(dict(files)[SPEC], SPEC, pinned=True)
    if spec is None:
        raise ConfigurationError(
            "A stored pipeline snapshot no longer validates: " + "; ".join(map(str, problems)),
            next="It was written by another version of Edgeloop; drop the files again to claim them anew.",
        )
    return Snapshot(spec=spec, files=files)


def _texts(home: Path) -> tuple[list[tuple[str, str]], list[Problem]]:
    files: list[tuple[str, str]] = []
    problems: list[Problem] = []
    try:
        paths = sorted(home.iterdir())
    except OSError as error:
        remedy = f"cannot be listed ({error.strerror}); correct its permissions"
        return [], [Problem(file=str(home), line=0, field="(folder)", remedy=remedy)]
    for path in paths:
        if not path.is_file() or path.suffix not in SHIPPED:
            continue
        try:
            size = path.stat().st_size
            text = path.read_text(encoding="utf-8") if size <= MAX_FILE_BYTES else ""
        except UnicodeDecodeError as error:
            remedy = f"is no UTF-8 text (byte {error.start} is {error.object[error.start]:#04x}); save it as UTF-8"
        except OSError as error:
            remedy = f"cannot be read ({error.strerror}); correct its permissions"
        else:
            remedy = ""
            if size > MAX_FILE_BYTES:
                remedy = f"has {size} bytes, at most {MAX_FILE_BYTES} are shipped with a pipeline; move it away"
        if remedy:
            problems.append(Problem(file=str(path), line=0, field=path.name, remedy=remedy))
        else:
            files.append((path.name, text))
    return files, problems


def _remember(folder: Path, snapshot: Snapshot) -> None:
    """Keep the valid snapshot; a folder that cannot be written costs only the fallback, never a DAG."""
    target = folder / f"{snapshot.spec.name}.json"
    try:
        if target.exists() and target.read_bytes() == snapshot.to_json():
            return
        folder.mkdir(parents=True, exist_ok=True)
        part = target.with_suffix(f".{os.getpid()}.part")
        part.write_bytes(snapshot.to_json())
        part.replace(target)
    except OSError:
        return


def _marked(before: Snapshot | None, home: Path) -> Snapshot | None:
    """What was valid last, kept at home if its file says so by now: a mistake beside the mark must not undo it."""
    if before is None or private(before.spec):
        return before
    try:
        text = (home / SPEC).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return before
    if not re.search(MARKED, text, re.MULTILINE):
        return before
    return replace(before, spec=before.spec.model_copy(update={"residency": ON_PREMISES}))


def _recall(folder: Path, name: str, now: Snapshot | None) -> Snapshot | None:
    """What was valid last; ``now`` itself where nothing has changed, without validating it a second time."""
    try:
        raw = (folder / f"{name}.json").read_bytes()
        return now if now is not None and raw == now.to_json() else from_json(raw)
    except (OSError, ValueError, KeyError, TypeError, ConfigurationError):
        return None
