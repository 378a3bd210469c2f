"""Our own transfers as a command, so that a benchmark can measure them as it measures AzCopy and rclone.

    python -m benchmarks.courier send|upload|batch|checksum <folder> <connection string> <container>

Prints as JSON how many seconds of it were the interpreter's imports, and how many bytes it sent.
"""

from __future__ import annotations

import time

BEGIN = time.perf_counter()

import json  # noqa: E402 - the clock runs first
import sys  # noqa: E402
from pathlib import Path  # noqa: E402

from edgeloop.azure.account import BlobAccount  # noqa: E402
from edgeloop.transfer import Outgoing, send_all, upload_all  # noqa: E402


def main(verb: str, folder: str, connection_string: str, name: str) -> None:
    """Take a folder's files to a container."""
    account = BlobAccount(connection="benchmark", connection_string=connection_string, preset="stack_hub")
    container = account.container(name)
    start = time.perf_counter() - BEGIN
    files = [Outgoing(name=one.name, path=one) for one in sorted(Path(folder).iterdir())]
    if verb in {"batch", "checksum"}:
        sent = upload_all(container, files, batch="benchmark", checksum=verb == "checksum").sent
    else:
        sent = sum(one.sent for one in send_all(container, files, prove=verb == "upload"))
    print(json.dumps({"start": round(start, 3), "sent": sent}))


if __name__ == "__main__":
    main(*sys.argv[1:])
