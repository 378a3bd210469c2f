"""Ingest: certify a batch, prove that its blobs arrived, tell which intervals of labels it completes."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from edgeloop.drift.certified import newest_certificates, parts_of
from edgeloop.drift.labels import complete_intervals, intervals_between, missing_sites
from edgeloop.errors import ConfigurationError, IntegrityError, NotFoundError, ValidationBlockedError
from edgeloop.share import Emissions, Right
from edgeloop.training.waiting import Waiting
from edgeloop.transfer import Terms, verify
from edgeloop.validation import Certification, SupersededError, batch_of, certificate_of
from edgeloop_airflow import hooks
from edgeloop_airflow.assets import dag_id
from edgeloop_airflow.discreet import discreet
from edgeloop_airflow.emission import fate_of, holder, listens
from edgeloop_airflow.links import DataDocsLink, blob_url
from edgeloop_airflow.origin import origin, send
from edgeloop_airflow.sources import source_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow.sdk import Context

LABELS = "labels"


def partition_key(context: Context) -> str:
    """The run's partition key; raises ``ConfigurationError`` if it has none."""
    key: str | None = getattr(context["dag_run"], "partition_key", None)
    if not key:
        raise ConfigurationError(
            "This run has no partition key, so there is no batch to work on.",
            left="nothing was started",
            next="Trigger the DAG with a partition key as intake minted it: <group>@<batch id, 16 digits>.",
        )
    return key


class BatchBlockedError(ValidationBlockedError, AirflowFailException):
    """A blocked batch fails its task at once: a retry finds the same rows, and on-call is called minutes later."""


