"""Data on its way to a real VM, from a real blob service: both ways, cut, spoiled, at once, and on a full disk."""

from __future__ import annotations

import os
import pwd
import ssl
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from edgeloop.azure.account import BlobAccount
from edgeloop.azure.sas import Signer
from edgeloop.errors import ConfigurationError, ConflictError, IntegrityError, UnreachableError
from edgeloop.records import FileRef, sha256_hex
from edgeloop.ssh import openssh
from edgeloop.ssh.shell import Shell
from edgeloop.training import cache, stage_commands, staging
from edgeloop.training.bundle import Cargo, Member, member
from edgeloop.training.plan import stored
from edgeloop.transfer import Terms
from lab import describe, faults, tools
from lab.host_commands import inside_command
from lab.hosts import Machine

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.edgeloop.training.conftest import Bench

    from edgeloop.azure.blob import BlobContainer
    from edgeloop.training.job import Job
    from lab.site import Site

pytestmark = [pytest.mark.system]
MIB = 1024 * 1024
FETCHED, SENT = "fetches them from the storage account itself", "went through the worker"


@dataclass
class Ramp:
    """A VM, a container, and what was said while data went from one to the other."""

    bench: Bench
    container: BlobContainer
    said: list[str] = field(default_factory=list)

    def blob(self, name: str, data: bytes) -> Member:
        """A blob, and the member it is."""
        file = FileRef(path=name, size=len(data), sha256=sha256_hex(data))
        self.container.put_stream(name, BytesIO(data), file.size, sha256=file.sha256)
        return stored(self.container, file, f"data/{name.rpartition('/')[2]}", Terms())

    def stage(self, *members: Member, job: Job | None = None, **how: Any) -> Job:
        """Stage them for a job of their own."""
        job = job or self.bench.job()
        cargo = Cargo(members=members, **{"source": self.container, **how})
        with Shell(self.bench.endpoint) as shell:
            staging.stage(shell, job, cargo, self.said.append)
        return job

    def whole(self, job: Job, members: tuple[Member, ...]) -> bool:
        """Whether the job has exactly these files, with their bytes."""
        check = f"cd {job.folder} && sha256sum -c --quiet --strict manifest.sha256 && find data code -type f | wc -l"
        return self.bench.on_vm(check) == str(len(members))

    def cached(self) -> set[str]:
        """What is in the VM's cache, parts included."""
        return set(self.bench.on_vm(f"ls {stage_commands.CACHE}").split())

    def heard(self, words: str) -> bool:
        """Whether a line of the log holds these words."""
        return any(words in line for line in self.said)


@pytest.fixture
def ramp(bench: Bench, container: BlobContainer) -> Iterator[Ramp]:
    """The way to a VM whose cache is empty, before and after."""
    bench.on_vm(f"rm -rf {stage_commands.CACHE} {stage_commands.STAGE}")
    yield Ramp(bench=bench, container=container)
    bench.on_vm(f"rm -rf {stage_commands.CACHE} {stage_commands.STAGE}")


@contextmanager
def on_host(site: Site, first: list[str], last: list[str]) -> Iterator[None]:
    """Run a command as root inside the VM, and another at the end."""
    pid = Machine(describe.layout_of(site), "vm").first_pid()
    assert pid is not None
    subprocess.run(inside_command(pid, first), check=True, capture_output=True)
    try:
        yield
    finally:
        subprocess.run(inside_command(pid, last), check=True, capture_output=True)


@contextmanager
def unreachable_blobs(site: Site) -> Iterator[None]:
    """The VM cannot connect to the blob service."""
    rule = ["OUTPUT", "-p", "tcp", "--dport", site.blob.private.url.split(":")[2].split("/")[0]]
    reject = ["-j", "REJECT", "--reject-with", "tcp-reset"]
    iptables = tools.path("iptables")
    with on_host(site, [iptables, "-A", *rule, *reject], [iptables, "-D", *rule, *reject]):
        yield


def test_a_vm_that_reaches_the_account_fetches_for_itself(ramp: Ramp) -> None:
    """Small and large blobs, odd names, an empty one; what is no blob comes from the worker; the log says the way."""
    sent = (
        member("code/train.py", b"print(1)"),
        ramp.blob("x/ü b%20#?&+.parquet", os.urandom(5000)),
        ramp.blob("x/large", os.urandom(9 * MIB)),
        ramp.blob("x/empty", b""),
    )
    assert ramp.whole(ramp.stage(*sent), sent)
    assert ramp.heard(FETCHED)
    assert not ramp.heard(SENT)
    assert ramp.cached() == {sent[1].sha256, sent[2].sha256}


