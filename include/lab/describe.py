"""From the layout and the secrets of a site to the record that everybody else reads, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lab import keys, postgres
from lab import site as sites
from lab.blob import CLOUD, PRIVATE
from lab.host_commands import SSH_PORT, device_share, user_of
from lab.layout import BUILDER, VM, Layout, Ports
from lab.share import SHARE
from lab.users import HISTORIAN

if TYPE_CHECKING:
    from lab.keys import Secrets

_SCORER_PORT = 8080


def describe(layout: Layout, secrets: Secrets, images: sites.Images) -> sites.Site:
    """The record of the site at `layout`."""
    url = f"http://{layout.gateway}:{layout.ports.blob}"
    return sites.Site(
        name=layout.name,
        index=layout.index,
        state=layout.state,
        cache=layout.cache,
        share=sites.Share(
            path=layout.state / "share",
            host="127.0.0.1",
            port=layout.ports.smb,
            share=SHARE,
            user=HISTORIAN,
            password=secrets.share_password,
        ),
        blob=sites.Blob(
            private=account(PRIVATE, secrets.private_key, url),
            cloud=account(CLOUD, secrets.cloud_key, url),
        ),
        vm=sites.Host(**_login(layout, VM)),
        devices=tuple(
            sites.Device(**_login(layout, name), share=device_share(layout, name), scorer_port=_SCORER_PORT)
            for name in sites.DEVICES
        ),
        registry=sites.Registry(host=layout.registry),
        builder=sites.Builder(docker=f"unix://{layout.docker_socket(BUILDER)}"),
        postgres=sites.Postgres(sync=postgres.uri(layout, "psycopg2"), async_=postgres.uri(layout, "asyncpg")),
        airflow=sites.Airflow(port=layout.ports.airflow),
        images=images,
    )


def account(name: str, key: str, url: str) -> sites.Account:
    """One account of the server at `url`, with the connection string the Azure SDKs take."""
    endpoint = f"{url}/{name}"
    parts = ("DefaultEndpointsProtocol=http", f"AccountName={name}", f"AccountKey={key}", f"BlobEndpoint={endpoint};")
    return sites.Account(account=name, key=key, url=endpoint, connection_string=";".join(parts))


def layout_of(site: sites.Site) -> Layout:
    """The layout of a site that is up."""
    ports = Ports(
        smb=site.share.port,
        blob=int(site.blob.private.url.rsplit(":", 1)[1].split("/")[0]),
        registry=int(site.registry.host.rpartition(":")[2]),
        airflow=site.airflow.port,
    )
    return Layout(name=site.name, index=site.index, state=site.state, cache=site.cache, ports=ports)


def _login(layout: Layout, host: str) -> dict[str, Any]:
    user = user_of(host) or ""
    return {
        "name": host,
        "host": layout.address(host),
        "port": SSH_PORT,
        "user": user,
        "key_file": keys.login_key(layout, user),
        "host_key": keys.public(keys.host_key(layout, host)),
        "docker": f"unix://{layout.docker_socket(host)}",
    }
