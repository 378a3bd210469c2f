"""The words that devices are told."""

from __future__ import annotations

from edgeloop.rollout import commands
from edgeloop.rollout.commands import Scorer

SCORER = Scorer(pipeline="wind_power", site="R80711", share="/var/edge/share", port=8080)
REFERENCE = "10.77.0.1:5000/wind_power/scorer@sha256:" + "a" * 64


def test_run_locks_the_scorer_down() -> None:
    """Read-only, no capabilities, no new privileges, an unprivileged user, back after a power cut."""
    assert commands.run(SCORER, REFERENCE) == (
        "docker run --detach --name edgeloop-scorer-wind_power --network host --read-only --init --cap-drop ALL "
        "--security-opt no-new-privileges --restart unless-stopped --user 10001:10001 --env EDGELOOP_SITE=R80711 "
        "--env EDGELOOP_SHARE=/share --env PORT=8080 --volume /var/edge/share:/share "
        f"--label edgeloop.pipeline=wind_power --label edgeloop.reference={REFERENCE} {REFERENCE}"
    )


def test_every_other_command() -> None:
    """The exact text of each."""
    name, previous = "edgeloop-scorer-wind_power", "edgeloop-scorer-wind_power-previous"
    assert (SCORER.name, SCORER.previous) == (name, previous)
    assert commands.inspect(SCORER) == f"docker inspect --type container --format '{{{{json .}}}}' {name} {previous}"
    assert commands.has_image(REFERENCE) == f"docker image inspect --format '{{{{.Id}}}}' {REFERENCE}"
    assert commands.digests("sha256:1") == "docker image inspect --format '{{json .RepoDigests}}' sha256:1"
    assert commands.pull(REFERENCE) == f"docker pull {REFERENCE}"
    assert commands.held() == (
        'ids=$(docker image ls --all --quiet --no-trunc) || exit 1; echo "$ids" | sort -u | '
        "xargs -r docker image inspect --format "
        """'{"digests":{{json .RepoDigests}},"layers":{{json .RootFS.Layers}}}'"""
    )
    assert commands.start(name) == f"docker start {name}"
    assert commands.stop(name) == f"docker stop --time 10 {name}"
    assert commands.rename(name, previous) == f"docker rename {name} {previous}"
    assert commands.remove(previous) == f"docker rm --force --volumes {previous}"
    assert commands.logs(name) == f"docker logs --tail 40 {name} 2>&1"


def test_a_share_with_blanks_is_quoted() -> None:
    """A path from a connection cannot become a command of its own."""
    odd = Scorer(pipeline="p", site="s; reboot", share="/mnt/my share", port=1)
    assert "--volume '/mnt/my share:/share'" in commands.run(odd, "r")
    assert "--env 'EDGELOOP_SITE=s; reboot'" in commands.run(odd, "r")
