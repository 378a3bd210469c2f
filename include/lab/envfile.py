"""`python -m lab.envfile [folder]`: write .env for docker-compose.yaml, with fresh keys, once.

Needs nothing but Python, so that it runs before anything is installed: `PYTHONPATH=include python3 -m lab.envfile`.
"""

from __future__ import annotations

import secrets
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from lab.airflow_secrets import fernet_key, publish

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

MAKERS: Mapping[str, Callable[[], str]] = {
    "POSTGRES_PASSWORD": lambda: secrets.token_urlsafe(24),
    "FERNET_KEY": fernet_key,
    "JWT_SECRET": lambda: secrets.token_urlsafe(48),
    "API_SECRET_KEY": lambda: secrets.token_urlsafe(48),
    "ADMIN_PASSWORD": lambda: secrets.token_urlsafe(12),
    "ONCALL_PASSWORD": lambda: secrets.token_urlsafe(12),
    "REDIS_PASSWORD": lambda: secrets.token_urlsafe(24),
}
"""How each empty value of .env.example is made."""


def fill(template: str, makers: Mapping[str, Callable[[], str]] = MAKERS) -> str:
    """The template with each line `NAME=` of a known name completed; every other line as it is."""
    lines = []
    for line in template.splitlines():
        name = line.removesuffix("=")
        lines.append(f"{line}{makers[name]()}" if name != line and name in makers else line)
    return "\n".join(lines) + "\n"


def main(argv: Sequence[str]) -> int:
    """Write `<folder>/.env` from `<folder>/.env.example`; exit code 1 when it is there already."""
    folder = Path(argv[0]) if argv else Path.cwd()
    target, template = folder / ".env", folder / ".env.example"
    if not template.exists():
        print(f"{template} does not exist; nothing was written.", file=sys.stderr)
        print("Next: run this in the folder that holds docker-compose.yaml, or name that folder.", file=sys.stderr)
        return 1
    if not publish(target, fill(template.read_text())):
        print(f"{target} is there already and was left as it is: the database was made with its keys.", file=sys.stderr)
        print("Next: docker compose up --build, or remove it together with the volumes to begin anew.", file=sys.stderr)
        return 1
    print(f"{target} holds fresh keys and passwords, readable by you alone.")
    print("Next: docker compose up --build; the logins are ADMIN_PASSWORD and ONCALL_PASSWORD in it.")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
