"""Our own transfers as a command, so that a benchmark can measure them as it measures AzCopy and rclone.

    python -m benchmarks.courier send|upload|batch|checksum <folder> <connection string> <container>

Prints as JSON how many seconds of it were the interpreter's start and imports, and how many bytes it sent.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

from edgeloop.azure.account import BlobAccount
from edgeloop.transfer import Outgoing, send_all, upload_all

SINCE_BOOT = 19
"""Which field behind the command's name in /proc/<pid>/stat is the process's start (proc(5): the 22nd of all)."""


def main(verb: str, folder: str, connection_string: str, name: str) -> None:
    """Take a folder's files to a container."""
    account = BlobAccount(connection="benchmark", connection_string=connection_string, preset="stack_hub")
    container = account.container(name)
    start = running()
    files = [Outgoing(name=one.name, path=one) for one in sorted(Path(folder).iterdir())]
    if verb in {"batch", "checksum"}:
        sent = upload_all(container, files, batch="benchmark", checksum=verb == "checksum").sent
    else:
        sent = sum(one.sent for one in send_all(container, files, prove=verb == "upload"))
    print(json.dumps({"start": round(start, 3), "sent": sent}))


def running() -> float:
    """Seconds since this process was started."""
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    return time.clock_gettime(time.CLOCK_BOOTTIME) - int(fields[SINCE_BOOT]) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main(*sys.argv[1:])
