"""The VM that is wanted, checked before anything is asked of Azure."""

from __future__ import annotations

import base64
import ipaddress
import re
from dataclasses import dataclass

from edgeloop.errors import ConfigurationError

OWNER = "edgeloop.vm"
NAME = re.compile(r"[a-z][a-z0-9-]{0,37}[a-z0-9]")
SSH_RSA, RSA_BITS = "ssh-rsa", 2048
TAKEN_USERS = frozenset({
    "administrator", "admin", "user", "user1", "test", "user2", "test1", "user3", "admin1", "1", "123", "a", "actuser",
    "adm", "admin2", "aspnet", "backup", "console", "david", "guest", "john", "owner", "root", "server", "sql",
    "support", "support_388945a0", "sys", "test2", "test3", "user4", "user5", "docker", "sshd", "daemon", "nobody",
})  # fmt: skip
"""Names that Azure refuses (OSProfile.adminUsername in compute.json of 2020-06-01), and some that Ubuntu has taken."""
GROUP = re.compile(r"[-\w.()]{0,89}[-\w()]")
"""Anything else would lead a request to another place of ARM: none, all groups, or one whose name ends at the "?"."""
USER = re.compile(r"[a-z][a-z0-9_-]{0,30}")


@dataclass(frozen=True, slots=True, kw_only=True)
class VmOrder:
    """The VM that is wanted; raises ``ConfigurationError`` for what Azure would refuse or nobody should want.

    Args:
        subscription: At the Stack Hub.
        resource_group: Made if it is not there, and then removed with the VM.
        name: Of the VM; all its resources begin with it.
        location: The Stack Hub's region.
        public_key: Who may log in: ``ssh-rsa``, 2,048 bits or more, because api-version 2020-06-01 takes no other.
        allowed: The only addresses that reach its SSH port, as networks (``10.1.0.0/24``, ``198.51.100.7/32``).
        user: The login.
        size: Of the VM.
        image: ``publisher:offer:sku:version`` of an Ubuntu in the Stack Hub's marketplace.
        disk_gb: Of the system disk, which holds images, data and outputs.
        subnet: ARM id of a subnet that is there; "" makes a network of the VM's own.
        network: That network.
        public_address: Whether it gets an address from the Stack Hub's public pool.
        prepare: Shell lines (POSIX) that run before Docker is installed: an apt mirror or proxy of the site.
    """

    subscription: str
    resource_group: str
    name: str
    location: str
    public_key: str
    allowed: tuple[str, ...]
    user: str = "trainer"
    size: str = "Standard_F8s_v2"
    image: str = "Canonical:0001-com-ubuntu-server-jammy:22_04-lts:latest"
    disk_gb: int = 128
    subnet: str = ""
    network: str = "10.90.0.0/28"
    public_address: bool = True
    prepare: str = ""

    def __post_init__(self) -> None:
        """Refuse before anything is asked."""
        for wrong, what, remedy in self._doubts():
            if wrong:
                raise ConfigurationError(f"VM {self.name!r}: {what}.", left="nothing was asked of Azure", next=remedy)

    def _doubts(self) -> tuple[tuple[bool, str, str], ...]:
        open_to_all = [one for one in self.allowed if _network(one) is None or _network(one).prefixlen == 0]  # type: ignore[union-attr]
        return (
            (
                not GROUP.fullmatch(self.resource_group),
                f"{self.resource_group!r} cannot be a resource group",
                "1 to 90 letters, digits and -_.(), no dot at the end.",
            ),
            (not NAME.fullmatch(self.name), "the name will not do", "2 to 39 of a-z, 0-9 and '-', a letter first."),
            (
                not USER.fullmatch(self.user) or self.user in TAKEN_USERS,
                f"Azure or Ubuntu refuses the user {self.user!r}",
                "Take another, for example 'trainer'.",
            ),
            (not self.allowed, "nobody is allowed to reach it", "Name the workers' networks in allowed."),
            (
                bool(open_to_all),
                f"allowed holds {', '.join(open_to_all)}, which is no network or all of them",
                "Name the workers' networks, for example 198.51.100.7/32; an SSH port open to all is not made.",
            ),
            (
                rsa_bits(self.public_key) < RSA_BITS,
                "the public key is no ssh-rsa key of 2,048 bits or more",
                "Azure of 2020-06-01 takes no other: `ssh-keygen -t rsa -b 4096 -f stack_vm`, and give stack_vm.pub.",
            ),
            (
                self.image.count(":") != IMAGE_PARTS - 1 or not all(self.image.split(":")),
                f"{self.image!r} is no image",
                "Write publisher:offer:sku:version, as `az vm image list --all` at the Stack Hub prints it.",
            ),
            (not 30 <= self.disk_gb <= 1023, "disk_gb will not do", "Write 30 to 1023."),  # noqa: PLR2004 - Stack Hub's
            (
                _network(self.network) is None,
                f"{self.network!r} is no network",
                "Write one of private addresses, for example 10.90.0.0/28.",
            ),
        )

    @property
    def group(self) -> str:
        """The resource group's ARM id."""
        return f"/subscriptions/{self.subscription}/resourceGroups/{self.resource_group}"

    def id(self, kind: str, suffix: str = "") -> str:
        """The ARM id of one of its resources; ``kind`` as ``Microsoft.Compute/virtualMachines``."""
        return f"{self.group}/providers/{kind}/{self.name}{suffix}"

    @property
    def vm(self) -> str:
        """The VM's ARM id."""
        return self.id("Microsoft.Compute/virtualMachines")

    @property
    def disk(self) -> str:
        """The ARM id of its system disk, which Azure makes with the VM and leaves behind."""
        return self.id("Microsoft.Compute/disks", "-disk")

    @property
    def tags(self) -> dict[str, str]:
        """What says that a resource is this VM's: nothing without it is ever changed or removed."""
        return {OWNER: self.name}


IMAGE_PARTS = 4


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    try:
        return ipaddress.ip_network(text)
    except ValueError:
        return None


def rsa_bits(public_key: str) -> int:
    """How long an ssh-rsa key is, in bits; 0 for anything else."""
    try:
        kind, blob = public_key.split()[:2]
        raw = base64.b64decode(blob, validate=True)
        parts: list[bytes] = []
        while raw:
            size = int.from_bytes(raw[:4], "big")
            parts, raw = [*parts, raw[4 : 4 + size]], raw[4 + size :]
        named, _, modulus = parts
    except ValueError:
        return 0
    return int.from_bytes(modulus, "big").bit_length() if kind == SSH_RSA == named.decode(errors="replace") else 0
