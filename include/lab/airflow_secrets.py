"""Keys and passwords of a site's Airflow: made once, kept in its state folder, readable by their owner alone."""

from __future__ import annotations

import base64
import json
import os
import secrets as random
from contextlib import suppress
from typing import TYPE_CHECKING

from edgeloop.errors import ConfigurationError
from lab.airflow_env import USERS, AirflowSecrets

if TYPE_CHECKING:
    from pathlib import Path

FILE = "secrets.json"
OWNER_ONLY = 0o600


def fernet_key() -> str:
    """A fresh Fernet key: 32 random bytes in URL-safe base64, as `cryptography.fernet` wants them."""
    return base64.urlsafe_b64encode(os.urandom(32)).decode()


def fresh() -> AirflowSecrets:
    """New keys and passwords."""
    return AirflowSecrets(
        fernet_key=fernet_key(),
        jwt_secret=random.token_urlsafe(48),
        api_secret=random.token_urlsafe(48),
        passwords={user: random.token_urlsafe(12) for user in USERS},
    )


def load_or_create(home: Path) -> AirflowSecrets:
    """The site's secrets; made at the first call.

    Safe to run at once with itself: the file appears complete or not at all, and whoever comes second reads it.

    Raises:
        ConfigurationError: The file is there but does not hold what it must.
    """
    home.mkdir(parents=True, exist_ok=True)
    target = home / FILE
    if not target.exists():
        _publish(fresh(), target)
    try:
        held = json.loads(target.read_text())
        return AirflowSecrets(
            fernet_key=held["fernet_key"],
            jwt_secret=held["jwt_secret"],
            api_secret=held["api_secret"],
            passwords={user: held["passwords"][user] for user in USERS},
        )
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigurationError(
            f"{target} does not hold the keys of this site's Airflow ({error!r}).",
            left="The file and the database, whose triggers were encrypted with the old key.",
            next=f"put the file back, or start this site anew: remove {target.parent.parent}",
        ) from error


def write_private(target: Path, text: str) -> None:
    """Replace a file in one step; nobody but its owner can read it at any moment."""
    spare = target.with_name(f".{target.name}.{os.getpid()}")
    spare.unlink(missing_ok=True)
    with os.fdopen(os.open(spare, os.O_WRONLY | os.O_CREAT | os.O_EXCL, OWNER_ONLY), "w") as file:
        file.write(text)
    spare.replace(target)


def _publish(made: AirflowSecrets, target: Path) -> None:
    text = json.dumps(
        {
            "fernet_key": made.fernet_key,
            "jwt_secret": made.jwt_secret,
            "api_secret": made.api_secret,
            "passwords": dict(made.passwords),
        }
    )
    spare = target.with_name(f"{target.name}.{os.getpid()}")
    write_private(spare, text)
    # A hard link never replaces: of two that start at once, the second keeps the first one's keys.
    with suppress(FileExistsError):
        os.link(spare, target)
    spare.unlink()
