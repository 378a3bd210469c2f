"""The ASGI application: routes, limits, and nothing that a request can break."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

from . import log, protocol
from .model import Model, ModelError
from .protocol import RequestError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Receive = Callable[[], Awaitable[dict[str, Any]]]
    Send = Callable[[dict[str, Any]], Awaitable[None]]

SERVER = {"name": "edgeloop-scorer", "version": "1", "extensions": []}


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """An HTTP answer: JSON bytes."""

    status: int
    body: bytes


class App:
    """Answers for one model and logs what it answered, before the answer leaves."""

    def __init__(self, model: Model, predictions: log.PredictionLog, site: str, max_body: int) -> None:
        self._model, self._log, self._site, self._max_body = model, predictions, site, max_body

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        """One ASGI connection."""
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["type"] == "http":
            reply = await self._reply(scope, receive)
            if reply is not None:
                await _respond(send, reply)

    async def _reply(self, scope: dict[str, Any], receive: Receive) -> Reply | None:
        try:
            return await self._route(scope, receive)
        except RequestError as error:
            return Reply(status=error.status, body=protocol.failure(str(error)))
        except ModelError as error:
            return Reply(status=500, body=protocol.failure(str(error)))
        except OSError as error:
            text = f"the prediction log on the share could not be written ({error.strerror}); no answer was given"
            return Reply(status=503, body=protocol.failure(text))
        except Exception as error:  # noqa: BLE001 - one request must not end the server; onnxruntime raises anything
            print(f"scorer: {error!r}", file=sys.stderr, flush=True)
            return Reply(status=500, body=protocol.failure(f"the model failed: {type(error).__name__}"))

    async def _route(self, scope: dict[str, Any], receive: Receive) -> Reply | None:
        parts = tuple(scope["path"].strip("/").split("/"))
        if parts[-1] == "infer":
            if scope["method"] != "POST":
                raise RequestError("inference takes POST", 405)
            self._check_model(parts[:-1])
            body = await self._body(scope, receive)
            return None if body is None else Reply(status=200, body=self._infer(body))
        if scope["method"] not in ("GET", "HEAD"):
            raise RequestError("this address takes GET", 405)
        return self._get(parts)

    def _infer(self, body: bytes) -> bytes:
        model = self._model
        request = protocol.parse(body, len(model.features))
        y = model.predict(request.x)
        content = protocol.answer(model.name, model.version, request.id, y)
        self._log.append(log.lines(self._site, model, request.times, y))
        return content

    def _get(self, parts: tuple[str, ...]) -> Reply:
        ready = parts[-1] == "ready"
        if parts == ("v2",):
            return _json(200, SERVER)
        if parts == ("v2", "health", "live"):
            return _json(200, {"live": True})
        if parts == ("v2", "health", "ready"):
            return self._ready({})
        self._check_model(parts[:-1] if ready else parts)
        return self._ready({"name": self._model.name}) if ready else _json(200, self._metadata())

    def _ready(self, extra: dict[str, Any]) -> Reply:
        ready = self._log.writable()
        return _json(200 if ready else 503, {**extra, "ready": ready})

    def _check_model(self, parts: tuple[str, ...]) -> None:
        """Raise 404 unless the address is /v2/models/<name>[/versions/<version>] of the model that is here."""
        match parts:
            case ("v2", "models", name) | ("v2", "models", name, "versions", _) if name != self._model.name:
                raise RequestError(f"there is no model {name[:80]!r} here, only {self._model.name!r}", 404)
            case ("v2", "models", _):
                return
            case ("v2", "models", _, "versions", version):
                if version != self._model.version:
                    raise RequestError(f"version {version[:80]!r} is not here, only {self._model.version!r}", 404)
            case _:
                raise RequestError("there is nothing at this address", 404)

    def _metadata(self) -> dict[str, Any]:
        model = self._model
        return {
            "name": model.name,
            "versions": [model.version],
            "platform": "onnx_onnxruntime",
            "inputs": [
                {"name": protocol.INPUT, "datatype": "FP32", "shape": [-1, len(model.features)]},
                {"name": protocol.TIME, "datatype": "BYTES", "shape": [-1]},
            ],
            "outputs": [{"name": protocol.OUTPUT, "datatype": "FP32", "shape": [-1, 1]}],
            "parameters": {"sha256": model.sha256, "features": list(model.features), "site": self._site},
        }

    async def _body(self, scope: dict[str, Any], receive: Receive) -> bytes | None:
        """The whole body, or None when the client went away in the middle."""
        headers = dict(scope["headers"])
        if b"inference-header-content-length" in headers:
            raise RequestError("binary tensors are not understood; send JSON")
        length = headers.get(b"content-length", b"0")
        if int(length) > self._max_body:
            raise RequestError(f"the body is larger than {self._max_body} bytes", 413)
        chunks, size, more = [], 0, True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            chunks.append(message.get("body", b""))
            size += len(chunks[-1])
            if size > self._max_body:
                raise RequestError(f"the body is larger than {self._max_body} bytes", 413)
            more = message.get("more_body", False)
        return b"".join(chunks)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        syncing = asyncio.create_task(self._sync())
        await send({"type": "lifespan.startup.complete"})
        await receive()
        syncing.cancel()
        with contextlib.suppress(OSError):
            self._log.close()
        await send({"type": "lifespan.shutdown.complete"})

    async def _sync(self) -> None:
        """Bring the last answers before a quiet time to the disk as well."""
        while True:
            await asyncio.sleep(max(self._log.fsync_seconds, 0.1))
            with contextlib.suppress(OSError):
                self._log.sync()


def _json(status: int, body: dict[str, Any]) -> Reply:
    return Reply(status=status, body=orjson.dumps(body))


async def _respond(send: Send, reply: Reply) -> None:
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(reply.body)).encode())]
    if reply.status == 413:  # noqa: PLR2004 - the rest of the body is still on its way; reading it is what we refuse
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    await send({"type": "http.response.body", "body": reply.body})