def test_no_address_is_seen_on_the_vm(ramp: Ramp, monkeypatch: pytest.MonkeyPatch, site: Site) -> None:
    """No signature stands in a command line, an environment, a file of the VM's user, sshd's log or the task's."""
    given: list[str] = []
    address = Signer.address

    def recorded(self: Signer, blob: str, *, now: datetime) -> str:
        given.append(address(self, blob, now=now))
        return given[-1]

    monkeypatch.setattr(Signer, "address", recorded)
    seen, over = set[bytes](), threading.Event()

    def watch() -> None:
        while not over.is_set():
            for folder in Path("/proc").glob("[0-9]*"):
                for name in ("cmdline", "environ"):
                    try:
                        seen.add((folder / name).read_bytes())
                    except OSError:
                        continue

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        ramp.stage(ramp.blob("small", b"1" * 5000), ramp.blob("large", os.urandom(24 * MIB)), way="direct")
    finally:
        over.set()
        watcher.join()
    signatures = {one.partition("sig=")[2].encode() for one in given}
    assert len(signatures) >= 2
    assert any(one.startswith(b"curl\0-q\0") for one in seen), "the watch saw no curl, so it shows nothing"
    assert [one for one in seen if b"sig=" in one and any(mark in one for mark in signatures)] == []
    log = (describe.layout_of(site).home("vm") / "sshd.log").read_bytes()
    assert b"sig=" not in log
    assert not ramp.heard("sig=")
    assert ramp.bench.on_vm("grep -rl 'sig=' ~/edgeloop ~/.* 2>/dev/null | head -3") == ""


def test_a_vm_that_cannot_is_sent_the_data(ramp: Ramp, site: Site) -> None:
    """Auto says why and goes through the worker; direct is an error that names both ends and the way out."""
    sent = (ramp.blob("small", b"1" * 5000), ramp.blob("large", os.urandom(9 * MIB)))
    with unreachable_blobs(site):
        with pytest.raises(UnreachableError, match=r"cannot fetch .*the VM cannot connect") as caught:
            ramp.stage(*sent, way="direct")
        assert "set training.staging to auto or worker" in caught.value.next
        assert ramp.cached() == set()
        assert ramp.whole(ramp.stage(*sent, way="auto"), sent)
    assert ramp.heard("does not fetch from the storage account itself: the VM cannot connect")
    assert ramp.heard(f"2 files {SENT}")


def test_the_worker_way_asks_the_vm_nothing_of_the_account(ramp: Ramp, monkeypatch: pytest.MonkeyPatch) -> None:
    """No address is made at all; both SSH clients bring the same bytes, and the log says which one did."""
    monkeypatch.setattr(Signer, "address", None)
    sent = (ramp.blob("small", b"1" * 5000), ramp.blob("large", os.urandom(9 * MIB)))
    assert ramp.whole(ramp.stage(*sent, way="worker", cache_bytes=0), sent)
    monkeypatch.setattr(openssh, "why_not", lambda _: "a test says so")
    assert ramp.whole(ramp.stage(*sent, way="worker"), sent)
    told = [line for line in ramp.said if SENT in line]
    assert told == [f"2 files {SENT}, over OpenSSH's client", f"2 files {SENT}, over paramiko (a test says so)"]


def test_only_what_the_cache_lacks_is_sent(ramp: Ramp) -> None:
    """A second job of the same data moves nothing; one more file moves alone; rotten bytes are not used."""
    first = (ramp.blob("a", os.urandom(9 * MIB)), ramp.blob("b", b"2" * 5000))
    ramp.stage(*first)
    ramp.stage(*first, way="worker")
    assert ramp.said[-1].endswith("0.0 MiB in 0 files are to come")
    more = (*first, ramp.blob("c", b"3" * 5000))
    rotten = f"{stage_commands.CACHE}/{first[1].sha256}"
    ramp.bench.on_vm(f"rm -f {rotten}; head -c 5000 /dev/zero >{rotten}")
    ramp.said.clear()
    assert ramp.whole(ramp.stage(*more), more)
    assert ramp.said[0].startswith(f"File {first[1].sha256[:16]} in the VM's cache was not what its name says")
    assert ramp.said[1].endswith("0.0 MiB in 2 files are to come")


