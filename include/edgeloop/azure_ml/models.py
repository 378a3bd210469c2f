"""A workspace's models as registry of one pipeline: the backend ``azure_ml``, a mirror of the store.

REST with a pinned, stable api-version and not azure-ai-ml's ``models.create_or_update``: that asks for the newest
version before every write, even with a number given, cannot be told where the bytes go, sends a preview version, and
costs 4 to 6 s and 141 MB to import. The number is always ours. What carries it: a version's ``modelUri`` cannot change,
and ours names the sha256, so the service itself refuses other bytes under a number.

The service has no ETags for models: of two that change tags of one version at once the last wins. Everything here
writes the whole of what the store says, so the next mirror task, or ``edgeloop reconcile``, ends it.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from edgeloop.azure_ml import model_version
from edgeloop.azure_ml.model_bytes import ModelBytes, place_of
from edgeloop.azure_ml.workspace import MODEL_VERSION
from edgeloop.errors import ConflictError, IntegrityError, NotFoundError
from edgeloop.records import sha256_hex
from edgeloop.registry.backend import QUARANTINED

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from edgeloop.azure_ml.arm import ArmClient
    from edgeloop.azure_ml.workspace import WorkspaceEndpoint
    from edgeloop.registry.backend import Listed

DATASTORE = "workspaceblobstore"


class AzureModels:
    """The versions of one model in a workspace.

    Args:
        arm: Who asks.
        workspace: Where.
        bytes_: Where their bytes are.
        name: The pipeline's, and so the model's.
    """

    def __init__(self, arm: ArmClient, workspace: WorkspaceEndpoint, bytes_: ModelBytes, name: str) -> None:
        self._arm, self._workspace, self._bytes, self.name = arm, workspace, bytes_, name

    @property
    def path(self) -> str:
        """The model's, to which ``/versions/<n>`` is added."""
        return f"{self._workspace.id}/models/{self.name}"

    def publish(self, wanted: Listed, content: bytes) -> Listed:
        """See :class:`edgeloop.registry.backend.ModelRegistry`. Bytes first: a version that is there is whole.

        Raises also ``IntegrityError`` if ``content`` is not what ``wanted`` says.
        """
        if (len(content), sha256_hex(content)) != (wanted.size, wanted.sha256):
            raise IntegrityError(
                f"The bytes of version {wanted.version} of {self.name} are not those of its record.",
                left="the workspace as it is",
                next=f"Restore models/{wanted.sha256}.onnx in the pipeline's container from a backup.",
            )
        found = self._resource(wanted.version)
        self._require_same(wanted, found)
        blob = model_version.blob_name(self.name, wanted.sha256)
        self._bytes.keep(blob, content, wanted.sha256)
        there = None if found is None else _shown(found)
        kept = replace(
            wanted,
            tags={**(there.tags if there else {}), **wanted.tags},
            aliases=there.aliases if there else frozenset(),
        )
        try:
            self._write(model_version.shortened(kept), found)
        except ConflictError:
            # Somebody else published this number meanwhile: the same model is as good, another is told.
            self._require_same(wanted, self._resource(wanted.version))
            raise
        self._keep_aliases(wanted)
        return self._get(wanted.version)

    def find(self, version: int) -> Listed | None:
        """See the protocol. Reads the bytes: size and sha256 are those of what is there, not what somebody says."""
        found = self._resource(version)
        return None if found is None else self._listed(found, read=True)

    def versions(self) -> tuple[Listed, ...]:
        """See the protocol. Size and sha256 are what storage says of the bytes; :meth:`find` reads them."""
        return tuple(self._listed(found) for _, found in sorted(self._all().items()))

    def tag(self, version: int, tags: Mapping[str, str]) -> Listed:
        """See the protocol."""
        found = self._require(version)
        now = _shown(found)
        self._write(model_version.shortened(replace(now, tags={**now.tags, **tags})), found)
        return self._get(version)

    def alias(self, aliases: Mapping[str, int | Collection[int]]) -> None:
        """See the protocol."""
        wanted: dict[int, set[str]] = {}
        for alias, numbers in aliases.items():
            for number in (numbers,) if isinstance(numbers, int) else numbers:
                wanted.setdefault(number, set()).add(alias)
        there = self._all()
        for number in wanted.keys() - there.keys():
            self._require(number)
        # Taken off before it is put on: whoever looks in between finds no champion rather than two.
        for number in sorted(there, key=lambda one: (one in wanted, one)):
            now = _shown(there[number])
            names = frozenset(wanted.get(number, ()))
            if now.model and now.aliases != names:
                self._write(replace(now, aliases=names), there[number])

    def _keep_aliases(self, wanted: Listed) -> None:
        """Give a version the aliases that it is published with; whoever was champion or challenger before is not."""
        if wanted.aliases <= _shown(self._require(wanted.version)).aliases:
            return
        named: dict[str, set[int]] = {alias: {wanted.version} for alias in wanted.aliases}
        for number, found in self._all().items():
            for alias in _shown(found).aliases:
                if alias == QUARANTINED or alias not in wanted.aliases:
                    named.setdefault(alias, set()).add(number)
        self.alias(named)

    def _write(self, wanted: Listed, found: Mapping[str, Any] | None) -> None:
        there = (found or {}).get("properties")
        uri = (there or {}).get("modelUri") or model_version.model_uri(
            self._workspace, self._bytes.place.datastore, model_version.blob_name(self.name, wanted.sha256)
        )
        body = model_version.body(wanted, uri, there)
        if found is None or not model_version.same(found, body):
            self._arm.put(f"{self.path}/versions/{wanted.version}", MODEL_VERSION, body)

    def _require_same(self, wanted: Listed, found: Mapping[str, Any] | None) -> None:
        if found is None:
            return
        model = _shown(found).model
        if (model, _shown(found).sha256) != (wanted.model, wanted.sha256):
            raise ConflictError(
                f"Version {wanted.version} of model {self.name!r} in workspace {self._workspace.workspace!r} is "
                f"{f'model {model[:16]}' if model else 'one that Edgeloop did not publish'}, not {wanted.model[:16]}: "
                "a version is never changed in place.",
                left="that version as it is; the store, whose number it is",
                next="If somebody registered it by hand, delete it (`az ml model archive` does not free the number; "
                "the studio's Delete does). If another pipeline has this name in the workspace, give one of them "
                "another workspace. Then run `edgeloop reconcile <pipeline> --mend`.",
            )

    def _listed(self, found: Mapping[str, Any], *, read: bool = False) -> Listed:
        blob = self._blob(str(found["properties"].get("modelUri") or ""))
        look = self._bytes.digest if read else self._bytes.seen
        size, sha256 = look(blob) if blob else (0, "")
        return replace(_shown(found), size=size, sha256=sha256)

    def _blob(self, uri: str) -> str:
        """The blob behind a version, "" if it lies elsewhere than ours do."""
        _, marked, blob = uri.partition(f"/datastores/{self._bytes.place.datastore}/paths/")
        return blob if marked and uri.startswith("azureml://") else ""

    def _resource(self, version: int) -> dict[str, Any] | None:
        return self._arm.find(f"{self.path}/versions/{version}", MODEL_VERSION)

    def _require(self, version: int) -> dict[str, Any]:
        found = self._resource(version)
        if found is None:
            raise NotFoundError(
                f"Model {self.name!r} has no version {version} in workspace {self._workspace.workspace!r}.",
                left="the workspace as it is",
                next="Clear the mirror task of its training, or run `edgeloop reconcile <pipeline> --mend`.",
            )
        return found

    def _get(self, version: int) -> Listed:
        return self._listed(self._require(version))

    def _all(self) -> dict[int, dict[str, Any]]:
        """Every version with a number, archived ones too."""
        try:
            listing = list(self._arm.pages(f"{self.path}/versions", MODEL_VERSION, query={"listViewType": "All"}))
        except NotFoundError:
            return {}
        return {int(one["name"]): one for one in listing if str(one["name"]).isdecimal()}


def _shown(found: Mapping[str, Any]) -> Listed:
    """A version with the bytes that it was published with, whatever became of them."""
    return model_version.listed(int(found["name"]), found["properties"])


@contextmanager
def opened(workspace: WorkspaceEndpoint, name: str, datastore: str = DATASTORE) -> Iterator[AzureModels]:
    """The registry of one pipeline in a workspace."""
    with workspace.connect() as arm, ModelBytes(place_of(arm, workspace, datastore), workspace) as bytes_:
        yield AzureModels(arm, workspace, bytes_, name)
