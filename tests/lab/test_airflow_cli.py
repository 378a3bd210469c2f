"""The `airflow` command inside a site."""

from __future__ import annotations

import subprocess
import sys

import pytest

from lab.airflow_cli import main, split


@pytest.mark.parametrize(
    ("argv", "wanted"),
    [
        (["dags", "list"], ("demo", ["dags", "list"])),
        (["--site", "test", "dags", "list", "--site"], ("test", ["dags", "list", "--site"])),
    ],
)
def test_only_a_leading_site_is_ours(argv: list[str], wanted: tuple[str, list[str]]) -> None:
    """Everything after the site's name belongs to airflow."""
    assert split(argv) == wanted


def test_a_site_that_is_not_up_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    """No traceback: what is down, and what starts it."""
    assert main(["--site", "nowhere", "version"]) == 1
    assert "site nowhere is not up" in capsys.readouterr().err


def test_edgeloop_is_typed_in_the_same_way() -> None:
    """The words go to `edgeloop` in the site's environment; here to one that is not up."""
    words = [sys.executable, "-m", "lab.edgeloop_cli", "--site", "nowhere", "lineage", "v1"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert "site nowhere is not up" in done.stderr
