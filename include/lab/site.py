"""What a site that is up looks like to everybody else: frozen records, and `<state>/site.json` that holds them.

Nothing here starts or stops anything. A process in any network namespace may load it.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from lab.errors import LabError

FILE = "site.json"
DEVICES = ("R80711", "R80721", "R80736")


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """The historian's share: `path` on this machine, and the same folder as `share` on `host`:`port` by SMB 3."""

    path: Path
    host: str
    port: int
    share: str
    user: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """One storage account of the blob server; `url` ends in the account's name, `key` is base64."""

    account: str
    key: str = field(repr=False)
    url: str
    connection_string: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Blob:
    """The Stack Hub's private account and the cloud's."""

    private: Account
    cloud: Account


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """A machine that SSH reaches: `host_key` is "<type> <base64>", `docker` its engine's socket on this machine."""

    name: str
    host: str
    port: int
    user: str
    key_file: Path
    host_key: str
    docker: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Device(Host):
    """An edge device; `share` is its local share as seen from this machine, written by user 10001."""

    share: Path
    scorer_port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Registry:
    """The container registry, plain HTTP: `host` is "<address>:<port>"."""

    host: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Builder:
    """The engine that builds and proves images."""

    docker: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Postgres:
    """SQLAlchemy URLs of the database `airflow`."""

    sync: str
    async_: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Airflow:
    """Where this site's Airflow listens when somebody starts it."""

    port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Images:
    """References of the base images in the VM's and the builder's engines; empty when they were not made."""

    trainer: str = ""
    scorer_base: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """A whole site. `state` is its folder, `cache` is shared by all sites of this machine."""

    name: str
    index: int
    state: Path
    cache: Path
    share: Share
    blob: Blob
    vm: Host
    devices: tuple[Device, ...]
    registry: Registry
    builder: Builder
    postgres: Postgres
    airflow: Airflow
    images: Images

    def device(self, name: str) -> Device:
        """The device called `name`; raises LabError when the site has none."""
        for device in self.devices:
            if device.name == name:
                return device
        known = ", ".join(device.name for device in self.devices)
        what = f"site {self.name} has no device {name}"
        raise LabError(what, next=f"name one of {known}")

    def netns(self, host: str) -> str:
        """The network namespace of the host called `host` ("vm", "builder" or a device's name)."""
        return netns_name(self.name, host)


def netns_name(site: str, host: str) -> str:
    """The name under which `ip netns` knows a host of a site."""
    return f"el-{site}-{host}"


def state_root() -> Path:
    """The folder that holds each site's state folder."""
    return Path(os.environ.get("EDGELOOP_LAB_STATE", "/var/lib/edgeloop"))


def state_of(name: str) -> Path:
    """The state folder of the site called `name`."""
    return state_root() / name


def cache_root() -> Path:
    """The folder of what all sites share: base images, node modules, data."""
    return Path(os.environ.get("EDGELOOP_LAB_CACHE", "/var/cache/edgeloop"))


def save(site: Site) -> Path:
    """Write `<state>/site.json`, whole or not at all, readable by its owner only. Returns its path."""
    path = site.state / FILE
    part = path.with_suffix(".part")
    part.touch(mode=0o600)
    part.chmod(0o600)
    part.write_text(json.dumps(_plain(site), indent=1) + "\n")
    part.replace(path)
    return path


def load(state: Path | str) -> Site:
    """Read the site whose state folder is `state`; raises LabError when it is not up or the file is damaged."""
    path = Path(state) / FILE
    try:
        raw = json.loads(path.read_text())
    except FileNotFoundError:
        name = Path(state).name
        what = f"site {name} is not up: {path} does not exist"
        raise LabError(what, next=f"python -m lab up --site {name}") from None
    except ValueError as error:
        what = f"{path} is not JSON: {error}"
        raise LabError(what, left=str(path), next="python -m lab up writes it again") from error
    site = _build(Site, raw, path)
    assert isinstance(site, Site)
    return site


def _plain(value: object) -> Any:
    if is_dataclass(value):
        return {f.name.rstrip("_"): _plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def _build(kind: Any, raw: Any, path: Path) -> Any:
    if is_dataclass(kind):
        hints = get_type_hints(kind)
        try:
            return kind(**{f.name: _build(hints[f.name], raw[f.name.rstrip("_")], path) for f in fields(kind)})  # type: ignore[operator]
        except (KeyError, TypeError) as error:
            what = f"{path} lacks {error} of {getattr(kind, '__name__', kind)}"
            raise LabError(what, left=str(path), next="python -m lab up writes it again") from error
    if get_origin(kind) is tuple:
        return tuple(_build(get_args(kind)[0], item, path) for item in raw)
    return kind(raw)
