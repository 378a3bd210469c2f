"""The direct way: the VM fetches the blobs itself, from addresses that open one blob each, for reading, for minutes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from edgeloop.azure import sas
from edgeloop.azure.problems import QUERY
from edgeloop.errors import ConfigurationError, EdgeloopError, IntegrityError, UnreachableError
from edgeloop.training import stage_commands
from edgeloop.training.staging_worker import batches, split
from edgeloop.training.staging_yard import LOOK_SECONDS, Answer, bring_large, full, no_space, whole_seconds

if TYPE_CHECKING:
    from collections.abc import Iterable

    from edgeloop.azure.blob import BlobContainer
    from edgeloop.ssh.shell import Completed
    from edgeloop.training.bundle import Member
    from edgeloop.training.cache import Survey
    from edgeloop.training.staging_yard import Yard

TRIES = 3
GOOD_HTTP = {"200", "206"}
NETWORK = {6, 7, 28, 35, 52, 56}
"""curl's exit codes for a peer that is not reached or hangs up."""
CANNOT_WRITE = 23
CURL_SAYS = {
    6: "the VM cannot resolve its name",
    7: "the VM cannot connect to it",
    28: "it does not answer the VM in time",
    35: "TLS fails between it and the VM",
    52: "it hangs up on the VM",
    56: "the connection broke",
    60: "the VM does not trust its certificate (name the CA's file in the connection's extra.connection_verify)",
}
HTTP_SAYS = {
    "403": "it refuses the signed address (does the clock of the worker agree with the account's?)",
    "404": "there is no such blob",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Why the VM cannot fetch by itself, "" if it can.

    ``network`` if trying again may help, ``spoiled`` if it could and the bytes are others.
    """

    why: str = ""
    network: bool = False
    spoiled: bool = False


def config(addresses: Iterable[tuple[str, str]]) -> bytes:
    """A configuration of curl's for addresses and the files they go to; "" leaves the file to the command line."""
    lines = []
    for url, name in addresses:
        lines.append(f'url = "{url}"\n')
        if name:
            lines.append(f'output = "{name}"\n')
    return "".join(lines).encode()


def judged(http: str, curl: int) -> Verdict:
    """What a fetch says of the way; ``http`` is the answer's code, ``curl`` curl's exit code."""
    if http in GOOD_HTTP and not curl:
        return Verdict()
    if http in HTTP_SAYS:
        return Verdict(why=HTTP_SAYS[http])
    if http and http != "000" and not curl:
        return Verdict(why=f"it answers {http}", network=http.startswith("5"))
    return Verdict(why=CURL_SAYS.get(curl, f"curl ends with {curl} there"), network=curl in NETWORK)


class Direct:
    """Lets the VM fetch members of one staging."""

    def __init__(self, yard: Yard, source: BlobContainer) -> None:
        self._yard = yard
        self._signer = sas.signer(source, now=datetime.now(UTC))
        self._ca = source.account.ca_file

    def examine(self, one: Member, survey: Survey) -> Verdict:
        """Whether the VM can fetch ``one``, by asking for its first byte from there."""
        if "curl" not in survey.tools:
            return Verdict(why="the VM has no curl")
        if self._signer.refusal:
            return Verdict(why=self._signer.refusal)
        yard, answer = self._yard, Answer()
        if self._ca:
            yard.shell.run(stage_commands.trust(yard.job), stdin=Path(self._ca).read_bytes(), timeout=LOOK_SECONDS)
        text = stage_commands.probe(yard.job, self._ca)
        yard.shell.run(text, stdin=self._config([one], named=False), sink=answer, timeout=LOOK_SECONDS)
        return judged(answer.http.get("", ""), answer.curl)

    def bring(self, members: Iterable[Member]) -> tuple[list[Member], Verdict]:
        """Have them all fetched; returns what could not be, and why."""
        small, large = split(members)
        left: list[Member] = []
        verdict = Verdict()
        for group in batches(small):
            rest, said = self._small(group)
            if rest:
                # Once more with fresh addresses: these may have ended while the account was slow.
                rest, said = self._small(rest)
            left, verdict = [*left, *rest], said if rest else verdict
        for one in large:
            answer, done = bring_large(self._yard, one, self._attempt, tries=TRIES)
            if not answer.here:
                left.append(one)
                verdict = self._said(answer, done, [one])
        return left, verdict

    def _small(self, group: Iterable[Member]) -> tuple[tuple[Member, ...], Verdict]:
        yard, answer, group = self._yard, Answer(), tuple(group)
        text, seconds = stage_commands.fetch_small(yard.job, self._ca), whole_seconds(sum(one.size for one in group))
        done = yard.shell.run(text, stdin=self._config(group), sink=answer, timeout=seconds)
        answer.curl = done.exit
        for one in group:
            if answer.digests.get(one.sha256) == "good":
                yard.meter.add(one.size)
        rest = tuple(one for one in group if answer.digests.get(one.sha256) != "good")
        return rest, self._said(answer, done, rest)

    def _attempt(self, one: Member, answer: Answer) -> Completed:
        yard, counted = self._yard, [0]

        def reached(size: int) -> None:
            if not counted[0] and answer.start > 0:
                counted[0] = answer.start
                yard.meter.add(answer.start, resumed=True)
            yard.meter.add(max(size - counted[0], 0))
            counted[0] = max(size, counted[0])

        answer.on_size = reached
        text = stage_commands.fetch_large(yard.job, one.sha256, one.size, self._ca)
        done = yard.shell.run(
            text, stdin=self._config([one], named=False), sink=answer, timeout=whole_seconds(one.size)
        )
        if answer.here:
            reached(one.size)
        return done

    def _said(self, answer: Answer, done: Completed, lacking: Iterable[Member]) -> Verdict:
        if no_space(done.err) or answer.curl == CANNOT_WRITE:
            raise full(self._yard.shell.endpoint, "its disk ran full while data arrived")
        for one in lacking:
            if answer.word == "bad" or answer.digests.get(one.sha256) == "bad":
                return Verdict(why=f"blob {one.blob} has other bytes than its record says", spoiled=True)
            code = answer.http.get(one.sha256) or answer.http.get("", "")
            if (found := judged(code, answer.curl)).why:
                last = QUERY.sub("?...", done.err.strip().rpartition("\n")[2])
                return Verdict(why=f"{found.why} (blob {one.blob}: {last or 'no word'})", network=found.network)
        return Verdict(why="no word of why", network=True)

    def _config(self, members: Iterable[Member], *, named: bool = True) -> bytes:
        now = datetime.now(UTC)
        return config((self._signer.address(one.blob, now=now), one.sha256 if named else "") for one in members)


def insisted(yard: Yard, verdict: Verdict) -> EdgeloopError:
    """The error for a pipeline that allows this way only."""
    if verdict.spoiled:
        return IntegrityError(
            f"What {yard.host} fetched is not what was certified: {verdict.why}.",
            left="the blob as it is; nothing was started, and nothing of that file was kept",
            next="Restore the blob from a backup, or rerun the task that writes it.",
        )
    kind = UnreachableError if verdict.network else ConfigurationError
    return kind(
        f"training.staging is direct, but {yard.host} cannot fetch from the storage account: {verdict.why}.",
        left="nothing was started; what has arrived is used by the next try",
        next="Open the way from the VM to the account's blob endpoint, or set training.staging to auto or worker, "
        "which send the data through the worker.",
    )
