"""Keys and passwords of a site: made once, private, the same for everybody who starts at once."""

from __future__ import annotations

import base64
import json
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from edgeloop.errors import ConfigurationError
from lab import airflow_secrets

if TYPE_CHECKING:
    from pathlib import Path


def test_the_second_call_reads_what_the_first_made(tmp_path: Path) -> None:
    """Keys survive a restart: the triggers in the database are encrypted with them."""
    first = airflow_secrets.load_or_create(tmp_path / "airflow")
    assert airflow_secrets.load_or_create(tmp_path / "airflow") == first
    assert len(base64.urlsafe_b64decode(first.fernet_key)) == 32
    assert len(set(first.passwords.values())) == 2


def test_two_sites_share_no_key(tmp_path: Path) -> None:
    """Each site makes its own."""
    one, two = (airflow_secrets.load_or_create(tmp_path / name) for name in ("one", "two"))
    assert not {one.fernet_key, one.jwt_secret, one.api_secret} & {two.fernet_key, two.jwt_secret, two.api_secret}


def test_only_the_owner_may_read_them(tmp_path: Path) -> None:
    """Mode 0600, and no spare file is left beside it."""
    airflow_secrets.load_or_create(tmp_path)
    (file,) = tmp_path.iterdir()
    assert file.stat().st_mode & 0o777 == 0o600


def test_many_starters_at_once_agree(tmp_path: Path) -> None:
    """Of several that start at once, all hold the keys of the one that came first."""
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: airflow_secrets.load_or_create(tmp_path), range(32)))
    assert all(one == made[0] for one in made)


@pytest.mark.parametrize("content", ["", "[]", "{}", json.dumps({"fernet_key": "x"})])
def test_a_damaged_file_is_named_and_left(tmp_path: Path, content: str) -> None:
    """Fresh keys over an old database would break it quietly: the error names the file and what to do."""
    file = tmp_path / airflow_secrets.FILE
    file.write_text(content)
    with pytest.raises(ConfigurationError, match=str(file)):
        airflow_secrets.load_or_create(tmp_path)
    assert file.read_text() == content
