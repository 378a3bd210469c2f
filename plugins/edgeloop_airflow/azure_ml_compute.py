"""A VM as compute target of an Azure Machine Learning workspace, and a data asset there: for a DAG of one's own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from edgeloop.azure_ml import compute, data_asset
from edgeloop.azure_ml.data_asset import DataAsset
from edgeloop.azure_ml.handover import target_of, vm_target
from edgeloop_airflow import hooks
from edgeloop_airflow.azure_ml import azure_ml_workspace, plain_section, plain_workspace
from edgeloop_airflow.azure_ml_mirror import section_of
from edgeloop_airflow.discreet import discreet

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow.sdk import Context

    from edgeloop.azure_ml.compute import VmTarget
    from edgeloop.azure_ml.workspace import WorkspaceEndpoint

__all__ = ["AttachToWorkspaceOperator", "DetachFromWorkspaceOperator", "RegisterDataAssetOperator"]


class _AtWorkspace(BaseOperator):
    """A task at one workspace: a pipeline's, or one named by plain arguments."""

    template_fields: Sequence[str] = ("subscription", "resource_group", "workspace", "compute")

    def __init__(
        self,
        *,
        pipeline: str = "",
        azure: str = "azure_default",
        subscription: str = "",
        resource_group: str = "",
        workspace: str = "",
        compute: str = "edge-vm",
        **kwargs: Any,
    ) -> None:
        if bool(pipeline) == bool(resource_group and workspace):
            raise ValueError(
                f"{type(self).__name__} takes either the name of a pipeline, or resource_group and workspace"
            )
        super().__init__(**kwargs)
        self.pipeline, self.azure = pipeline, azure
        self.subscription, self.resource_group, self.workspace = subscription, resource_group, workspace
        self.compute = compute

    def _place(self) -> WorkspaceEndpoint:
        if self.pipeline:
            return azure_ml_workspace(section_of(hooks.desk(self.pipeline).snapshot.spec))
        return plain_workspace(self.azure, self.subscription, self.resource_group, self.workspace)


class AttachToWorkspaceOperator(_AtWorkspace):
    """Makes a workspace know a VM, once; another address or user is a change, another kind of compute is refused.

    Args:
        pipeline: The pipeline whose VM and workspace are meant; "" for the arguments below.
        connection: The VM's ``edgeloop_ssh`` connection.
        resource_id: ARM id of a VM of Azure; "" attaches it by the connection's host.
        send_key: Hand Azure the connection's private key.
        azure: Connection of type ``azure``.
        subscription: Of the workspace; "" is ``extra.subscriptionId`` of that connection.
        resource_group, workspace: Where it is.
        compute: What the VM is called there.

    Returns the compute's name.
    """

    def __init__(
        self, *, connection: str = "edgeloop_vm", resource_id: str = "", send_key: bool = False, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.connection, self.resource_id, self.send_key = connection, resource_id, send_key

    @discreet
    def execute(self, context: Context) -> str:
        """Attach it; raises ``ConflictError`` for a name that is taken and ``CloudError`` where Azure could not."""
        del context
        target, place = self._target(), self._place()
        with place.connect() as arm:
            compute.attach(arm, place, target, self.log.info)
        return target.name

    def _target(self) -> VmTarget:
        if self.pipeline:
            spec = hooks.desk(self.pipeline).snapshot.spec
            return target_of(spec, section_of(spec), hooks.ssh_endpoint(spec.training.connection))
        section = plain_section(
            self.azure, self.subscription, self.resource_group, self.workspace,
            compute=self.compute, resource_id=self.resource_id, send_key=self.send_key,
        )  # fmt: skip
        return vm_target(section, hooks.ssh_endpoint(self.connection))


class DetachFromWorkspaceOperator(_AtWorkspace):
    """Makes a workspace forget a VM, which itself is left alone; returns whether it knew it.

    Args:
        pipeline: The pipeline whose VM and workspace are meant; "" for the arguments below.
        connection: Of the VM: one that was attached through another connection is refused. "" takes any.
        azure, subscription, resource_group, workspace, compute: As for attaching.
    """

    def __init__(self, *, connection: str = "", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.connection = connection

    @discreet
    def execute(self, context: Context) -> bool:
        """Detach it; that it is not there is no error."""
        del context
        name, mine = self.compute, self.connection
        if self.pipeline:
            spec = hooks.desk(self.pipeline).snapshot.spec
            name, mine = section_of(spec).compute, spec.training.connection
        place = self._place()
        with place.connect() as arm:
            known = compute.detach(arm, place, name, mine)
        self.log.info("Compute %s %s", name, "is detached" if known else "was not there")
        return known


class RegisterDataAssetOperator(_AtWorkspace):
    """Makes a workspace know data where it lies, under an explicit version; returns ``azureml:<name>:<version>``.

    Args:
        name: The asset's name.
        version: Best a digest of what it points at. A version that points elsewhere is never changed.
        uri: ``https://...``, ``azureml://...``, ``wasbs://...`` or ``abfss://...``.
        kind: ``uri_file``, ``uri_folder`` or ``mltable``.
        tags: Texts.
        azure, subscription, resource_group, workspace: As for attaching.
    """

    template_fields: Sequence[str] = (*_AtWorkspace.template_fields, "name", "version", "uri", "tags")

    def __init__(
        self,
        *,
        name: str,
        version: str,
        uri: str,
        kind: str = "uri_folder",
        tags: Mapping[str, str] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.name, self.version, self.uri, self.kind, self.tags = name, version, uri, kind, dict(tags or {})

    @discreet
    def execute(self, context: Context) -> str:
        """Register it; what is there already is one look."""
        del context
        asset = DataAsset(
            name=self.name, version=self.version, uri=self.uri, kind=self.kind, tags=tuple(sorted(self.tags.items()))
        )
        place = self._place()
        with place.connect() as arm:
            return data_asset.register(arm, place, asset, self.log.info).reference
