"""Where Docker engines and container registries answer."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgeloop.azure_ml.identity import Identity


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineEndpoint:
    """A Docker engine: ``url`` is ``unix:///...`` or ``tcp://...``; ``connection`` is the id that errors name."""

    connection: str
    url: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistryEndpoint:
    """A container registry: ``host`` with port, as image references begin; ``insecure`` speaks plain HTTP."""

    connection: str
    host: str
    user: str = ""
    password: str = field(default="", repr=False)
    insecure: bool = False
    ca_file: str = ""
    """The only authorities to trust there, as a PEM file; "" trusts those of the machine."""
    identity: Identity | None = None
    """Who asks an Azure Container Registry by a token of Entra ID, instead of ``user`` and ``password``."""

    @property
    def url(self) -> str:
        """The base address of its API."""
        return f"{'http' if self.insecure else 'https'}://{self.host}"


@dataclass(frozen=True, slots=True, kw_only=True)
class PullLogin:
    """What a Docker engine needs to pull from the registry at ``host``: a token, or a user with a password."""

    host: str
    user: str = ""
    password: str = field(default="", repr=False)
    token: str = field(default="", repr=False)
