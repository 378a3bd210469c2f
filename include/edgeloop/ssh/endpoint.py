"""Where a machine answers SSH, who it must prove to be, and how one proves to it who one is."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from edgeloop.errors import ConfigurationError
from edgeloop.ssh.passwords import weakness

if TYPE_CHECKING:
    from collections.abc import Iterator

CONNECT_SECONDS = 10.0
IDLE_SECONDS = 30.0
KEEPALIVE_SECONDS = 5.0
MAX_PORT = 65535


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """A login on a machine; ``ConfigurationError`` when it is not pinned or has neither key nor allowed password.

    Args:
        connection: The Airflow connection id, which errors name.
        host: Name or address, as seen from the last jump host.
        port: sshd's port.
        user: Who logs in.
        host_key: The pinned public key as in known_hosts (``ssh-ed25519 AAAA...``).
        key_file: Path of the private key: ed25519, ecdsa or rsa, in OpenSSH's format or PEM.
        private_key: The private key itself, for who keeps it in a secrets backend and not in a file.
        passphrase: Of the private key, if it has one.
        password: Of the login, where there is no key.
        allow_password: That a password, if it is strong, may do instead of a key.
        jump: The machine that the connection goes through; it has its own pin, key and perhaps jump host.
    """

    connection: str
    host: str
    port: int
    user: str
    host_key: str
    key_file: str = ""
    private_key: str = field(default="", repr=False)
    passphrase: str = field(default="", repr=False)
    password: str = field(default="", repr=False)
    allow_password: bool = False
    jump: Endpoint | None = None

    def __post_init__(self) -> None:
        """Refuse a login that is not pinned or that proves nothing."""
        if not 0 < self.port <= MAX_PORT:
            raise self._refused(f"names port {self.port}", f"Set a number from 1 to {MAX_PORT}; sshd's is 22.")
        if not self.host_key.strip():
            raise self._refused(
                f"pins no host key, so another machine could pose as {self.host}",
                f"Run `ssh-keyscan -t ed25519 -p {self.port} {self.host}`, compare the fingerprint on its "
                "console, and put 'ssh-ed25519 AAAA...' into the connection's host_key.",
            )
        if self.key_file and self.private_key:
            raise self._refused(
                "has both extra.key_file and extra.private_key", "Remove the one that is not to be used."
            )
        if not self.key_file and not self.private_key:
            self._check_password()

    def _check_password(self) -> None:
        if not self.password:
            raise self._refused(
                "has no private key",
                "Put the path of a private key into its key_file, or the key's text into private_key "
                "(make one with `ssh-keygen -t ed25519`).",
            )
        if not self.allow_password:
            raise self._refused(
                "has a password and no private key; passwords are refused, for they can be guessed and a key cannot",
                "Put a private key into its key_file or private_key, or, if the machine takes only passwords, tick "
                "'Allow password' (extra.allow_password: true).",
            )
        if why := weakness(self.password, known=(self.user, self.host, self.connection)):
            raise self._refused(
                f"has a password that can be guessed: {why}",
                "Set another on the machine with `passwd` (`openssl rand -base64 18` makes a good one), or better use "
                "a private key.",
            )

    def _refused(self, what: str, then: str) -> ConfigurationError:
        return ConfigurationError(f"Connection {self.connection!r} {what}.", left="nothing was connected", next=then)

    @property
    def by_password(self) -> bool:
        """Whether it logs in with a password, for want of a key."""
        return not self.key_file and not self.private_key

    @property
    def way(self) -> str:
        """Host and port, and the machines that lie before it."""
        through = f" through connection {self.jump.connection!r}" if self.jump else ""
        return f"{self.host}:{self.port}{through}"

    @property
    def hosts(self) -> tuple[str, ...]:
        """Every machine that the connection passes through, the last one first."""
        return (self.host, *(one.host for one in self._hops()))

    @property
    def login(self) -> str:
        """The command that logs in by hand."""
        hops = [f"{one.user}@{one.host}:{one.port}" for one in self._hops()]
        jumps = f"-J {','.join(reversed(hops))} " if hops else ""
        return f"ssh {jumps}-p {self.port} {self.user}@{self.host}"

    def _hops(self) -> Iterator[Endpoint]:
        one = self.jump
        while one is not None:
            yield one
            one = one.jump
