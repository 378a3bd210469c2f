"""From a Batch to a Certificate: every file read, judged, turned into Parquet, sent and read back.

Blobs in the pipeline's container, none of them ever overwritten:

    data/<batch id>/<file>.parquet        the rows that passed
    quarantine/<batch id>/<file>.jsonl    one JSON line for every row that did not: its number in the file (the header
                                          is line 1), the expectation, the column, the line's text
    set_aside/<batch id>/<file>           a whole file that could not be validated, as it came

The certificate is written last, so it proves all of it; a try that died finds its blobs and goes on.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from edgeloop.catalog import SUITE, Snapshot
from edgeloop.errors import ConflictError, EdgeloopError, ValidationBlockedError
from edgeloop.records import Batch, Certificate, FileRef, canonical_json, sha256_hex
from edgeloop.residency_guard import require_private
from edgeloop.store import Store
from edgeloop.transfer import Courier, Terms, Transferred, seal
from edgeloop.validation import kept, parquet, times
from edgeloop.validation.blocked import blocked
from edgeloop.validation.expect import Expectations
from edgeloop.validation.rows import Judged, Meaning, judge_rows
from edgeloop.validation.suite import Suite, load
from edgeloop.validation.table import BadFileError, Shape, Table, read
from edgeloop.validation.verdict import judge

if TYPE_CHECKING:
    from collections.abc import Callable

    import pandas as pd

    from edgeloop.azure.blob import BlobContainer
    from edgeloop.share.source import FileSource
    from edgeloop.validation.kept import Kept

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
        self.origin = origin
        self.suite: Suite = load(snapshot.text(SUITE))
        self.kept: list[Kept] = []
        self.suite_id = sha256_hex(canonical_json([self.suite.digest, force])) if force else self.suite.digest
        columns = snapshot.spec.columns
        self.meaning = Meaning(
            time=columns.time,
            site=columns.site,
            zone=columns.timezone,
            sites=tuple(one.name for one in snapshot.spec.sites),
        )

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
            # Written again: the try that made it may have died before its edge, by which others find it.
            return self.store.put(known)
        # A share that is not mounted must not look like one whose files are gone.
        self.folder.check()
        with tempfile.TemporaryDirectory(prefix="edgeloop-certify-") as scratch:
            tables, aside = self._read_all(Path(scratch))
            if self._lost == [CHANGED] * len(self.batch.files):
                raise SupersededError(f"Every file of batch {self.batch.key} changed since it was claimed.")
            judged = self._judge_all(tables)
            return self._conclude(judged, aside, Path(scratch))

    def _record(self, **found: Any) -> Certificate:
        return Certificate(
            pipeline=self.batch.pipeline,
            origin=self.origin,
            batch=self.batch.id,
            suite=self.suite_id,
            group=self.batch.group,
            config=self.snapshot.digest,
            claimed_at=self.batch.claimed_at,
            **found,
        )

    def _read_all(self, scratch: Path) -> tuple[dict[str, Table], list[SetAside]]:
        columns = self.snapshot.spec.columns
        needed = self.suite.columns or (columns.time, columns.site, columns.target)
        shape = Shape(columns=needed, exact=self.suite.exact, final_newline=self.snapshot.spec.source.final_newline)
        tables: dict[str, Table] = {}
        aside: list[SetAside] = []
        self._lost: list[str] = []
        for number, file in enumerate(self.batch.files):
            copy = scratch / f"{number}.csv"
            if lost := self._fetch(file, copy):
                self._lost.append(lost)
                if not self._keep(file, lost, scratch):
                    aside.append(SetAside(path=file.path, reason=lost, copy=None))
                continue
            try:
                tables[file.path] = read(copy.read_bytes(), shape)
            except BadFileError as error:
                aside.append(SetAside(path=file.path, reason=error.what, copy=copy))
        for one in aside:
            self.log(f"set aside: {one.path}: {one.reason}")
        return tables, aside

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
        self.kept.append(kept.read(self.blobs, file.path, found, scratch, (self.meaning.time, self.meaning.site)))
        self.log(f"kept: {file.path}: {lost}; its rows are those certified with batch {found[0][:16]}")
        return True

    def _judge_all(self, tables: dict[str, Table]) -> list[Judged]:
        if not tables:
            return []
        expectations = Expectations(self.suite)
        taken = {pair for one in self.kept for pair in one.pairs}
        judged = []
        for path, table in tables.items():
            verdict = judge(path, expectations.run(table.frame))
            one = judge_rows(path, table, verdict, self.meaning, taken)
            self.log(
                f"judged: {path}: {len(table.lines) + len(table.ragged)} rows, {len(one.kept)} kept, "
                f"{len(one.quarantine)} quarantined, {len(verdict.breaches)} breaches, {len(verdict.warnings)} warnings"
            )
            judged.append(one)
        return judged

    def _conclude(self, judged: list[Judged], aside: list[SetAside], scratch: Path) -> Certificate:
        for file in aside:
            if file.copy is not None:
                self._send(f"set_aside/{self.batch.id}/{file.path}", file.copy)
        for one in judged:
            self._quarantine(one, scratch)
        good = [one for one in judged if len(one.kept)]
        breaches = [sentence for one in judged for sentence in one.verdict.breaches]
        reasons = [f"{file.path}: {file.reason}" for file in aside]
        reasons += [f"{one.path}: every row was quarantined" for one in judged if not len(one.kept)]
        if breaches or not (good or self.kept):
            raise self._blocked(judged, breaches, reasons)
        files = tuple(self._data(one, scratch) for one in good) + tuple(one.file for one in self.kept)
        starts = [one.kept[self.meaning.time].min() for one in good] + [one.start for one in self.kept]
        ends = [one.kept[self.meaning.time].max() for one in good] + [one.end for one in self.kept]
        seal(self.blobs, f"{self.batch.id}/{self._record().id[:16]}", self.sent)
        return self.store.put(
            self._record(
                files=files,
                set_aside=tuple(reasons),
                rows=sum(len(one.kept) for one in good) + sum(one.rows for one in self.kept),
                quarantined=sum(len(one.quarantine) for one in judged),
                quarantine=self._quarantine_prefix(judged),
                warnings=tuple(sentence for one in judged for sentence in one.verdict.warnings)
                + tuple(one.sentence for one in self.kept),
                event_start=_iso(min(starts)),
                event_end=_iso(max(ends) + timedelta(microseconds=1)),
                coverage=tuple(_coverage(good, self.kept, self.meaning)),
                certified_at=datetime.now(UTC).isoformat(timespec="milliseconds"),
            )
        )

    def _quarantine_prefix(self, judged: list[Judged]) -> str:
        return f"quarantine/{self.batch.id}/" if any(one.quarantine for one in judged) else ""

    def _blocked(self, judged: list[Judged], breaches: list[str], reasons: list[str]) -> ValidationBlockedError:
        prefix = self._quarantine_prefix(judged)
        return blocked(
            batch=self.batch.key,
            files=len(self.batch.files),
            breaches=tuple(breaches),
            set_aside=tuple(reasons),
            quarantined=sum(len(one.quarantine) for one in judged),
            quarantine=f"{self.blobs.name}/{prefix} (connection {self.blobs.account.connection})" if prefix else "",
            rerun=self.rerun,
        )

    def _quarantine(self, one: Judged, scratch: Path) -> None:
        if one.quarantine:
            path = scratch / "quarantine.jsonl"
            path.write_text("\n".join(one.quarantine) + "\n", encoding="utf-8")
            self._send(f"quarantine/{self.batch.id}/{_stem(one.path)}.jsonl", path)

    def _data(self, one: Judged, scratch: Path) -> FileRef:
        path = scratch / "data.parquet"
        parquet.write(one.kept, path, time=self.meaning.time, site=self.meaning.site)
        return self._send(f"data/{self.batch.id}/{_stem(one.path)}.parquet", path)

    def _send(self, name: str, path: Path) -> FileRef:
        try:
            sent = self.courier.upload(name, path)
        except ConflictError:
            # An earlier try under another suite or library left other bytes there, which nothing may overwrite.
            digest = sha256_hex(path.read_bytes())[:12]
            whole = PurePosixPath(name)
            sent = self.courier.upload(str(whole.with_name(f"{whole.stem}-{digest}{whole.suffix}")), path)
        file = sent.file
        self.sent.append(sent)
        how = f"{'found' if sent.found else 'sent'} and read back ({sent.proof})"
        self.log(f"{how}: {file.path}, {file.size} bytes, sha256 {file.sha256[:16]}")
        return file


def _stem(path: str) -> str:
    return str(PurePosixPath(path).with_suffix(""))


def _iso(instant: pd.Timestamp) -> str:
    return str(instant.isoformat())


def _coverage(judged: list[Judged], earlier: list[Kept], meaning: Meaning) -> list[str]:
    total: dict[tuple[str, str], int] = {}
    counted = [times.coverage(one.kept[meaning.time], one.kept[meaning.site]) for one in judged]
    for one in [*counted, *(before.coverage for before in earlier)]:
        for pair, rows in one.items():
            total[pair] = total.get(pair, 0) + rows
    return [f"{day} {site} {rows}" for (day, site), rows in sorted(total.items())]
