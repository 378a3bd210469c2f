"""Serve: `python -m scorer`. Settings come from the environment, named in `main`."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import uvicorn

from .app import App
from .log import PredictionLog
from .model import ModelError, load


def main() -> int:
    """Load the model, warm it up, then listen: a server that answers at all is ready."""
    folder = Path(os.environ.get("EDGELOOP_MODEL", "/model"))
    share = Path(os.environ.get("EDGELOOP_SHARE", "/share"))
    try:
        model = load(folder, threads=int(os.environ.get("EDGELOOP_THREADS", "1")))
    except ModelError as error:
        print(f"scorer: {error}", file=sys.stderr, flush=True)
        return 1
    predictions = PredictionLog(share / "predictions", float(os.environ.get("EDGELOOP_FSYNC_SECONDS", "1")))
    site = os.environ.get("EDGELOOP_SITE", "")
    app = App(model, predictions, site, int(os.environ.get("EDGELOOP_MAX_BODY", str(16 * 1024 * 1024))))
    print(f"scorer: {model.name} {model.version} {model.sha256[:12]} for site {site!r}", flush=True)
    uvicorn.run(
        app,
        host=os.environ.get("HOST", "0.0.0.0"),  # noqa: S104 - the container's port is the product
        port=int(os.environ.get("PORT", "8080")),
        loop="uvloop",
        http="httptools",
        ws="none",
        lifespan="on",
        access_log=False,
        log_level="warning",
        timeout_keep_alive=75,
        timeout_graceful_shutdown=5,
        server_header=False,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