@pytest.mark.parametrize(("way", "size"), [("auto", 9 * MIB), ("direct", 5000), ("direct", 9 * MIB), ("worker", 5000)])
def test_a_blob_that_changed_is_not_trained_on(ramp: Ramp, way: str, size: int) -> None:
    """Other bytes of the same length are refused, whichever way they come; nothing is kept of them."""
    data = os.urandom(size)
    good = ramp.blob("a", data)
    ramp.container.delete("a")
    other = os.urandom(size)
    ramp.container.put_stream("a", BytesIO(other), size, sha256=sha256_hex(other))
    job = ramp.bench.job()
    with pytest.raises(IntegrityError):
        ramp.stage(good, job=job, way=way)
    assert not ramp.bench.look(job).staged
    assert ramp.cached() <= {f"{good.sha256}.part"}
    ramp.container.delete("a")
    assert ramp.whole(ramp.stage(ramp.blob("a", data), job=job, way=way), (good,))


@pytest.mark.parametrize("client", ["OpenSSH", "paramiko"])
def test_a_cut_costs_only_what_had_not_arrived(
    ramp: Ramp, site: Site, monkeypatch: pytest.MonkeyPatch, client: str
) -> None:
    """A link that is cut in the middle is an error within the idle time; the next try sends the rest and no more."""
    monkeypatch.setattr(stage_commands, "STALL_SECONDS", 1)
    for module in ("edgeloop.ssh.openssh", "edgeloop.ssh.connect"):
        monkeypatch.setattr(f"{module}.IDLE_SECONDS", 3.0)
        monkeypatch.setattr(f"{module}.KEEPALIVE_SECONDS", 1.0)
    if client == "paramiko":
        monkeypatch.setattr(openssh, "why_not", lambda _: "a test says so")
    data, starts = os.urandom(24 * MIB), list[int]()

    def read(start: int) -> Iterator[bytes]:
        starts.append(start)
        for at in range(start, len(data), MIB):
            if len(starts) == 1 and at == 16 * MIB:
                faults.unplug(site, "vm")
            yield data[at : at + MIB]

    one = Member(path="data/a", size=len(data), sha256=sha256_hex(data), read=read)
    job = ramp.bench.job()
    try:
        with pytest.raises(UnreachableError, match="edgeloop_vm"):
            ramp.stage(one, job=job)
    finally:
        faults.plug(site, "vm")
    assert ramp.whole(ramp.stage(one, job=job), (one,))
    assert len(starts) == 2
    assert starts[1] >= 8 * MIB
    assert ramp.heard("of them arrived before")


def test_two_at_once_bring_large_files_once(ramp: Ramp) -> None:
    """Two jobs with the same data: one brings it, the other waits for it; both have it whole."""
    data, read_bytes, both = os.urandom(24 * MIB), list[int](), threading.Barrier(2, timeout=30)

    def read(start: int) -> Iterator[bytes]:
        for at in range(start, len(data), MIB):
            read_bytes.append(len(data[at : at + MIB]))
            yield data[at : at + MIB]

    one = Member(path="data/a", size=len(data), sha256=sha256_hex(data), read=read)
    small = ramp.blob("b", b"2" * 5000)

    def staged(_: int) -> Job:
        job = ramp.bench.job()
        both.wait()
        return ramp.stage(one, small, job=job)

    with ThreadPoolExecutor(2) as pool:
        jobs = list(pool.map(staged, range(2)))
    assert all(ramp.whole(job, (one, small)) for job in jobs)
    assert sum(read_bytes) == len(data)


def test_eight_at_once_are_one_job(ramp: Ramp) -> None:
    """Eight stagings of the same job leave one folder, whole, and nothing beside it."""
    sent = (ramp.blob("a", os.urandom(9 * MIB)), ramp.blob("b", b"2" * 5000), member("code/train.py", b"print(1)"))
    job = ramp.bench.job()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: ramp.stage(*sent, job=job), range(8)))
    assert ramp.whole(job, sent)
    assert ramp.bench.on_vm("ls -d edgeloop/jobs/*.part edgeloop/cache/in.* edgeloop/cache/*.part 2>/dev/null") == ""


def test_the_cache_keeps_to_its_limit(ramp: Ramp) -> None:
    """What was used longest ago goes first; a job keeps what it links, whatever its cache may have."""
    old, middle, new = (ramp.blob(name, os.urandom(6000)) for name in "abc")
    first = ramp.stage(old, cache_bytes=12_000)
    ramp.stage(middle, cache_bytes=12_000)
    ramp.stage(old, cache_bytes=12_000)
    ramp.stage(new, cache_bytes=12_000)
    assert ramp.cached() == {old.sha256, new.sha256}
    last = ramp.stage(middle, cache_bytes=0)
    assert ramp.cached() == set()
    assert ramp.whole(first, (old,))
    assert ramp.whole(last, (middle,))


