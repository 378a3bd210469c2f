"""The site's network: one namespace per host, each on a bridge in a hub namespace, the root namespace as .1.

A bridge in a namespace of its own leaves the machine's own links alone, and a host's cable can be pulled at the
hub's end without the host's help.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from lab import tools
from lab.errors import LabError
from lab.layout import HOST_NUMBERS

if TYPE_CHECKING:
    from lab.layout import Layout

_HUB = "hub"
_BRIDGE = "br0"
_Command = list[str]


def root_link(layout: Layout) -> str:
    """The root namespace's interface on the site's network."""
    return f"el{layout.index}-root"


def port(host: str) -> str:
    """The hub's end of a host's cable."""
    return f"v-{host}"


def build_commands(layout: Layout) -> list[_Command]:
    """The commands that make the whole network from nothing, in order."""
    hub = layout.netns(_HUB)
    commands = [
        ["ip", "netns", "add", hub],
        ["ip", "-n", hub, "link", "set", "lo", "up"],
        ["ip", "-n", hub, "link", "add", _BRIDGE, "type", "bridge"],
        ["ip", "-n", hub, "link", "set", _BRIDGE, "up"],
        ["ip", "link", "add", root_link(layout), "type", "veth", "peer", "name", port("root"), "netns", hub],
        ["ip", "-n", hub, "link", "set", port("root"), "master", _BRIDGE, "up"],
        ["ip", "addr", "add", f"{layout.gateway}/24", "dev", root_link(layout)],
        ["ip", "link", "set", root_link(layout), "up"],
    ]
    for host in HOST_NUMBERS:
        commands += _host_commands(layout, host)
    return commands


def _host_commands(layout: Layout, host: str) -> list[_Command]:
    hub, own = layout.netns(_HUB), layout.netns(host)
    return [
        ["ip", "netns", "add", own],
        ["ip", "-n", own, "link", "set", "lo", "up"],
        ["ip", "link", "add", port(host), "netns", hub, "type", "veth", "peer", "name", "eth0", "netns", own],
        ["ip", "-n", hub, "link", "set", port(host), "master", _BRIDGE, "up"],
        ["ip", "-n", own, "addr", "add", f"{layout.address(host)}/24", "dev", "eth0"],
        ["ip", "-n", own, "link", "set", "eth0", "up"],
    ]


def cable_command(layout: Layout, host: str, state: str) -> _Command:
    """The command that pulls (`state` "down") or plugs ("up") a host's cable."""
    return ["ip", "-n", layout.netns(_HUB), "link", "set", port(host), state]


def remove_commands(layout: Layout, namespaces: list[str], links: list[str]) -> list[_Command]:
    """The commands that remove what is there of the site's network."""
    wanted = {layout.netns(host) for host in (_HUB, *HOST_NUMBERS)}
    commands = [["ip", "link", "del", root_link(layout)]] if root_link(layout) in links else []
    return commands + [["ip", "netns", "del", name] for name in namespaces if name in wanted]


def check_address(layout: Layout) -> None:
    """Raise LabError when another interface of this machine has an address of the site's network."""
    prefix = layout.gateway.rpartition(".")[0] + "."
    for link in json.loads(tools.run(["ip", "-j", "addr"])):
        taken = [address["local"] for address in link["addr_info"] if address["local"].startswith(prefix)]
        if taken and link["ifname"] != root_link(layout):
            what = f"interface {link['ifname']} has {taken[0]}, an address of site {layout.name}'s network"
            raise LabError(what, left="nothing was started", next="use another site name: each has its own network")


class Network:
    """The part `network`."""

    name = "network"
    needs: tuple[str, ...] = ()

    def __init__(self, layout: Layout) -> None:
        self._layout = layout

    def healthy(self) -> bool:
        """Whether every namespace, cable and address is there and every cable is plugged."""
        layout = self._layout
        if not {layout.netns(host) for host in (_HUB, *HOST_NUMBERS)} <= set(_namespaces()):
            return False
        if not _has_address([], root_link(layout), layout.gateway):
            return False
        if not all(_has_address(["-n", layout.netns(host)], "eth0", layout.address(host)) for host in HOST_NUMBERS):
            return False
        listed = json.loads(tools.run(["ip", "-n", layout.netns(_HUB), "-j", "link", "show", "master", _BRIDGE]))
        up = {link["ifname"] for link in listed if "UP" in link["flags"]}
        return {port(host) for host in ("root", *HOST_NUMBERS)} <= up

    def start(self) -> None:
        """Plug what was pulled; if that does not make it whole, make it anew."""
        if self._intact():
            for host in ("root", *HOST_NUMBERS):
                tools.run(cable_command(self._layout, host, "up"))
        if self.healthy():
            return
        self.stop()
        for command in build_commands(self._layout):
            tools.run(command)

    def stop(self) -> bool:
        """Remove all of it; returns whether there was any."""
        commands = remove_commands(self._layout, _namespaces(), _links())
        for command in commands:
            tools.run(command)
        return bool(commands)

    def _intact(self) -> bool:
        layout = self._layout
        if layout.netns(_HUB) not in _namespaces():
            return False
        listed = json.loads(tools.run(["ip", "-n", layout.netns(_HUB), "-j", "link", "show"]))
        return {port(host) for host in ("root", *HOST_NUMBERS)} <= {link["ifname"] for link in listed}


def _namespaces() -> list[str]:
    listed = tools.run(["ip", "-j", "netns", "list"]).strip()
    return [entry["name"] for entry in json.loads(listed)] if listed else []


def _links() -> list[str]:
    return [link["ifname"] for link in json.loads(tools.run(["ip", "-j", "link"]))]


def _has_address(where: list[str], link: str, address: str) -> bool:
    """Whether `link` is up with `address`; a run that was killed in between made the link and no more."""
    found = [entry for entry in json.loads(tools.run(["ip", *where, "-j", "addr"])) if entry["ifname"] == link]
    return any("UP" in entry["flags"] and address in {a.get("local") for a in entry["addr_info"]} for entry in found)
