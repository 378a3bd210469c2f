"""`python -m lab.envfile`: fresh keys for docker-compose.yaml, written once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from lab import envfile

REPO = Path(__file__).parents[2]


def test_known_empty_names_are_filled_and_the_rest_is_kept() -> None:
    """Comments, given values and unknown names stay as they are."""
    template = "# JWT_SECRET=\nJWT_SECRET=\nFERNET_KEY=mine\nOTHER=\n\n#X=1"
    assert envfile.fill(template, {"JWT_SECRET": lambda: "new", "FERNET_KEY": lambda: "never"}) == (
        "# JWT_SECRET=\nJWT_SECRET=new\nFERNET_KEY=mine\nOTHER=\n\n#X=1\n"
    )


def test_every_key_differs_each_time() -> None:
    """Two calls share no value, and no two values of one call are equal."""
    template = "\n".join(f"{name}=" for name in envfile.MAKERS)
    values = [line.partition("=")[2] for _ in range(2) for line in envfile.fill(template).splitlines()]
    assert len(set(values)) == len(values) == 2 * len(envfile.MAKERS)
    assert all(values)


def test_it_writes_once_for_its_owner_alone(tmp_path: Path) -> None:
    """The first call writes .env with mode 0600; the second refuses, says so and changes nothing."""
    (tmp_path / ".env.example").write_text("JWT_SECRET=\n")
    assert envfile.main([str(tmp_path)]) == 0
    written = tmp_path / ".env"
    text = written.read_text()
    assert written.stat().st_mode & 0o777 == 0o600
    assert envfile.main([str(tmp_path)]) == 1
    assert written.read_text() == text
    assert sorted(file.name for file in tmp_path.iterdir()) == [".env", ".env.example"]


def test_a_folder_without_the_template_is_named(tmp_path: Path) -> None:
    """In the wrong folder nothing is written and the missing file is named."""
    assert envfile.main([str(tmp_path)]) == 1
    assert not list(tmp_path.iterdir())


def test_it_runs_on_a_bare_python(tmp_path: Path) -> None:
    """It works before anything is installed: no site-packages, only include/ on the path."""
    (tmp_path / ".env.example").write_text((REPO / ".env.example").read_text())
    argv = [sys.executable, "-S", "-m", "lab.envfile", str(tmp_path)]
    done = subprocess.run(argv, env={"PYTHONPATH": str(REPO / "include")}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "docker compose up" in done.stdout
    lines = (tmp_path / ".env").read_text().splitlines()
    assert not [line for line in lines if line.removesuffix("=") in envfile.MAKERS]
