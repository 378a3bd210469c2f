"""Devices pull over TLS from a registry that wants a login, and keep nothing of it."""

from __future__ import annotations

import json
import shlex
import shutil
import uuid
from typing import TYPE_CHECKING, Any

import pytest
from tests.registries import PASSWORD, USER, Authority, RegistryServer, pullable
from tests.shipyard import endpoint
from tests.token_front import TokenFront

from edgeloop.containers.endpoint import PullLogin, RegistryEndpoint
from edgeloop.containers.registry import Registry
from edgeloop.errors import RemoteCommandError
from edgeloop.rollout import pull_login
from edgeloop.rollout.fleet import Device, SshDockerFleet
from edgeloop.ssh.shell import Shell

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from edgeloop.containers.content import ImageContent
    from lab.site import Site

REPOSITORY = "tests/wind"


@pytest.fixture(scope="module")
def tls(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """An authority for the address at which devices reach this machine."""
    return Authority.of(tmp_path_factory.mktemp("tls"), site.registry.host.partition(":")[0])


@pytest.fixture(scope="module")
def guarded(site: Site, tls: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryServer]:
    """A registry with TLS and Basic, whose authority the devices' engines know."""
    folder = tmp_path_factory.mktemp("guarded")
    one = RegistryServer(folder, host=site.registry.host.partition(":")[0], tls=tls, login=True).start()
    yield from _trusted(site, one.address, tls, one)
    one.stop()


@pytest.fixture
def front(site: Site, tls: Authority, tmp_path: Path) -> Iterator[TokenFront]:
    """As Azure's registries let people in, with an authority that the devices' engines know."""
    behind = RegistryServer(tmp_path).start()
    one = TokenFront(registry=behind, tls=tls, host=site.registry.host.partition(":")[0]).start()
    yield from _trusted(site, one.address, tls, one)
    one.close()
    behind.stop()


def _trusted(site: Site, address: str, tls: Authority, one: Any) -> Iterator[Any]:
    # What the device has as /etc/docker.
    folder = site.state / "hosts" / site.devices[0].name / "etc-docker" / "certs.d" / address
    folder.mkdir(parents=True)
    shutil.copy(tls.ca, folder / "ca.crt")
    try:
        yield one
    finally:
        shutil.rmtree(folder)


@pytest.fixture
def whole() -> ImageContent:
    """An image that no device has yet."""
    return pullable(uuid.uuid4().hex)


def fleet(site: Site, login: PullLogin | None) -> SshDockerFleet:
    """The first device, which logs in so."""
    one = site.devices[0]
    return SshDockerFleet("wind", {one.name: Device(endpoint=endpoint(one), share=str(one.share))}, 1, lambda _: login)


def left_behind(site: Site) -> str:
    """What the device keeps of logins."""
    with Shell(endpoint(site.devices[0])) as shell:
        return shell.run(f"ls -d {pull_login.FOLDER}/{pull_login.PREFIX}* ~/.docker 2>/dev/null", timeout=10).text


def test_the_command_names_no_secret_and_cleans_up() -> None:
    """Exactly this text; what is secret comes through stdin, a token or a password."""
    told = shlex.split(pull_login.pull("r:5000/a@sha256:1"))
    assert told[:2] == ["sh", "-c"]
    assert told[2] == (
        "find /dev/shm -maxdepth 1 -name 'edgeloop-pull.*' -user \"$(id -u)\" -mmin +60 -exec rm -rf {} +; "
        "login=$(mktemp -d /dev/shm/edgeloop-pull.XXXXXX) || exit 1; "
        "trap 'rm -rf \"$login\"' EXIT; trap 'exit 129' HUP INT TERM; "
        'cat > "$login/config.json" && docker --config "$login" pull r:5000/a@sha256:1'
    )
    by_name = pull_login.stdin(PullLogin(host="r:5000", user="u", password="p"))
    assert json.loads(by_name) == {"auths": {"r:5000": {"auth": "dTpw"}}}
    by_token = pull_login.stdin(PullLogin(host="r:5000", token="t"))
    assert json.loads(by_token) == {"auths": {"r:5000": {"registrytoken": "t"}}}


def test_a_device_pulls_with_a_password(site: Site, guarded: RegistryServer, whole: ImageContent) -> None:
    """Pushed and pulled over TLS by a login; without one it is refused; nothing of it stays on the device."""
    registry = Registry(guarded.endpoint())
    registry.push(REPOSITORY, "v1", whole)
    reference, name = f"{guarded.address}/{REPOSITORY}@{whole.digest}", site.devices[0].name
    for wrong in (None, PullLogin(host=guarded.address, user=USER, password="wrong")):
        with pytest.raises(RemoteCommandError, match=r"unauthorized|no basic auth") as caught:
            fleet(site, wrong).prefetch(name, reference)
        assert "wrong" not in str(caught.value)
    login = registry.pull_login(REPOSITORY, whole.digest)
    assert not fleet(site, login).prefetch(name, reference).found
    assert fleet(site, login).prefetch(name, reference).found
    assert left_behind(site) == ""


def test_a_device_pulls_with_a_token_for_that_repository(site: Site, front: TokenFront, whole: ImageContent) -> None:
    """It gets neither our password nor the right to push; the engine asks for no token of its own."""
    admin = RegistryEndpoint(
        connection="edgeloop_registry", host=front.address, user=USER, password=PASSWORD, ca_file=str(front.tls.ca)
    )
    registry = Registry(admin)
    registry.push(REPOSITORY, "v1", whole)
    login = registry.pull_login(REPOSITORY, whole.digest)
    issued = len(front.issued)
    reference = f"{front.address}/{REPOSITORY}@{whole.digest}"
    assert not fleet(site, login).prefetch(site.devices[0].name, reference).found
    assert len(front.issued) == issued
    assert left_behind(site) == ""