class CertifyBatchOperator(BaseOperator):
    """Validates the batch that the partition key names; returns the certificate's id, found or new.

    Args:
        pipeline: The pipeline's name.
        force: A reason to validate again, under today's configuration rather than the one the batch was claimed under.

    Skipped when every file changed since the claim: the next intake claims them anew. The task links to the batch's
    Data Docs, which are there for a blocked batch too.
    """

    template_fields: Sequence[str] = ("force",)
    operator_extra_links = (DataDocsLink(),)

    def __init__(self, *, pipeline: str, force: str = "", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.pipeline = pipeline
        self.force = force
        self.docs_url = ""

    @discreet
    def execute(self, context: Context) -> str:
        """Certify; raises ``ValidationBlockedError`` or ``UnreachableError``."""
        key = partition_key(context)
        today = hooks.desk(self.pipeline)
        batch = batch_of(today.store, key)
        desk = today if self.force else today.at(batch.config)
        if self.force:
            desk.snapshot.save(desk.blobs)
        certification = Certification(
            batch,
            desk.snapshot,
            source_of(desk.snapshot.spec.source),
            desk.blobs,
            rerun=f"airflow dags clear {context['ti'].dag_id} --partition-key '{key}' --only-failed -y",
            force=self.force,
            origin=origin(context).kind,
            log=self.log.info,
        )
        try:
            certificate = certification.certify()
        except SupersededError as error:
            raise AirflowSkipException(str(error)) from error
        except ValidationBlockedError as error:
            raise BatchBlockedError(error.what, left=error.left, next=error.next) from error
        finally:
            if certification.docs:
                self.docs_url = blob_url(desk.blobs, certification.docs)
                self.log.info("Data Docs: %s", self.docs_url)
        self.log.info(
            "Certificate %s of batch %s: %d files, %d rows, %d quarantined, %d files set aside",
            certificate.id, key, len(certificate.files), certificate.rows, certificate.quarantined,
            len(certificate.set_aside),
        )  # fmt: skip
        for warning in certificate.warnings:
            self.log.warning("%s", warning)
        return certificate.id


class VerifyTransferOperator(BaseOperator):
    """Reads every certified blob back and compares it with the certificate, then mints the dataset's partition.

    Args:
        pipeline: The pipeline's name.
        force: A reason to read every blob whole, whatever the pipeline says of sampling.
    """

    template_fields: Sequence[str] = ("force",)

    def __init__(self, *, pipeline: str, force: str = "", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.pipeline = pipeline
        self.force = force

    @discreet
    def execute(self, context: Context) -> str:
        """Verify all, report all; raises ``IntegrityError`` naming every blob that is gone or not what it was."""
        key = partition_key(context)
        desk = hooks.desk(self.pipeline)
        certificate = certificate_of(desk.store, batch_of(desk.store, key))
        # As the batch was sent, and not as the pipeline reads by now; force asks for more than either says.
        terms = Terms.of(desk.at(certificate.config).snapshot.spec.transfer, self.pipeline)
        if self.force:
            terms = replace(terms, sampled=False)
        wrong = []
        for file in certificate.files:
            try:
                proof = verify(desk.blobs, file, terms)
            except (IntegrityError, NotFoundError) as error:
                wrong.append(error.what)
            else:
                self.log.info("Verified (%s): %s, %d bytes, sha256 %s", proof.how, file.path, file.size, file.sha256)
        if wrong:
            raise IntegrityError(
                f"{len(wrong)} of {len(certificate.files)} blobs of batch {key} are not what was certified:\n"
                + "\n".join(f"  {one}" for one in wrong),
                left="the blobs as they are and the certificate; no dataset was announced",
                next='Trigger this DAG with the same partition key and the configuration {"force": "<why>"}: '
                "the batch is validated and sent again.",
            )
        train = dag_id(self.pipeline, "train")
        if origin(context).live and not listens(context, train):
            Waiting(desk.store).note(key)
            self.log.info("%s is paused, and Airflow drops what it is told: the key waits until a sweep asks", train)
        send(context, self.outlets, [key])
        return certificate.id


class AnnounceLabelsOperator(BaseOperator):
    """Mints the intervals of event time that the batch completes: those in which every site now has certified rows.

    Returns their keys. An interval is announced once for the certificates it is made of; skipped with what is missing.

    Args:
        pipeline: The pipeline's name.
        force: A reason to announce complete intervals again although they were announced on the same certificates.
    """

    template_fields: Sequence[str] = ("force",)

    def __init__(self, *, pipeline: str, force: str = "", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.pipeline = pipeline
        self.force = force

    @discreet
    def execute(self, context: Context) -> list[str]:
        """Find the complete intervals and take the right to announce them."""
        desk = hooks.desk(self.pipeline)
        spec = desk.snapshot.spec
        certificate = certificate_of(desk.store, batch_of(desk.store, partition_key(context)))
        touched = sorted(
            {
                key
                for part in parts_of(certificate)
                for key in intervals_between(part.start, part.end, spec.drift.interval)
            }
        )
        sites = [site.name for site in spec.sites]
        parts = [part for one in newest_certificates(desk.store) for part in parts_of(one)]
        complete = {one.key: one for one in complete_intervals(parts, sites, spec.drift.interval)}
        announced, reasons = [], []
        rights = Emissions(desk.store, LABELS)
        for key in touched:
            if key not in complete:
                reasons.append(f"{key} lacks {', '.join(missing_sites(parts, sites, key))}")
                continue
            mark = f"{key}-{complete[key].watermark[:16]}"
            if rights.ask(mark, holder(context), fate_of(context)) is Right.MINE:
                announced.append(key)
            elif self.force:
                self.log.info("%s is announced again: %s", key, self.force)
                announced.append(key)
            else:
                reasons.append(f"{key} was announced on the same certificates")
        if not announced:
            raise AirflowSkipException(f"No interval to announce: {'; '.join(reasons) or 'the batch has no rows'}.")
        self.log.info("Labels complete: %s%s", ", ".join(announced), f" ({'; '.join(reasons)})" if reasons else "")
        send(context, self.outlets, announced)
        return announced
