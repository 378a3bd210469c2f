"""Getting into a registry: TLS with an authority of its own, Basic, tokens; and what is said where that fails."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from tests.registries import PASSWORD, USER, Authority, RegistryServer, image, layer_file
from tests.token_front import TokenFront

from edgeloop.containers import auth, registry_wire
from edgeloop.containers.content import OCI_LAYER, Content
from edgeloop.containers.endpoint import PullLogin, RegistryEndpoint
from edgeloop.containers.registry import Registry
from edgeloop.errors import ConfigurationError, UnreachableError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

REPOSITORY = "tests/wind"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Short waits."""
    monkeypatch.setattr(registry_wire, "BACKOFF_SECONDS", 0.01)


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """An authority that no machine trusts."""
    return Authority.of(tmp_path_factory.mktemp("tls"), "127.0.0.1")


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory, tls: Authority) -> Iterator[RegistryServer]:
    """A registry with TLS that lets USER in with PASSWORD, by Basic."""
    one = RegistryServer(tmp_path_factory.mktemp("guarded"), tls=tls, login=True).start()
    yield one
    one.stop()


@pytest.fixture
def front(tmp_path: Path, tls: Authority) -> Iterator[TokenFront]:
    """A registry that lets in by tokens."""
    behind = RegistryServer(tmp_path).start()
    one = TokenFront(registry=behind, tls=tls).start()
    yield one
    one.close()
    behind.stop()


def admin(front: TokenFront, **changes: object) -> RegistryEndpoint:
    """The registry by its admin's user and password."""
    endpoint = RegistryEndpoint(
        connection="edgeloop_registry", host=front.address, user=USER, password=PASSWORD, ca_file=str(front.tls.ca)
    )
    return replace(endpoint, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ('Basic realm="x"', auth.Challenge(scheme="basic", realm="x")),
        (
            'Bearer realm="https://h/token",service="h",scope="repository:a/b:pull,push"',
            auth.Challenge(scheme="bearer", realm="https://h/token", service="h", scope="repository:a/b:pull,push"),
        ),
        (
            'bearer  realm = "https://h/t" , service=h',
            auth.Challenge(scheme="bearer", realm="https://h/t", service="h"),
        ),
        ('Basic realm="a, b", Bearer realm="https://h/t"', auth.Challenge(scheme="bearer", realm="https://h/t")),
        ("Negotiate", auth.Challenge(scheme="")),
        ("", auth.Challenge(scheme="")),
    ],
)
def test_a_challenge_is_read_as_registries_write_it(header: str, expected: auth.Challenge) -> None:
    """Commas in quotes, blanks, capitals, several schemes; a token goes before a password."""
    assert auth.challenge(header) == expected


@pytest.mark.system
def test_a_push_over_tls_with_a_login(guarded: RegistryServer, tmp_path: Path) -> None:
    """By the registry's own authority and a password; the same as anywhere else."""
    whole = image(layer_file(tmp_path, 5 << 20), Content.of(b"x", OCI_LAYER))
    registry = Registry(guarded.endpoint())
    registry.check()
    assert registry.push(REPOSITORY, "v1", whole).digest == whole.digest
    assert registry.pull_login(REPOSITORY, whole.digest) == PullLogin(
        host=guarded.address, user=USER, password=PASSWORD
    )


@pytest.mark.system
@pytest.mark.parametrize(
    ("changes", "said", "advice"),
    [
        ({"password": "wrong"}, r"did not let connection 'edgeloop_registry' in as user 'pusher'", "docker login"),
        ({"user": "", "password": ""}, r"did not let connection 'edgeloop_registry' in as nobody", "extra.azure"),
        ({"ca_file": ""}, "shows a certificate that the machine's authorities did not sign", "extra.ca_file"),
        ({"ca_file": "/nowhere/ca.pem"}, "Connection 'edgeloop_registry' cannot be used: .*nowhere", "on every worker"),
        ({"host": "127.0.0.1:1"}, "did not answer", "curl https://127.0.0.1:1/v2/"),
    ],
)
def test_whoever_is_not_let_in_is_told_why(
    guarded: RegistryServer, changes: dict[str, str], said: str, advice: str
) -> None:
    """A wrong password, none, an authority that is not trusted, a missing file, and a silent host are five errors."""
    with pytest.raises((ConfigurationError, UnreachableError), match=said) as caught:
        Registry(replace(guarded.endpoint(), **changes)).push(REPOSITORY, "v1", image())
    assert advice in caught.value.next
    assert PASSWORD not in str(caught.value)
    assert isinstance(caught.value, UnreachableError) == ("host" in changes)


