"""A site's secrets: made once, kept in `<state>/keys` for its owner only, the same at every start."""

from __future__ import annotations

import base64
import json
import secrets
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

from lab import tools
from lab.layout import HOST_NUMBERS
from lab.users import LOGINS

if TYPE_CHECKING:
    from pathlib import Path

    from lab.layout import Layout

_KEY_BYTES = 64  # as Azure's own account keys


@dataclass(frozen=True, slots=True, kw_only=True)
class Secrets:
    """Passwords and account keys (base64) of a site."""

    share_password: str = field(repr=False)
    private_key: str = field(repr=False)
    cloud_key: str = field(repr=False)


def folder(layout: Layout) -> Path:
    """Where a site's keys are."""
    return layout.state / "keys"


def host_key(layout: Layout, host: str) -> Path:
    """The private host key of a host's sshd; its public half is beside it with `.pub`."""
    return folder(layout) / f"host_{host}_ed25519"


def login_key(layout: Layout, user: str) -> Path:
    """The private key that logs in as `user` on this site's hosts."""
    return folder(layout) / f"{user}_ed25519"


def public(key: Path) -> str:
    """The public half of `key` as "<type> <base64>", without its comment."""
    return " ".join(key.with_name(key.name + ".pub").read_text().split()[:2])


def ensure(layout: Layout) -> Secrets:
    """Make what is missing and return the secrets."""
    where = folder(layout)
    where.mkdir(parents=True, exist_ok=True, mode=0o700)
    where.chmod(0o700)
    for key in (*(host_key(layout, host) for host in HOST_NUMBERS), *(login_key(layout, user) for user in LOGINS)):
        _ensure_ssh_key(key)
    if (found := load(layout)) is None:
        path = where / "secrets.json"
        part = path.with_suffix(".part")
        part.touch(mode=0o600)
        part.write_text(json.dumps(asdict(_new())))
        part.replace(path)
    return found or Secrets(**json.loads((where / "secrets.json").read_text()))


def load(layout: Layout) -> Secrets | None:
    """The site's secrets, None when it never had any."""
    path = folder(layout) / "secrets.json"
    return Secrets(**json.loads(path.read_text())) if path.exists() else None


def _ensure_ssh_key(key: Path) -> None:
    if key.exists():
        return
    part = key.with_name(key.name + ".part")
    for half in (part, part.with_name(part.name + ".pub")):
        half.unlink(missing_ok=True)
    tools.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", key.name, "-f", str(part)])
    part.with_name(part.name + ".pub").replace(key.with_name(key.name + ".pub"))
    part.replace(key)


def _new() -> Secrets:
    def account_key() -> str:
        return base64.b64encode(secrets.token_bytes(_KEY_BYTES)).decode()

    return Secrets(share_password=secrets.token_urlsafe(18), private_key=account_key(), cloud_key=account_key())
