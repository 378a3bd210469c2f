"""Every resource of a VM as REST bodies; pure, the same order gives the same bytes."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgeloop.provision.script import install_script
from edgeloop.records import sha256_hex

if TYPE_CHECKING:
    from edgeloop.provision.order import VmOrder

COMPUTE_VERSION = "2020-06-01"
NETWORK_VERSION = "2018-11-01"
GROUP_VERSION = "2019-10-01"
DISK_VERSION = "2019-07-01"
"""The api-versions of the profile 2020-09-01-hybrid, which is the newest that a Stack Hub knows."""
EXTENSION = "edgeloop-docker"
FAST, PREMIUM, STANDARD = re.compile(r"_[DG]S\d|\dm?s"), "Premium_LRS", "Standard_LRS"
"""Sizes with an s take premium disks (Standard_F8s_v2, Standard_DS3_v2), the others do not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """One resource: what a person calls it, where it is, of which api-version, and its body.

    ``fixed`` says that it cannot be changed into another once it is there.
    """

    what: str
    path: str
    version: str
    body: dict[str, Any]
    fixed: bool = False


def resources(order: VmOrder) -> tuple[Resource, ...]:
    """Everything but the group, each after what it needs."""
    made = [_firewall(order)]
    made += [] if order.subnet else [_net(order)]
    made += [_address(order)] if order.public_address else []
    return (*made, _interface(order), _machine(order), _extension(order))


def group_body(order: VmOrder) -> dict[str, Any]:
    """The resource group."""
    return {"location": order.location, "tags": order.tags}


def _firewall(order: VmOrder) -> Resource:
    """Only SSH, only from the allowed addresses; the rule after it also shuts out the own virtual network."""
    rule = {"protocol": "Tcp", "direction": "Inbound", "access": "Allow", "priority": 100, "sourcePortRange": "*"}
    rule |= {"destinationAddressPrefix": "*", "destinationPortRange": "22"}
    ssh: dict[str, Any] = {**rule}
    if len(order.allowed) == 1:
        ssh["sourceAddressPrefix"] = order.allowed[0]
    else:
        ssh["sourceAddressPrefixes"] = list(order.allowed)
    shut = {**rule, "protocol": "*", "access": "Deny", "priority": 4096, "sourceAddressPrefix": "*"}
    shut["destinationPortRange"] = "*"
    rules = [{"name": "ssh-from-workers", "properties": ssh}, {"name": "nothing-else", "properties": shut}]
    return Resource(
        what="network security group",
        path=order.id("Microsoft.Network/networkSecurityGroups", "-nsg"),
        version=NETWORK_VERSION,
        body={"location": order.location, "tags": order.tags, "properties": {"securityRules": rules}},
    )


def _net(order: VmOrder) -> Resource:
    subnet = {"name": "vm", "properties": {"addressPrefix": order.network}}
    properties = {"addressSpace": {"addressPrefixes": [order.network]}, "subnets": [subnet]}
    return Resource(
        what="virtual network",
        path=order.id("Microsoft.Network/virtualNetworks", "-net"),
        version=NETWORK_VERSION,
        body={"location": order.location, "tags": order.tags, "properties": properties},
    )


def _address(order: VmOrder) -> Resource:
    return Resource(
        what="public address",
        path=order.id("Microsoft.Network/publicIPAddresses", "-ip"),
        version=NETWORK_VERSION,
        body={
            "location": order.location,
            "tags": order.tags,
            # A dynamic one is given when the VM starts, and another one at every start after that.
            "properties": {"publicIPAllocationMethod": "Static", "publicIPAddressVersion": "IPv4"},
        },
    )


def _interface(order: VmOrder) -> Resource:
    subnet = order.subnet or f"{order.id('Microsoft.Network/virtualNetworks', '-net')}/subnets/vm"
    config: dict[str, Any] = {"subnet": {"id": subnet}, "privateIPAllocationMethod": "Dynamic", "primary": True}
    if order.public_address:
        config["publicIPAddress"] = {"id": order.id("Microsoft.Network/publicIPAddresses", "-ip")}
    return Resource(
        what="network interface",
        path=order.id("Microsoft.Network/networkInterfaces", "-nic"),
        version=NETWORK_VERSION,
        body={
            "location": order.location,
            "tags": order.tags,
            "properties": {
                "ipConfigurations": [{"name": "vm", "properties": config}],
                "networkSecurityGroup": {"id": order.id("Microsoft.Network/networkSecurityGroups", "-nsg")},
            },
        },
    )


def _machine(order: VmOrder) -> Resource:
    publisher, offer, sku, version = order.image.split(":")
    keys = [{"path": f"/home/{order.user}/.ssh/authorized_keys", "keyData": " ".join(order.public_key.split()[:2])}]
    properties: dict[str, Any] = {
        "hardwareProfile": {"vmSize": order.size},
        "storageProfile": {
            "imageReference": {"publisher": publisher, "offer": offer, "sku": sku, "version": version},
            "osDisk": {
                "name": order.disk.rpartition("/")[2],
                "createOption": "FromImage",
                "diskSizeGB": order.disk_gb,
                "managedDisk": {"storageAccountType": PREMIUM if FAST.search(order.size) else STANDARD},
            },
        },
        "osProfile": {
            "computerName": order.name,
            "adminUsername": order.user,
            "linuxConfiguration": {"disablePasswordAuthentication": True, "ssh": {"publicKeys": keys}},
        },
        "networkProfile": {
            "networkInterfaces": [
                {"id": order.id("Microsoft.Network/networkInterfaces", "-nic"), "properties": {"primary": True}}
            ]
        },
    }
    return Resource(
        what="virtual machine",
        path=order.vm,
        version=COMPUTE_VERSION,
        body={"location": order.location, "tags": order.tags, "properties": properties},
        fixed=True,
    )


def _extension(order: VmOrder) -> Resource:
    script = install_script(order.user, order.prepare)
    return Resource(
        what="extension that installs Docker",
        path=f"{order.vm}/extensions/{EXTENSION}",
        version=COMPUTE_VERSION,
        body={
            "location": order.location,
            "tags": order.tags,
            "properties": {
                "publisher": "Microsoft.Azure.Extensions",
                "type": "CustomScript",
                "typeHandlerVersion": "2.0",
                "autoUpgradeMinorVersion": True,
                "forceUpdateTag": sha256_hex(script.encode())[:16],
                "settings": {"script": base64.b64encode(script.encode()).decode()},
            },
        },
    )
