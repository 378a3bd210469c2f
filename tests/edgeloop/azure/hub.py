"""A storage account as a private one is reached: TLS under a CA of its own, and it can be stopped and started."""

from __future__ import annotations

import base64
import datetime as dt
import ipaddress
import socket
import subprocess
from typing import TYPE_CHECKING, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from lab import blob
from lab.airflow_api import wait_for

if TYPE_CHECKING:
    from pathlib import Path

KEY = base64.b64encode(b"a key of sixty-four bytes or so, which is what a real one has...").decode()
DOMAIN = "test.example"
"""Certificates are also for hub.blob and hub.queue below it."""
DEADLINE_S = 120.0


class Hub:
    """Azurite with the account ``hub``, its state and certificates below ``folder``; by Entra ID too with ``oauth``."""

    def __init__(self, cache: Path, folder: Path, *, oauth: bool = False) -> None:
        self._cache, self._folder, self.port = cache, folder, free_port()
        self._oauth = ["--oauth", "basic"] if oauth else []
        self.ca, self._cert, self._key = certificates(folder)
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """The account's URL."""
        return f"https://127.0.0.1:{self.port}/hub"

    @property
    def connection_string(self) -> str:
        """With the account's key."""
        return f"DefaultEndpointsProtocol=https;AccountName=hub;AccountKey={KEY};BlobEndpoint={self.url};"

    def start(self) -> None:
        """Serve; returns when it answers."""
        where = ["--blobHost", "127.0.0.1", "--blobPort", str(self.port), "--location", str(self._folder / "blobs")]
        tls = ["--cert", str(self._cert), "--key", str(self._key)]
        # No --skipApiVersionCheck: like a Stack Hub it refuses versions that it does not know.
        script = [str(blob.node()), str(blob.main_script(self._cache))]
        command = [*script, *where, *tls, *self._oauth, "--disableTelemetry"]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, env={"AZURITE_ACCOUNTS": f"hub:{KEY}"}, stdout=log, stderr=log)
        wait_for(self._answers, seconds=DEADLINE_S, what="Azurite with TLS", every=0.1)

    def _answers(self) -> bool:
        import urllib3

        with urllib3.PoolManager(ca_certs=str(self.ca), retries=False) as pool:
            try:
                return pool.request("GET", f"{self.url}?comp=list").status > 0
            except urllib3.exceptions.HTTPError:
                return False

    def stop(self) -> None:
        """Ask it to end, which keeps what it was given."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(DEADLINE_S)


def certificates(folder: Path) -> tuple[Path, Path, Path]:
    """A CA, and a certificate for 127.0.0.1 and DOMAIN that it signed: paths of the CA's, the server's, its key."""
    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    ca_name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Test CA")])
    now = dt.datetime.now(dt.UTC)

    def builder(subject: x509.Name, public: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        made = x509.CertificateBuilder().subject_name(subject).issuer_name(ca_name).public_key(public)
        made = made.serial_number(x509.random_serial_number()).not_valid_before(now - dt.timedelta(days=1))
        return made.not_valid_after(now + dt.timedelta(days=2))

    basic = x509.BasicConstraints(ca=True, path_length=None)
    ca = builder(ca_name, ca_key.public_key()).add_extension(basic, critical=True).sign(ca_key, hashes.SHA256())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "hub")])
    names = [x509.DNSName(f"hub.{service}.{DOMAIN}") for service in ("blob", "queue")]
    alternative = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1")), *names])
    cert = builder(name, key.public_key()).add_extension(alternative, critical=False).sign(ca_key, hashes.SHA256())
    plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    files = {
        "ca.pem": ca.public_bytes(serialization.Encoding.PEM),
        "cert.pem": cert.public_bytes(serialization.Encoding.PEM),
        "key.pem": key.private_bytes(serialization.Encoding.PEM, *plain),
    }
    for file, content in files.items():
        (folder / file).write_bytes(content)
    return folder / "ca.pem", folder / "cert.pem", folder / "key.pem"


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])
