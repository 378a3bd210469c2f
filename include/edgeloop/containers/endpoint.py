"""Where Docker engines and container registries answer."""

from __future__ import annotations

from dataclasses import dataclass, field


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

    @property
    def url(self) -> str:
        """The base address of its API."""
        return f"{'http' if self.insecure else 'https'}://{self.host}"
