"""From a Batch to a Certificate: every file read, judged, turned into Parquet, sent and read back.

Blobs in the pipeline's container, none of them ever overwritten:

    data/<batch id>/<file>.parquet        the rows that passed
    quarantine/<batch id>/<file>.jsonl    one JSON line for every row that did not: its number in the file (the header
                                          is line 1), the expectation, the column and its value, the line's text
    set_aside/<batch id>/<file>           a whole file that could not be validated, as it came
    docs/<batch id>/<suite>-<sha>.html    the batch's Data Docs, whether it was certified or blocked

The certificate is written last, so it proves all of it; a try that died finds its blobs and goes on. Of a batch one
file at a time is judged, a chunk of it in memory; the disk holds copies and what was made of them until the end.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from edgeloop.catalog import SUITE, Snapshot
from edgeloop.errors import ConflictError, EdgeloopError, ValidationBlockedError
from edgeloop.records import Batch, Certificate, FileRef, canonical_json, sha256_hex
from edgeloop.residency_guard import require_private
from edgeloop.store import Store
from edgeloop.transfer import Courier, Terms, Transferred, file_digest, seal
from edgeloop.validation import docs, kept, times
from edgeloop.validation.blocked import blocked
from edgeloop.validation.expect import Expectations
from edgeloop.validation.judge import Judge, Judged, Limits
from edgeloop.validation.library import library
from edgeloop.validation.rows import Meaning
from edgeloop.validation.suite import Suite, load
from edgeloop.validation.table import BadFileError, CsvFile, Shape

if TYPE_CHECKING:
    from collections.abc import Callable

    from edgeloop.azure.blob import BlobContainer
    from edgeloop.share.source import FileSource
    from edgeloop.validation.kept import Kept

MIB = 1024 * 1024
CHANGED = "changed since the claim; the next intake claims it anew"
GONE = "gone from the share since the claim"


class SupersededError(EdgeloopError):
    """Every file of a batch changed since its claim: the next intake claims them anew, nobody need do anything."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SetAside:
    """A file the batch goes on without; ``copy`` is its bytes as they came, None if they are not those claimed."""

    path: str
    reason: str
    copy: Path | None