@pytest.mark.system
def test_plain_http_and_tls_are_not_mistaken_for_silence(guarded: RegistryServer, tmp_path: Path) -> None:
    """TLS where there is none says what to set; plain HTTP where there is TLS is refused by the registry."""
    plain = RegistryServer(tmp_path).start()
    try:
        with pytest.raises(ConfigurationError, match="speaks no TLS"):
            Registry(plain.endpoint(insecure=False)).check()
    finally:
        plain.stop()


@pytest.mark.system
def test_a_login_of_netrc_or_a_bundle_of_the_environment_changes_nothing(
    guarded: RegistryServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What stands in the connection counts, whatever the worker's user has lying about."""
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login somebody password else\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nowhere/bundle.pem")
    Registry(guarded.endpoint()).check()


@pytest.mark.system
def test_tokens_are_made_for_each_repository_and_made_anew_when_they_end(front: TokenFront, tmp_path: Path) -> None:
    """One token serves a push as long as it lasts; one that ends in the middle of a push costs one request."""
    whole = image(layer_file(tmp_path, 9 << 20), Content.of(b"x", OCI_LAYER))
    registry = Registry(admin(front))
    assert registry.push(REPOSITORY, "v1", whole).digest == whole.digest
    assert front.issued == [f"repository:{REPOSITORY}:pull,push", f"repository:{REPOSITORY}:pull"]
    front.uses = 3
    assert Registry(admin(front)).push("tests/other", "v1", whole).digest == whole.digest
    assert len(front.issued) > 5
    assert set(front.issued[2:]) == {"repository:tests/other:pull,push", "repository:tests/other:pull"}


@pytest.mark.system
def test_a_device_is_given_a_token_that_pulls_that_repository_and_no_more(front: TokenFront) -> None:
    """Not our password: what a device holds for a moment cannot push, nor pull anything else."""
    registry, whole = Registry(admin(front)), image()
    registry.push(REPOSITORY, "v1", whole)
    login = registry.pull_login(REPOSITORY, whole.digest)
    assert login is not None
    assert (login.user, login.password) == ("", "")
    token = front.tokens[login.token]
    assert token.allows(REPOSITORY, push=False)
    assert not token.allows(REPOSITORY, push=True)
    assert not token.allows("tests/other", push=False)
    assert login.token not in repr(login)


@pytest.mark.system
@pytest.mark.parametrize(
    ("may", "changes", "said"),
    [
        ("pull", {}, "asked for|did not let connection|knows the login, which may not do that"),
        ("pull,push", {"password": "wrong"}, "invalid username or password"),
        ("pull,push", {"user": "", "password": ""}, "as nobody"),
    ],
)
def test_a_token_that_is_refused_or_too_weak_is_an_error_of_the_login(
    front: TokenFront, may: str, changes: dict[str, str], said: str
) -> None:
    """The registry is there; who asks is the matter."""
    front.may = may
    with pytest.raises(ConfigurationError, match=said):
        Registry(admin(front, **changes)).push(REPOSITORY, "v1", image())


@pytest.mark.system
def test_credentials_do_not_follow_a_challenge_out_of_tls(front: TokenFront, monkeypatch: pytest.MonkeyPatch) -> None:
    """A registry with TLS that names a place without it for tokens is refused before anything is sent."""
    plain = auth.challenge('Bearer realm="http://127.0.0.1:9/token",service="x"')
    monkeypatch.setattr(auth, "challenge", lambda _: plain)
    with pytest.raises(ConfigurationError, match=re.escape("'http://127.0.0.1:9/token' for its token")):
        Registry(admin(front)).check()
