"""The keys of a connection, read once for both SSH libraries, so that both take and refuse the same ones."""

from __future__ import annotations

import base64
import binascii
from pathlib import Path
from typing import TYPE_CHECKING

from edgeloop.errors import ConfigurationError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

    from edgeloop.ssh.endpoint import Endpoint

HOST_KINDS = (
    "ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521", "ssh-rsa",
)  # fmt: skip
RSA_BITS = 2048


def host_key(endpoint: Endpoint) -> tuple[str, bytes]:
    """Kind and bytes of the pinned key, a host's name before and a comment after it or not.

    Raises ``ConfigurationError``.
    """
    words = endpoint.host_key.split()
    kind = next((one for one in words if one in HOST_KINDS), "")
    try:
        text = words[words.index(kind) + 1]
        blob = base64.b64decode(text, validate=True)
        named = blob[4 : 4 + int.from_bytes(blob[:4], "big")].decode()
        if named != kind:
            raise ValueError(f"it says {kind} and holds {named[:40]!r}")  # noqa: TRY301 - said with the others
    except (ValueError, IndexError, binascii.Error) as error:
        seen = str(error) if kind else f"no word of it is one of {', '.join(HOST_KINDS)}"
        raise ConfigurationError(
            f"The host key of connection {endpoint.connection!r} (extra.host_key) cannot be read: {seen}.",
            left="nothing was connected",
            next="It must read 'ssh-ed25519 AAAA...', as "
            f"`ssh-keyscan -t ed25519 -p {endpoint.port} {endpoint.host}` prints it.",
        ) from error
    return kind, blob


def private_key(endpoint: Endpoint) -> str:
    """The private key as unencrypted OpenSSH text, in memory only; raises ``ConfigurationError`` naming the field."""
    from cryptography.hazmat.primitives import serialization

    field = "extra.private_key" if endpoint.private_key else f"extra.key_file ({endpoint.key_file})"
    try:
        key = _loaded(endpoint)
    except OSError as error:
        raise _unreadable(
            endpoint, field, str(error), "Name a file that the user who runs Airflow can read."
        ) from error
    except TypeError as error:
        raise _unreadable(endpoint, field, *_passphrase(endpoint, str(error))) from error
    except Exception as error:  # whatever a parser says of a text that is no key
        raise _unreadable(endpoint, field, *_no_key(endpoint, str(error))) from error
    _strong(endpoint, field, key)
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    ).decode()


def _loaded(endpoint: Endpoint) -> PrivateKeyTypes:
    from cryptography.hazmat.primitives import serialization

    # A secrets backend or an environment variable often brings the line ends as two characters.
    inline = endpoint.private_key.replace("\\n", "\n").strip().encode() + b"\n"
    raw = inline if endpoint.private_key else Path(endpoint.key_file).expanduser().read_bytes()
    load = serialization.load_ssh_private_key if b"BEGIN OPENSSH" in raw else serialization.load_pem_private_key
    secret = endpoint.passphrase.encode() or None
    return load(raw, secret)


def _passphrase(endpoint: Endpoint, said: str) -> tuple[str, str]:
    if endpoint.passphrase:
        return (
            "it has no passphrase, the connection gives one",
            (
                "Empty the connection's password and extra.private_key_passphrase, or give the key that the passphrase "
                f"belongs to ({said})."
            ),
        )
    return (
        "it has a passphrase, the connection gives none",
        "Put the passphrase into the connection's password (or extra.private_key_passphrase).",
    )


def _no_key(endpoint: Endpoint, said: str) -> tuple[str, str]:
    if endpoint.passphrase and any(word in said.lower() for word in ("password", "decrypt", "corrupt", "checkbytes")):
        return (
            "the passphrase is not its own",
            (
                "Try it with `ssh-keygen -y -f <file>` and correct the connection's password (or "
                "extra.private_key_passphrase)."
            ),
        )
    return (
        "it is no private key in OpenSSH's format or PEM",
        (
            "Give the file that `ssh-keygen -t ed25519` makes, not its .pub half; a PuTTY key is turned into one with "
            "`puttygen key.ppk -O private-openssh -o key`."
        ),
    )


def _strong(endpoint: Endpoint, field: str, key: PrivateKeyTypes) -> None:
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    then = "Make one with `ssh-keygen -t ed25519` and add its public half to authorized_keys on the machine."
    if isinstance(key, rsa.RSAPrivateKey):
        if key.key_size < RSA_BITS:
            raise _unreadable(endpoint, field, f"an rsa key of {key.key_size} bits can be broken", then)
    elif not isinstance(key, ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey):
        raise _unreadable(endpoint, field, "it is neither ed25519, ecdsa nor rsa", then)


def _unreadable(endpoint: Endpoint, field: str, why: str, then: str) -> ConfigurationError:
    return ConfigurationError(
        f"The private key of connection {endpoint.connection!r}, {field}, cannot be used: {why}.",
        left="nothing was connected",
        next=then,
    )
