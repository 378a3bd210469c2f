"""The hooks behind Edgeloop's connection types; each can test its connection from the UI."""

from __future__ import annotations

from airflow.sdk import BaseHook

from edgeloop.errors import ConfigurationError, EdgeloopError

CONNECT_SECONDS = 5.0


class SshConnection(BaseHook):
    """``edgeloop_ssh``: a training VM or an edge device."""

    conn_name_attr = "conn_id"
    default_conn_name = "edgeloop_vm"
    conn_type = "edgeloop_ssh"
    hook_name = "Edgeloop SSH (training VM, edge device)"

    def __init__(self, conn_id: str = default_conn_name) -> None:
        super().__init__()
        self.conn_id = conn_id

    def test_connection(self) -> tuple[bool, str]:
        """Whether it answers, is who it should be and lets us in; then Docker, free disk and the clock."""
        from edgeloop.training.checkup import checkup
        from edgeloop_airflow.hooks import ssh_endpoint

        try:
            found = checkup(ssh_endpoint(self.conn_id))
        except ConfigurationError as error:
            return False, str(error)
        return all(one.good for one in found), " ".join(one.text for one in found)


class DockerConnection(BaseHook):
    """``edgeloop_docker``: the engine that builds and proves images."""

    conn_name_attr = "conn_id"
    default_conn_name = "edgeloop_builder"
    conn_type = "edgeloop_docker"
    hook_name = "Edgeloop Docker engine"

    def __init__(self, conn_id: str = default_conn_name) -> None:
        super().__init__()
        self.conn_id = conn_id

    def test_connection(self) -> tuple[bool, str]:
        """Whether the engine answers a ping."""
        import docker

        from edgeloop_airflow.hooks import engine_endpoint

        try:
            endpoint = engine_endpoint(self.conn_id)
        except ConfigurationError as error:
            return False, str(error)
        try:
            docker.DockerClient(base_url=endpoint.url, timeout=int(CONNECT_SECONDS)).ping()
        except docker.errors.DockerException as error:
            return False, f"{endpoint.url} does not answer ({error}). Check the engine and host of {self.conn_id!r}."
        return True, "The engine answers."


class RegistryConnection(BaseHook):
    """``edgeloop_registry``: where images are pushed and devices pull from."""

    conn_name_attr = "conn_id"
    default_conn_name = "edgeloop_registry"
    conn_type = "edgeloop_registry"
    hook_name = "Edgeloop container registry"

    def __init__(self, conn_id: str = default_conn_name) -> None:
        super().__init__()
        self.conn_id = conn_id

    def test_connection(self) -> tuple[bool, str]:
        """Whether the registry answers, is who it should be and lets us in."""
        from edgeloop.containers.registry import Registry
        from edgeloop_airflow.hooks import registry_endpoint

        try:
            Registry(registry_endpoint(self.conn_id)).check()
        except EdgeloopError as error:
            return False, str(error)
        return True, "The registry answers and the login is good."


class AirflowConnection(BaseHook):
    """``edgeloop_airflow``: the REST API of the Airflow that Edgeloop runs in, as a user who may clear and trigger."""

    conn_name_attr = "conn_id"
    default_conn_name = "edgeloop_airflow"
    conn_type = "edgeloop_airflow"
    hook_name = "Edgeloop's own Airflow (REST API)"

    def __init__(self, conn_id: str = default_conn_name) -> None:
        super().__init__()
        self.conn_id = conn_id

    def test_connection(self) -> tuple[bool, str]:
        """Whether the API answers and the login may look at DAGs."""
        from edgeloop_airflow.rest import AirflowRest, endpoint

        try:
            with AirflowRest(endpoint(self.conn_id), whole_seconds=CONNECT_SECONDS) as rest:
                rest.check()
        except EdgeloopError as error:
            return False, str(error)
        return True, "The API answers and the login is good."
