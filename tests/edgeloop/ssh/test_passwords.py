"""Which passwords are refused, and what is said about it."""

from __future__ import annotations

import base64
import random

import pytest

from edgeloop.ssh.passwords import weakness

KNOWN = ("trainer", "vm-north.example.com")


@pytest.mark.parametrize(
    ("password", "why"),
    [
        ("", "it has 0 characters"),
        ("Zb7-vR2q_kW9.xT", "it has 15 characters, 16 are the least"),
        ("aaaaaaaaaaaaaaaaaaaaaaaa", "a repeated part"),
        ("abcabcabcabcabcabcabcabc", "a repeated part"),
        ("passwordpassword", "a common word"),
        ("P@ssw0rd2024!P@ssw0rd", "a common word"),
        ("CorrectHorseBatteryStaple", "a common word"),
        ("Trainer-North-2026!", "a name of the login"),
        ("tr41n3r-tr41n3r-tr41n3r", "a name of the login"),
        ("qwertyuiopasdfghjkl", "a run of keys or letters"),
        ("abcdefghijklmnop1234", "a run of keys or letters"),
        ("9876543210987654321", "a run of keys or letters"),
        ("Summer2026Winter2027", "a year"),
        ("112233445566778899", "it is worth about"),
        ("azureazure!azureazure!", "a common word"),
    ],
)
def test_what_guessers_try_first_is_refused(password: str, why: str) -> None:
    """The reason names the kind of the part and never quotes it."""
    said = weakness(password, KNOWN)
    assert why in said
    assert not password or password not in said


def test_random_passwords_are_taken() -> None:
    """A hundred as `openssl rand -base64 18` makes them: none is refused."""
    source = random.Random(7)
    made = [base64.b64encode(source.randbytes(18)).decode() for _ in range(100)]
    assert {weakness(one, KNOWN) for one in made} == {""}


def test_a_long_sentence_of_uncommon_words_is_taken() -> None:
    """Length makes up for plain letters."""
    assert weakness("ginger-lantern pebbles over quiet harbours", KNOWN) == ""
