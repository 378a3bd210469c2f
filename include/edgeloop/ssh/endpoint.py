"""Where a machine answers SSH, and who it must prove to be."""

from __future__ import annotations

from dataclasses import dataclass

from edgeloop.errors import ConfigurationError

CONNECT_SECONDS = 10.0
IDLE_SECONDS = 30.0
KEEPALIVE_SECONDS = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """A login on a machine. ``connection`` is the Airflow connection id that errors name.

    ``host_key`` is the pinned public key as in known_hosts (``ssh-ed25519 AAAA...``), ``key_file`` the private key.
    """

    connection: str
    host: str
    port: int
    user: str
    key_file: str
    host_key: str

    def __post_init__(self) -> None:
        """Refuse a login that is not pinned or has no key; raises ``ConfigurationError``."""
        if not self.host_key:
            raise ConfigurationError(
                f"Connection {self.connection!r} pins no host key, so another machine could pose as {self.host}.",
                left="nothing was connected",
                next=f"Run `ssh-keyscan -t ed25519 -p {self.port} {self.host}`, compare the fingerprint on its "
                "console, and put 'ssh-ed25519 AAAA...' into the connection's host_key.",
            )
        if not self.key_file:
            raise ConfigurationError(
                f"Connection {self.connection!r} has no private key; passwords are refused.",
                left="nothing was connected",
                next="Put the path of an ed25519 private key into the connection's key_file.",
            )