class Certification:
    """One batch's way to its certificate.

    Args:
        batch: What was claimed.
        snapshot: The configuration to validate under: the batch's own, or today's where it is forced.
        folder: Where the files are.
        blobs: The pipeline's container.
        rerun: The command that runs this batch again; told when it is blocked.
        force: A reason to validate again whatever is known; makes a certificate of its own.
        origin: Why this is done: ``live``, ``rerun`` or ``backfill``; written into the certificate.
        log: Takes sentences with counts and names, never values.
    """

    def __init__(
        self,
        batch: Batch,
        snapshot: Snapshot,
        folder: FileSource,
        blobs: BlobContainer,
        *,
        rerun: str = "",
        force: str = "",
        origin: str = "live",
        log: Callable[[str], None] = lambda _: None,
    ) -> None:
        require_private(snapshot.spec, blobs)
        self.batch, self.snapshot, self.folder, self.blobs = batch, snapshot, folder, blobs
        self.store, self.rerun, self.log = Store(blobs), rerun, log
        self.courier = Courier(blobs, Terms.of(snapshot.spec.transfer, snapshot.spec.name), log=log)
        self.sent: list[Transferred] = []
        self.kept: list[Kept] = []
        self.origin = origin
        self.suite: Suite = load(snapshot.text(SUITE))
        self.library = library()
        # What judged: another suite, another version of what runs it, or somebody's reason make another certificate.
        self.suite_id = sha256_hex(canonical_json([self.suite.digest, self.library, force]))
        self.docs = ""
        """Where this batch's Data Docs are, once they are published: a blob in the container."""
        columns = snapshot.spec.columns
        self.meaning = Meaning(
            time=columns.time,
            site=columns.site,
            zone=columns.timezone,
            sites=tuple(one.name for one in snapshot.spec.sites),
        )
        validation = snapshot.spec.validation
        self.limits = Limits(chunk_rows=validation.chunk_rows, memory_bytes=validation.memory_mb * MIB)

    def certify(self) -> Certificate:
        """The batch's certificate: the one there is, or a new one.

        Raises:
            ValidationBlockedError: A blocking expectation or a budget is broken, or nothing is left to certify. The
                quarantine is written, no certificate.
            SupersededError: Every file changed since the claim.
            UnreachableError: The share or the account did not answer.
        """
        known = self.store.find(Certificate, self._record().id)
        if known is not None:
            self.log(f"found: certificate {known.id[:16]} of batch {self.batch.key}, {known.rows} rows")
            self.docs = known.docs
            # Written again: the try that made it may have died before its edge, by which others find it.
            return self.store.put(known)
        # A share that is not mounted must not look like one whose files are gone.
        self.folder.check()
        with tempfile.TemporaryDirectory(prefix="edgeloop-certify-") as scratch:
            copies, aside = self._fetch_all(Path(scratch))
            if self._lost == [CHANGED] * len(self.batch.files):
                raise SupersededError(f"Every file of batch {self.batch.key} changed since it was claimed.")
            judged = self._judge_all(copies, aside)
            return self._conclude(judged, aside, Path(scratch))

    def _record(self, **found: Any) -> Certificate:
        return Certificate(
            pipeline=self.batch.pipeline,
            origin=self.origin,
            batch=self.batch.id,
            suite=self.suite_id,
            group=self.batch.group,
            config=self.snapshot.digest,
            library=self.library,
            claimed_at=self.batch.claimed_at,
            **found,
        )

    @cached_property
    def _expectations(self) -> Expectations:
        """Great Expectations, imported once for all files, and not before there is one to judge."""
        return Expectations(self.suite)

    def _fetch_all(self, scratch: Path) -> tuple[dict[str, Path], list[SetAside]]:
        """Copies of the files, by their path; those that cannot be had are kept from earlier or set aside."""
        copies: dict[str, Path] = {}
        aside: list[SetAside] = []
        self._lost: list[str] = []
        for number, file in enumerate(self.batch.files):
            copy = scratch / str(number) / "file.csv"
            copy.parent.mkdir()
            if not (lost := self._fetch(file, copy)):
                copies[file.path] = copy
                continue
            self._lost.append(lost)
            if not self._keep(file, lost, scratch):
                aside.append(SetAside(path=file.path, reason=lost, copy=None))
        return copies, aside

    def _judge_all(self, copies: dict[str, Path], aside: list[SetAside]) -> list[Judged]:
        judged: list[Judged] = []
        judge = Judge(lambda: self._expectations, self.meaning, self.limits)
        for earlier in self.kept:
            judge.taken.repeated(earlier.instants, earlier.sites)
        for path, copy in copies.items():
            try:
                judged.append(self._judge(path, copy, judge))
            except BadFileError as error:
                aside.append(SetAside(path=path, reason=error.what, copy=copy))
            else:
                copy.unlink()
        aside.sort(key=lambda one: one.path)
        for one in aside:
            self.log(f"set aside: {one.path}: {one.reason}")
        return judged

    def _judge(self, path: str, copy: Path, judge: Judge) -> Judged:
        columns = self.snapshot.spec.columns
        needed = self.suite.columns or (columns.time, columns.site, columns.target)
        shape = Shape(columns=needed, exact=self.suite.exact, final_newline=self.snapshot.spec.source.final_newline)
        one = judge.process(path, CsvFile(copy, shape))
        self.log(
            f"judged: {path}: {one.rows} rows, {one.kept} kept, {one.quarantined} quarantined, "
            f"{len(one.verdict.breaches)} breaches, {len(one.verdict.warnings)} warnings"
        )
        return one

    def _fetch(self, file: FileRef, copy: Path) -> str:
        """Copy a claimed file; returns why it cannot be had, or "". Only its digest counts, not its time."""
        seen = self.folder.look(file.path)
        if seen is None:
            return GONE
        return "" if self.folder.digest(seen, copy) == file.sha256 else CHANGED

    def _keep(self, file: FileRef, lost: str, scratch: Path) -> bool:
        """Let the rows stand that an earlier batch certified of the same bytes; False if none did."""
        found = kept.find(self.store, self.batch, file)
        if found is None:
            return False
        self.kept.append(kept.read(self.blobs, file.path, found, scratch, self.meaning))
        self.log(f"kept: {file.path}: {lost}; its rows are those certified with batch {found[0][:16]}")
        return True

    def _conclude(self, judged: list[Judged], aside: list[SetAside], scratch: Path) -> Certificate:
        for file in aside:
            if file.copy is not None:
                self._send(f"set_aside/{self.batch.id}/{file.path}", file.copy)
        for one in judged:
            if one.quarantine is not None:
                self._send(f"quarantine/{self.batch.id}/{_stem(one.path)}.jsonl", one.quarantine)
        breaches = [sentence for one in judged for sentence in one.verdict.breaches]
        reasons = [f"{file.path}: {file.reason}" for file in aside]
        reasons += [f"{one.path}: every row was quarantined" for one in judged if not one.kept]
        stopped = bool(breaches) or not (self.kept or any(one.kept for one in judged))
        self._publish(judged, reasons, scratch, stopped=stopped)
        if stopped:
            raise self._blocked(judged, breaches, reasons)
        return self.store.put(self._certificate(judged, reasons))

    def _certificate(self, judged: list[Judged], reasons: list[str]) -> Certificate:
        good = [one for one in judged if one.data is not None]
        files = [self._send(f"data/{self.batch.id}/{_stem(one.path)}.parquet", one.data) for one in good if one.data]
        seal(self.blobs, f"{self.batch.id}/{self._record().id[:16]}", self.sent)
        spans = [*(one.span for one in good), *(one.span for one in self.kept)]
        counted = [*(one.coverage for one in good), *(one.coverage for one in self.kept)]
        return self._record(
            files=(*files, *(one.file for one in self.kept)),
            etags=tuple(one.etag for one in self.sent if one.file in files),
            set_aside=tuple(reasons),
            rows=sum(one.kept for one in good) + sum(one.rows for one in self.kept),
            quarantined=sum(one.quarantined for one in judged),
            quarantine=f"quarantine/{self.batch.id}/" if any(one.quarantined for one in judged) else "",
            docs=self.docs,
            warnings=tuple(sentence for one in judged for sentence in one.verdict.warnings)
            + tuple(one.sentence for one in self.kept),
            event_start=times.iso(min(start for start, _ in spans)),
            event_end=times.iso(max(end for _, end in spans) + 1),
            coverage=tuple(times.lines(counted)),
            certified_at=datetime.now(UTC).isoformat(timespec="milliseconds"),
        )

    def _publish(self, judged: list[Judged], reasons: list[str], scratch: Path, *, stopped: bool) -> None:
        """Named by what it says: the page of a blocked try changes nothing in the certificate of the next one."""
        if not self.snapshot.spec.validation.docs:
            return
        about = docs.Page(
            pipeline=self.batch.pipeline,
            batch=self.batch.key,
            suite=f"{self.suite.name}, sha256 {self.suite.digest}",
            library=self.library,
            ended="blocked" if stopped else "certified",
        )
        path = scratch / "docs.html"
        said = self._expectations.sentences() if judged else ()
        path.write_text(docs.page(about, judged, reasons, said), encoding="utf-8")
        name = f"docs/{self.batch.id}/{self.suite_id[:16]}-{file_digest(path)[1][:12]}.html"
        self.docs = self._send(name, path).path

    def _blocked(self, judged: list[Judged], breaches: list[str], reasons: list[str]) -> ValidationBlockedError:
        prefix = f"quarantine/{self.batch.id}/" if any(one.quarantined for one in judged) else ""
        return blocked(
            batch=self.batch.key,
            files=len(self.batch.files),
            breaches=tuple(breaches),
            set_aside=tuple(reasons),
            quarantined=sum(one.quarantined for one in judged),
            quarantine=self._place(prefix),
            docs=self._place(self.docs),
            rerun=self.rerun,
        )

    def _place(self, name: str) -> str:
        return f"{self.blobs.name}/{name} (connection {self.blobs.account.connection})" if name else ""

    def _send(self, name: str, path: Path) -> FileRef:
        try:
            sent = self.courier.upload(name, path)
        except ConflictError:
            # An earlier try under another suite or library left other bytes there, which nothing may overwrite.
            whole, sha256 = PurePosixPath(name), file_digest(path)[1]
            sent = self.courier.upload(str(whole.with_name(f"{whole.stem}-{sha256[:12]}{whole.suffix}")), path)
        self.sent.append(sent)
        file, how = sent.file, f"{'found' if sent.found else 'sent'} and read back ({sent.proof})"
        self.log(f"{how}: {file.path}, {file.size} bytes, sha256 {file.sha256[:16]}")
        return file


def _stem(path: str) -> str:
    return str(PurePosixPath(path).with_suffix(""))
