"""The exact shell text with which a job is watched."""

from __future__ import annotations

from edgeloop.training import follow_commands
from edgeloop.training.follow_log import Ask
from edgeloop.training.job import Job

JOB = Job(run_id="a" * 64, pipeline="p", image="i")
NAME = f"train-{'a' * 24}"
PIPE = f"edgeloop/jobs/{'a' * 24}/engine"
STAMP = "2014-01-01T00:00:00.000000001Z"


def test_a_poll_asks_for_state_clock_and_the_end_of_the_log() -> None:
    """One command keeps the last place, tells whether it runs, has ended, is gone or cannot be asked, and its lines."""
    assert follow_commands.poll(JOB, Ask(since=STAMP, tail=1000), keep="KEEP\n") == (
        f"KEEP\nover=\nif test -p {PIPE} && dd if=/dev/null of={PIPE} oflag=nonblock conv=notrunc 2>/dev/null; "
        "then over=1; fi\n"
        "if state=$(docker container inspect --format '{{json .State}}{{println}}{{.Created}}' "
        f"{NAME} 2>/dev/null); then\n"
        f'if test -n "$over"; then\necho up | dd of={PIPE} oflag=nonblock conv=notrunc 2>/dev/null\nsleep 0.2\n'
        "after=$(docker container inspect --format '{{json .State}}{{println}}{{.Created}}' "
        f"{NAME} 2>/dev/null) && state=$after\nfi\n"
        'printf \'%s\\n%s\\n\' "$state" "$(date +%s.%N)"\n'
        f"docker logs --timestamps --since {STAMP} --tail 1000 {NAME} 2>&1 | head -c 4000000\n"
        "elif docker version --format '{{.Server.Version}}' >/dev/null 2>&1; then\n"
        'printf \'%s\\n\\n%s\\n\' \'{"Status":"absent"}\' "$(date +%s.%N)"\n'
        "else exit 69; fi"
    )


def test_the_first_poll_asks_for_the_log_from_its_beginning() -> None:
    """Without a last line there is neither --since nor --tail."""
    text = follow_commands.poll(JOB, Ask())
    assert f"docker logs --timestamps {NAME} 2>&1" in text


def test_a_place_is_kept_whole_or_not_at_all() -> None:
    """Each name has a file of its own, replaced at once; a folder that is gone is no error."""
    path = f"edgeloop/jobs/{'a' * 24}/cursor-me"
    assert follow_commands.keep(JOB, "me", f"{STAMP} here") == (
        f"{{ printf %s '{STAMP} here' >{path}.part && mv {path}.part {path}; }} 2>/dev/null || true\n"
    )
    assert follow_commands.kept(JOB, "me") == f"cat {path} 2>/dev/null || true"
