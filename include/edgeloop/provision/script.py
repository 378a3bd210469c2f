"""What runs on a new VM as root, once: installs Docker, and says the host key in words that come back through ARM.

The VM makes its host key itself and its private half never leaves it. The public half is printed here; the extension's
output is read over ARM, whose certificate and token are checked, so the key can be pinned before the first login:
neither trust on first use, nor a private key that is handed to a VM by way of Azure's control plane.
"""

from __future__ import annotations

import base64
import re

from edgeloop.errors import CloudError

MARK = "edgeloop host key:"
HOST_KEY = re.compile(rf"^{MARK} (ssh-ed25519 ([A-Za-z0-9+/]+={{0,2}}))\s*$", re.MULTILINE)
TRIES, PAUSE = 6, 20


def install_script(user: str, prepare: str = "") -> str:
    """A POSIX shell script; running it again changes nothing. The extension runs it with /bin/sh, as root."""
    before = f"{prepare.strip()}\n" if prepare.strip() else ""
    return (
        "#!/bin/sh\n"
        "set -eu\n"
        "export DEBIAN_FRONTEND=noninteractive\n"
        f"{before}"
        "tried=0\n"
        "until command -v docker >/dev/null; do\n"
        f'  [ "$tried" -lt {TRIES} ] || {{ echo "docker.io could not be installed" >&2; exit 1; }}\n'
        '  [ "$tried" -eq 0 ] || sleep "${EDGELOOP_PAUSE:-' + str(PAUSE) + '}"\n'
        "  tried=$((tried + 1))\n"
        "  apt-get -o DPkg::Lock::Timeout=300 update || continue\n"
        "  apt-get -o DPkg::Lock::Timeout=300 install -y --no-install-recommends docker.io || true\n"
        "done\n"
        "systemctl enable --now docker\n"
        f"usermod -aG docker {user}\n"
        "docker version --format 'Docker {{.Server.Version}}'\n"
        f"printf '{MARK} %s\\n' \"$(cut -d ' ' -f 1,2 /etc/ssh/ssh_host_ed25519_key.pub)\"\n"
    )


def host_key_of(message: str) -> str:
    """The host key in an extension's output, as ``ssh-ed25519 AAAA...``; raises ``CloudError`` unless there is one."""
    found = {match.group(1): match.group(2) for match in HOST_KEY.finditer(message)}
    fine = [key for key, blob in found.items() if _is_ed25519(blob)]
    if len(found) != 1 or not fine:
        raise CloudError(
            f"The extension's output names {len(found)} host keys instead of one.",
            left="the VM, which runs; nothing was pinned",
            next="Look at the extension in the Stack Hub's portal. Or read the key at the VM's serial console: "
            "`cat /etc/ssh/ssh_host_ed25519_key.pub`.",
        )
    return fine[0]


def _is_ed25519(blob: str) -> bool:
    try:
        raw = base64.b64decode(blob, validate=True)
    except ValueError:
        return False
    return raw.startswith(b"\x00\x00\x00\x0bssh-ed25519\x00\x00\x00\x20") and len(raw) == ED25519_BYTES


ED25519_BYTES = 51
"""4 and 11 bytes of the name, 4 and 32 of the key."""
