"""A queue of a storage account. Every call carries two time-outs; a dead service raises ``UnreachableError``."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from edgeloop.azure.entra import tokens
from edgeloop.azure.problems import translated
from edgeloop.errors import ConfigurationError, NotFoundError

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from azure.storage.queue import QueueClient

    from edgeloop.azure.account import BlobAccount

MOST_AT_ONCE = 32
"""Messages in one answer (Azure's limit)."""
RETRIES = 2
ROLE = "Storage Queue Data Contributor"
"""What an identity of Entra ID needs on the account or the queue."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One delivery of a message: it comes again after its time unless it is deleted with this ``receipt``."""

    id: str
    receipt: str = field(repr=False)
    body: str = field(repr=False)
    deliveries: int


class MessageQueue:
    """One queue. Safe to use from several threads; raises what :mod:`edgeloop.azure.problems` makes of errors."""

    def __init__(self, account: BlobAccount, name: str) -> None:
        self.account, self.name = account, name
        self._client = self._connect()

    def _connect(self) -> QueueClient:
        from azure.storage.queue import QueueClient

        options = self.account.transport(RETRIES)
        if (entra := self.account.entra) is not None:
            return QueueClient(self.account.endpoint("queue"), self.name, credential=tokens(entra), **options)
        fields = {one.partition("=")[0].strip().lower() for one in self.account.connection_string.split(";")}
        if "blobendpoint" in fields and "queueendpoint" not in fields:
            # The SDK would make one up in the public cloud, and events of a private account would be looked for there.
            raise self._unusable("names a BlobEndpoint and no QueueEndpoint")
        try:
            return QueueClient.from_connection_string(self.account.connection_string, self.name, **options)
        except ValueError:
            raise self._unusable("is no connection string of a queue service") from None

    def _errors(self) -> AbstractContextManager[None]:
        return translated(self.account, self.name, role=ROLE)

    @property
    def hosts(self) -> tuple[str, ...]:
        """The host that requests go to."""
        return (urlsplit(f"//{self._client.primary_hostname}").hostname or self._client.primary_hostname,)

    def _unusable(self, why: str) -> ConfigurationError:
        return ConfigurationError(
            f"{self.account.secret_field} of connection {self.account.connection!r} {why}.",
            left="the queue as it is; the source is looked at by the cron sweep",
            next=f"Add 'QueueEndpoint=https://<queue service>/...' to the string of {self.account.connection!r}.",
        )

    def ensure(self) -> None:
        """Make the queue if it is not there."""
        from azure.core.exceptions import ResourceExistsError

        with self._errors(), contextlib.suppress(ResourceExistsError):
            self._client.create_queue()

    def receive(self, *, hidden_seconds: int) -> tuple[Message, ...]:
        """At most ``MOST_AT_ONCE`` messages, which nobody else gets for ``hidden_seconds``."""
        with self._errors():
            page = self._client.receive_messages(
                messages_per_page=MOST_AT_ONCE, max_messages=MOST_AT_ONCE, visibility_timeout=hidden_seconds
            )
            return tuple(
                Message(
                    id=str(one.id),
                    receipt=str(one.pop_receipt),
                    body=str(one.content),
                    deliveries=int(one.dequeue_count or 0),
                )
                for one in page
            )

    def put(self, body: str) -> None:
        """Send a message."""
        with self._errors():
            self._client.send_message(body)

    def delete(self, message: Message) -> bool:
        """Remove the message; False if it was delivered to somebody else since, or is gone."""
        from azure.core.exceptions import HttpResponseError

        try:
            with self._errors():
                self._client.delete_message(message.id, message.receipt)
        except NotFoundError:
            return False
        except HttpResponseError as error:
            if getattr(error, "error_code", "") == "PopReceiptMismatch":
                return False
            raise
        return True
