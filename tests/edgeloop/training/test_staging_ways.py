"""How the ways of staging are told apart, and what is typed for them."""

from __future__ import annotations

import pytest

from edgeloop.records import sha256_hex
from edgeloop.training import stage_commands
from edgeloop.training.bundle import Member
from edgeloop.training.job import Job
from edgeloop.training.staging_direct import Verdict, config, judged
from edgeloop.training.staging_worker import batches, split
from edgeloop.training.staging_yard import LARGE_BYTES, Answer

JOB = Job(run_id="ab" * 32, pipeline="p", image="i")


def sized(*sizes: int) -> list[Member]:
    """Files of these sizes."""
    return [
        Member(path=f"data/{at}", size=size, sha256=f"{at:064x}", read=lambda _: ()) for at, size in enumerate(sizes)
    ]


@pytest.mark.parametrize(
    ("http", "curl", "why", "network"),
    [
        ("206", 0, "", False),
        ("200", 0, "", False),
        ("403", 0, "it refuses the signed address", False),
        ("404", 22, "there is no such blob", False),
        ("503", 0, "it answers 503", True),
        ("000", 7, "the VM cannot connect to it", True),
        ("000", 28, "it does not answer the VM in time", True),
        ("000", 60, "the VM does not trust its certificate", False),
        ("", 127, "curl ends with 127", False),
    ],
)
def test_what_curl_says_is_told_in_words(http: str, curl: int, why: str, network: bool) -> None:
    """Each answer and exit code has its sentence; only what may pass is tried again."""
    found = judged(http, curl)
    assert found.why.startswith(why)
    assert (found.why == "") == (why == "")
    assert found.network is network


def test_an_address_is_configuration_and_no_argument() -> None:
    """It goes to curl's standard input; no text of a command holds one."""
    assert config([("http://h/a?sig=x", "f" * 64), ("http://h/b", "")]) == (
        b'url = "http://h/a?sig=x"\noutput = "' + b"f" * 64 + b'"\nurl = "http://h/b"\n'
    )
    for text in (
        stage_commands.fetch_small(JOB),
        stage_commands.fetch_large(JOB, "f" * 64, 1),
        stage_commands.probe(JOB),
    ):
        assert "-K -" in text
        assert "http://" not in text


def test_curl_goes_to_the_account_or_nowhere() -> None:
    """No user's settings, no proxy, no redirect, no other protocol."""
    for word in ("curl -q ", "--noproxy '*'", "--proto '=http,https'"):
        assert word in stage_commands.CURL
    assert " -L" not in stage_commands.CURL
    assert "--location" not in stage_commands.CURL


def test_files_travel_in_groups_and_large_ones_alone() -> None:
    """A group has at most so many bytes; one file may have more."""
    small, large = split(sized(1, LARGE_BYTES, LARGE_BYTES - 1))
    assert [one.size for one in large] == [LARGE_BYTES]
    assert [one.size for one in small] == [1, LARGE_BYTES - 1]
    assert [[one.size for one in group] for group in batches(sized(4, 4, 4, 20, 1), most=10)] == [
        [4, 4],
        [4],
        [20],
        [1],
    ]
    assert list(batches([])) == []


def test_an_answer_is_read_as_it_comes() -> None:
    """Lines torn anywhere are put together; sizes are passed on; unknown lines are nothing."""
    sizes: list[int] = []
    answer = Answer(on_size=sizes.append)
    for piece in (b"fro", b"m 12\nat 2", b"0\nwarning: x\nhttp 206 abc\nhttp 404\ncur", b"l 22\n", b"short 30\n"):
        assert answer.write(piece) == len(piece)
    assert (answer.start, sizes, answer.curl) == (12, [20], 22)
    assert answer.http == {"abc": "206", "": "404"}
    assert (answer.word, answer.size, answer.here) == ("short", 30, False)
    assert answer.ready.is_set()


@pytest.mark.parametrize(
    ("line", "here"), [(b"good\n", True), (b"found\n", True), (b"bad\n", False), (b"busy 1\n", False)]
)
def test_every_last_word_wakes_the_sender(line: bytes, here: bool) -> None:
    """A receiver that wants nothing does not keep it waiting."""
    answer = Answer()
    answer.write(line)
    assert answer.ready.is_set()
    assert answer.here is here
    assert answer.start == -1


def test_a_digest_and_its_verdict_are_no_last_word() -> None:
    """Small files are told one by one."""
    answer, digest = Answer(), sha256_hex(b"x")
    answer.write(f"good {digest}\nbad {'0' * 64}\n".encode())
    assert answer.digests == {digest: "good", "0" * 64: "bad"}
    assert not answer.word


def test_a_verdict_without_a_reason_is_a_way() -> None:
    """Nothing speaks against it."""
    assert Verdict() == judged("206", 0)