def test_a_small_disk_of_its_own_for_the_cache(ramp: Ramp, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Across file systems data is copied; what does not fit is told before; what runs full meanwhile as well."""
    ramp.bench.on_vm(f"mkdir -p {stage_commands.CACHE}")
    folder = f"/home/{site.vm.user}/{stage_commands.CACHE}"
    sent = (ramp.blob("a", os.urandom(9 * MIB)), ramp.blob("b", os.urandom(5000)))
    more = ramp.blob("c", os.urandom(10 * MIB))
    options = f"size=16m,uid={pwd.getpwnam(site.vm.user).pw_uid}"
    with on_host(site, ["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], ["umount", "-l", folder]):
        assert ramp.whole(ramp.stage(*sent), sent)
        with pytest.raises(ConflictError, match=r"\d+ KiB are needed"):
            # It would fit if both files above went; but the job needs one of them.
            ramp.stage(sent[0], more)
        monkeypatch.setattr(cache, "short_of", lambda *_: 0)
        for way in ("direct", "worker"):
            with pytest.raises(ConflictError, match="ran full"):
                ramp.stage(sent[0], more, way=way)
        monkeypatch.undo()
        assert ramp.whole(ramp.stage(more), (more,))
        assert ramp.heard("files that no job uses leave its cache")


def test_a_sas_of_the_connection_is_handed_on_only_if_it_is_harmless(ramp: Ramp, site: Site) -> None:
    """One that reads this container for half an hour is; one that also writes stays with the worker."""
    from azure.storage.blob import generate_container_sas

    sent = (ramp.blob("a", b"1" * 5000), ramp.blob("b", os.urandom(9 * MIB)))
    private, name = site.blob.private, ramp.container.name
    for permission, said in (("r", FETCHED), ("rw", "its SAS allows more than reading (sp=rw)")):
        expiry = datetime.now(UTC) + timedelta(minutes=30)
        sas = generate_container_sas(private.account, name, private.key, permission=permission, expiry=expiry)
        text = f"BlobEndpoint={private.url};SharedAccessSignature={sas}"
        source = BlobAccount(connection="edgeloop_private", connection_string=text).container(name)
        assert ramp.whole(ramp.stage(*sent, source=source, cache_bytes=0), sent)
        assert ramp.heard(said)


@contextmanager
def tls_account(site: Site, folder: Path, data: bytes) -> Iterator[tuple[str, Path]]:
    """A service with a certificate of nobody's, that answers every GET with ``data``."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            part = data[:1] if self.headers.get("Range") == "bytes=0-0" else data
            self.send_response(206 if len(part) < len(data) else 200)
            self.send_header("Content-Length", str(len(part)))
            self.end_headers()
            self.wfile.write(part)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    host = site.blob.private.url.split("/")[2].split(":")[0]
    cert, key = folder / "ca.pem", folder / "key.pem"
    ask = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    name = ["-subj", "/CN=lab", "-addext", f"subjectAltName=IP:{host}", "-keyout", str(key), "-out", str(cert)]
    subprocess.run([*ask, *name], check=True, capture_output=True)
    server = ThreadingHTTPServer((host, 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"https://{host}:{server.server_address[1]}/acct", cert
    finally:
        server.shutdown()
        server.server_close()


def test_the_vm_trusts_the_ca_of_the_connection(ramp: Ramp, site: Site, tmp_path: Path) -> None:
    """With the CA's file the VM fetches over TLS; without it is an error that names the field."""
    data = os.urandom(9 * MIB)
    sent = tuple(
        Member(path=f"data/{len(one)}", size=len(one), sha256=sha256_hex(one), read=lambda _: (), blob="b")
        for one in (data,)
    )
    with tls_account(site, tmp_path, data) as (url, cert):
        text = f"DefaultEndpointsProtocol=https;AccountName=acct;AccountKey=a2V5;BlobEndpoint={url}"
        trusted = BlobAccount(connection="c", connection_string=text, ca_file=str(cert)).container("name")
        strange = BlobAccount(connection="c", connection_string=text).container("name")
        with pytest.raises(ConfigurationError, match=r"does not trust its certificate.*connection_verify"):
            ramp.stage(*sent, source=strange, way="direct")
        assert ramp.whole(ramp.stage(*sent, source=trusted, way="direct"), sent)


def test_a_vm_without_curl_is_told(ramp: Ramp, monkeypatch: pytest.MonkeyPatch) -> None:
    """Direct is an error, auto goes through the worker."""
    looked = stage_commands.survey
    monkeypatch.setattr(stage_commands, "survey", lambda job: looked(job).replace("flock curl", "flock"))
    one = ramp.blob("a", b"1" * 5000)
    with pytest.raises(ConfigurationError, match="the VM has no curl"):
        ramp.stage(one, way="direct")
    assert ramp.whole(ramp.stage(one), (one,))
    assert ramp.heard(SENT)
