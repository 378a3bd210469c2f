"""Real registries of a test's own: with TLS and logins, on a small disk, read-only, behind a line that breaks."""

from __future__ import annotations

import datetime as dt
import gzip
import hashlib
import io
import ipaddress
import json
import os
import socket
import subprocess
import tarfile
import threading
import time
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import requests

from edgeloop.containers.content import OCI_CONFIG, OCI_LAYER, OCI_MANIFEST, Content, Descriptor, ImageContent
from edgeloop.containers.endpoint import RegistryEndpoint
from edgeloop.record_base import canonical_json
from lab import tools

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

USER, PASSWORD = "pusher", "a-Password-of-26-letters.."
START_SECONDS = 20.0
SBOM = "application/vnd.cyclonedx+json"
EMPTY = "application/vnd.oci.empty.v1+json"


def free_port(host: str) -> int:
    """A port that nobody listens on now."""
    with closing(socket.socket()) as sock:
        sock.bind((host, 0))
        return int(sock.getsockname()[1])


@dataclass(frozen=True)
class Authority:
    """A certificate authority of a test's own; ``ca``, ``cert`` and ``key`` are PEM files."""

    ca: Path
    cert: Path
    key: Path

    @classmethod
    def of(cls, folder: Path, host: str) -> Authority:
        """An authority, and a certificate of it for ``host``, a name or an address."""
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec

        now = dt.datetime.now(dt.UTC)
        root, leaf = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
        issuer = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, f"tests {os.urandom(4).hex()}")])

        def certificate(whose: x509.Name, public: ec.EllipticCurvePublicKey, *, ca: bool) -> x509.Certificate:
            made = (
                x509.CertificateBuilder()
                .subject_name(whose)
                .issuer_name(issuer)
                .public_key(public)
                .serial_number(x509.random_serial_number())
                .not_valid_before(now - dt.timedelta(days=1))
                .not_valid_after(now + dt.timedelta(days=2))
                .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            )
            if not ca:
                named = host[-1].isalpha()
                name = x509.DNSName(host) if named else x509.IPAddress(ipaddress.ip_address(host))
                made = made.add_extension(x509.SubjectAlternativeName([name]), critical=False)
            return made.sign(root, hashes.SHA256())

        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, host)])
        pem = serialization.Encoding.PEM
        found = cls(ca=folder / "ca.crt", cert=folder / "cert.pem", key=folder / "key.pem")
        found.ca.write_bytes(certificate(issuer, root.public_key(), ca=True).public_bytes(pem))
        found.cert.write_bytes(certificate(subject, leaf.public_key(), ca=False).public_bytes(pem))
        found.key.write_bytes(leaf.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
        return found


@dataclass
class RegistryServer:
    """Debian's docker-registry; ``tls`` gives it TLS, ``login`` the user USER with PASSWORD and nobody else."""

    folder: Path
    host: str = "127.0.0.1"
    tls: Authority | None = None
    login: bool = False
    readonly: bool = False
    storage: Path | None = None
    port: int = 0
    process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """As images are named."""
        return f"{self.host}:{self.port}"

    def endpoint(self, **changes: object) -> RegistryEndpoint:
        """How Edgeloop gets in."""
        values: dict[str, object] = {
            "connection": "edgeloop_registry",
            "host": self.address,
            "insecure": self.tls is None,
            "ca_file": str(self.tls.ca) if self.tls else "",
            **({"user": USER, "password": PASSWORD} if self.login else {}),
        }
        return RegistryEndpoint(**{**values, **changes})  # type: ignore[arg-type]

    def start(self) -> RegistryServer:
        """Serve, on the same port as before, and await an answer."""
        import bcrypt

        self.port = self.port or free_port(self.host)
        config = {
            "version": "0.1",
            "log": {"level": "error", "accesslog": {"disabled": True}},
            "storage": {
                "filesystem": {"rootdirectory": str(self.storage or self.folder / "registry")},
                "maintenance": {"readonly": {"enabled": self.readonly}},
            },
            "http": {"addr": self.address, "relativeurls": True},
        }
        if self.tls:
            config["http"]["tls"] = {"certificate": str(self.tls.cert), "key": str(self.tls.key)}
        if self.login:
            known = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()
            (self.folder / "htpasswd").write_text(f"{USER}:{known}\n")
            config["auth"] = {"htpasswd": {"realm": "tests", "path": str(self.folder / "htpasswd")}}
        (self.folder / "config.yml").write_text(json.dumps(config))
        log = (self.folder / "log").open("ab")
        self.process = subprocess.Popen(
            [tools.path("docker-registry"), "serve", str(self.folder / "config.yml")], stdout=log, stderr=log
        )
        self._await()
        return self

    def _await(self) -> None:
        url, until = f"{'https' if self.tls else 'http'}://{self.address}/v2/", time.monotonic() + START_SECONDS
        while True:
            try:
                requests.get(url, verify=str(self.tls.ca) if self.tls else True, timeout=2)
            except requests.RequestException:
                assert self.process is not None
                assert self.process.poll() is None, (self.folder / "log").read_text()
                assert time.monotonic() < until
                time.sleep(0.02)
            else:
                return

    def stop(self) -> None:
        """Kill it, as a power cut does."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def blobs(self) -> list[str]:
        """The digests of the blobs on its disk."""
        root = self.storage or self.folder / "registry"
        return [one.parent.name for one in root.glob("docker/registry/v2/blobs/sha256/*/*/data")]


@dataclass
class Line:
    """A line to a registry: counts what is sent to it, and may break after so many bytes, so many times."""

    to: str
    breaks: list[int] = field(default_factory=list)
    """After how many bytes each of the first connections is cut; the others hold."""
    drops: list[int] = field(default_factory=list)
    """Which PATCH requests, counted from 1, are swallowed with their connection before the registry sees a byte."""
    deaf: list[int] = field(default_factory=list)
    """Which PUT requests, counted from 1, get through while their answers are lost with the connection."""
    broken: Callable[[], None] = lambda: None
    """Called when a connection was cut."""
    sent: int = 0
    connections: int = 0
    pieces: int = 0
    puts: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        """Listen."""
        self._server = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._server.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """End it."""
        self._server.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._server.accept()
            except OSError:
                return
            with self._lock:
                left = self.breaks.pop(0) if self.breaks else None
                self.connections += 1
            threading.Thread(target=self._carry, args=(near, left), daemon=True).start()

    def _carry(self, near: socket.socket, left: int | None) -> None:
        host, _, port = self.to.rpartition(":")
        try:
            far = socket.create_connection((host, int(port)), timeout=5)
        except OSError:
            near.close()
            return
        lost = threading.Event()
        back = threading.Thread(target=_pump, args=(far, near, lost), daemon=True)
        back.start()
        while data := _read(near):
            data = data if left is None else data[:left]
            with self._lock:
                self.sent += len(data)
                self.pieces += data.startswith(b"PATCH ")
                self.puts += data.startswith(b"PUT ")
                if data.startswith(b"PUT ") and self.puts in self.deaf:
                    lost.set()
                dropped = data.startswith(b"PATCH ") and self.pieces in self.drops
            if dropped:
                break
            try:
                far.sendall(data)
            except OSError:
                break
            if left is not None and (left := left - len(data)) <= 0:
                _end(far, near)
                self.broken()
                return
        _end(far, near)


def _read(sock: socket.socket) -> bytes:
    try:
        return sock.recv(65536)
    except OSError:
        return b""


def _pump(source: socket.socket, to: socket.socket, lost: threading.Event) -> None:
    while (data := _read(source)) and not lost.is_set():
        try:
            to.sendall(data)
        except OSError:
            break
    _end(to, source)


def _end(*socks: socket.socket) -> None:
    for one in socks:
        try:
            one.shutdown(socket.SHUT_RDWR)
        except OSError:
            one.close()
            continue
        one.close()


def image(*layers: Content, note: str = "") -> ImageContent:
    """An image that no engine could run, with these layers."""
    config = Content.of(canonical_json({"note": note}), OCI_CONFIG)
    body = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": described(config),
        "layers": [described(one) for one in layers],
    }
    return ImageContent(manifest=Content.of(canonical_json(body), OCI_MANIFEST), blobs=(config, *layers))


def pullable(note: str) -> ImageContent:
    """An image that an engine can pull: one file."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as tar:
        info = tarfile.TarInfo("note")
        info.size = len(note)
        tar.addfile(info, io.BytesIO(note.encode()))
    layer = Content.of(gzip.compress(raw.getvalue(), mtime=0), OCI_LAYER)
    diff = f"sha256:{hashlib.sha256(raw.getvalue()).hexdigest()}"
    body = {"architecture": "amd64", "os": "linux", "config": {}, "rootfs": {"type": "layers", "diff_ids": [diff]}}
    config = Content.of(canonical_json(body), OCI_CONFIG)
    manifest = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": described(config),
        "layers": [described(layer)],
    }
    return ImageContent(manifest=Content.of(canonical_json(manifest), OCI_MANIFEST), blobs=(config, layer))


def sbom(note: str) -> ImageContent:
    """An artifact as a bill of materials is one; it names no subject."""
    config, layer = Content.of(b"{}", EMPTY), Content.of(note.encode(), SBOM)
    body = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "artifactType": SBOM,
        "config": described(config),
        "layers": [described(layer)],
    }
    return ImageContent(manifest=Content.of(canonical_json(body), OCI_MANIFEST), blobs=(config, layer))


def described(content: Content) -> dict[str, object]:
    """A descriptor as manifests hold it."""
    one = content.descriptor
    return {"mediaType": one.media_type, "digest": one.digest, "size": one.size}


def layer_file(folder: Path, size: int, seed: int = 0) -> Content:
    """A layer in a file, of bytes that cannot be packed, the same for the same seed."""
    path = folder / f"layer-{size}-{seed}"
    data = hashlib.shake_256(f"{seed}".encode()).digest(size)
    path.write_bytes(data)
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    return Content(descriptor=Descriptor(media_type=OCI_LAYER, digest=digest, size=size), file=path)
