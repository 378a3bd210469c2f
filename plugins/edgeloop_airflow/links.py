"""Links from a task in the UI to what it made in blob storage."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

from airflow.sdk import BaseOperatorLink

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator
    from airflow.sdk.types import TaskInstanceKey

    from edgeloop.azure.blob import BlobContainer


def blob_url(blobs: BlobContainer, name: str) -> str:
    """Where a blob is, without anything that opens it: the address stands in XCom and in the UI."""
    container = urlsplit(blobs.account.client(blobs.name).url)
    return container._replace(path=f"{container.path}/{quote(name)}", query="", fragment="").geturl()


class DataDocsLink(BaseOperatorLink):
    """The Data Docs of the batch that the task judged, whether it was certified or blocked.

    Airflow asks for the link in the task's own process when the task has ended, and keeps it as an XCom that the UI
    reads; the operator says where the page is in ``docs_url``.
    """

    name = "Data Docs"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """The page's address; "" if there is none, which the UI shows as a button that is off."""
        del ti_key
        return str(getattr(operator, "docs_url", ""))
