"""Keys and passwords of a site's Airflow: made once, kept in its state folder, readable by their owner alone."""

from __future__ import annotations

import base64
import json
import os
import secrets as random
import tempfile
from pathlib import Path

from edgeloop.errors import ConfigurationError
from lab.airflow_env import USERS, AirflowSecrets

FILE = "secrets.json"


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
        publish(target, _text(fresh()))
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
    _spare(target, text).replace(target)


def publish(target: Path, text: str) -> bool:
    """Make a file that only its owner can read, whole or not at all; False when one is there, which is left."""
    spare = _spare(target, text)
    try:
        # A hard link never replaces: of two that come at once, the second leaves the first one's file.
        os.link(spare, target)
    except FileExistsError:
        return False
    finally:
        spare.unlink()
    return True


def _text(made: AirflowSecrets) -> str:
    keys = {"fernet_key": made.fernet_key, "jwt_secret": made.jwt_secret, "api_secret": made.api_secret}
    return json.dumps({**keys, "passwords": dict(made.passwords)})


def _spare(target: Path, text: str) -> Path:
    # mkstemp opens with mode 0600 and a name that no other thread or process has.
    handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    with os.fdopen(handle, "w") as file:
        file.write(text)
    return Path(name)
