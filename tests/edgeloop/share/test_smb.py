"""What only an SMB share does, on a real smbd: sessions, writers, refusals, restarts."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.edgeloop.share.places import Place, smb_at

from edgeloop.errors import ConfigurationError, UnreachableError
from edgeloop.share import smb_link, smb_walk
from edgeloop.share import smb_wire as wire
from edgeloop.share.complete import Policy
from edgeloop.share.settle import Rule
from edgeloop.share.smb import SmbShare
from edgeloop.share.smb_link import Link
from edgeloop.share.source import ClosedError
from edgeloop.share.watch import Watch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from lab.site import Site

DEADLINE_S = 20.0


@pytest.fixture
def place(site: Site) -> Place:
    """A folder of this test's own on the site's share."""
    return smb_at(site)


@pytest.fixture
def links(monkeypatch: pytest.MonkeyPatch) -> list[Link]:
    """Every session that is made, in order; none is left over from another test."""
    made: list[Link] = []
    plain = Link.__init__
    monkeypatch.setattr(Link, "__init__", lambda self, address: (plain(self, address), made.append(self))[0])
    monkeypatch.setattr(smb_link, "_spare", {})
    return made


@dataclass
class Server:
    """An smbd of the test's own on the site's share folder and passwords."""

    site: Site
    port: int
    config: Path
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Serve, and wait until it listens."""
        argv = ["smbd", f"--configfile={self.config}", "--foreground", "--no-process-group"]
        self.process = subprocess.Popen(argv, start_new_session=True)
        until = time.monotonic() + DEADLINE_S
        while time.monotonic() < until:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
        pytest.fail("smbd does not listen")

    def signal(self, number: int) -> None:
        """To it and the children that hold the sessions."""
        if self.process is not None:
            os.killpg(self.process.pid, number)

    def stop(self) -> None:
        """Gone without a word to anybody."""
        with contextlib.suppress(ProcessLookupError):
            self.signal(signal.SIGKILL)
        if self.process is not None:
            self.process.wait()

    def share(self, **changes: Any) -> SmbShare:
        """The source behind it."""
        share = self.site.share
        known: dict[str, Any] = {"host": "127.0.0.1", "port": self.port, "share": share.share, "user": share.user}
        return SmbShare(connection="plant", **{**known, "password": share.password, **changes})


@pytest.fixture
def server(site: Site, tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Starts an smbd with more lines in the global part of its configuration."""
    from lab.layout import resolve
    from lab.share import config

    started: list[Server] = []

    def start(*lines: str) -> Server:
        layout = resolve(site.name)
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        own = layout.home("share")
        text = config(layout).replace(f"smb ports = {layout.ports.smb}", f"smb ports = {port}")
        for folder in ("lock", "state", "cache", "pid", "ncalrpc"):
            (tmp_path / folder).mkdir(exist_ok=True)
            text = text.replace(f"{own}/{folder}", str(tmp_path / folder))
        text = text.replace(f"{own}/smbd.log", str(tmp_path / "smbd.log"))
        for line in lines:
            kept = [one for one in text.splitlines() if one.partition(" =")[0] != line.partition(" =")[0]]
            text = "\n".join([kept[0], line, *kept[1:]])
        (tmp_path / "smb.conf").write_text(text + "\n")
        one = Server(site, port, tmp_path / "smb.conf")
        one.start()
        started.append(one)
        return one

    yield start
    for one in started:
        one.stop()


def test_one_session_answers_many_questions(place: Place, links: list[Link]) -> None:
    """A watch that looks every second does not log in every second; sessions are encrypted."""
    place.put("a.csv", b"1")
    for _ in range(3):
        source = place.source()
        (one,) = source.scan()
        assert source.digest(one)
        assert not source.busy(one)
    assert len(links) == 1
    assert links[0]._session.encrypt_data


@pytest.mark.fault
@pytest.mark.parametrize("noticed", [True, False], ids=["noticed before", "noticed by asking"])
def test_a_server_that_was_restarted_is_asked_again(
    server: Callable[..., Server], links: list[Link], monkeypatch: pytest.MonkeyPatch, *, noticed: bool
) -> None:
    """The kept session is gone; the next question finds that out and makes a new one."""
    if not noticed:
        monkeypatch.setattr(Link, "fit", property(lambda _: True))
    smbd = server()
    source = smbd.share()
    source.check()
    smbd.stop()
    smbd.start()
    source.check()
    assert len(links) == 2
    smbd.stop()
    with pytest.raises(UnreachableError, match=r"behind connection 'plant' did not answer.*refused"):
        source.scan()


@pytest.mark.fault
def test_a_forked_process_makes_a_session_of_its_own(place: Place, links: list[Link]) -> None:
    """It neither ends its parent's nor waits for a lock that a thread of the parent's held."""
    source = place.source()
    source.check()
    child = os.fork()
    if not child:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(round(DEADLINE_S))
        with contextlib.suppress(BaseException):
            source.check()
            os._exit(0)
        os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
    source.check()
    assert len(links) == 1


@pytest.mark.fault
def test_a_session_that_ends_by_itself_says_nothing(
    server: Callable[..., Server], links: list[Link], caplog: pytest.LogCaptureFixture
) -> None:
    """Its thread would write to a stream that may be closed, whatever level the library was given later."""
    smbd = server()
    smbd.share().check()
    caplog.set_level(logging.DEBUG, "smbprotocol")
    smbd.stop()
    deadline = time.monotonic() + DEADLINE_S
    while links[0]._made.transport.connected:
        assert time.monotonic() < deadline, "the end of the session was not noticed"
        time.sleep(0.01)
    assert [one for one in caplog.records if one.name.startswith("smbprotocol")] == []


@pytest.mark.fault
def test_a_server_that_hangs_in_the_middle_is_given_up(
    server: Callable[..., Server], links: list[Link], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection stays, no answer comes: an error within the idle time-out, and afterwards all is well again."""
    monkeypatch.setattr(smb_link, "IDLE_SECONDS", 1.0)
    monkeypatch.setattr(smb_link, "CONNECT_SECONDS", 1.0)
    smbd = server()
    source = smbd.share()
    source.check()
    smbd.signal(signal.SIGSTOP)
    try:
        with pytest.raises(UnreachableError, match="'plant' did not answer"):
            source.scan()
    finally:
        smbd.signal(signal.SIGCONT)
    source.check()


@pytest.mark.fault
def test_work_without_an_end_is_ended(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that answers, but never comes to the end, costs the whole time-out and no more."""
    place.put("a.csv", b"1")
    monkeypatch.setattr("edgeloop.share.smb.WHOLE_SECONDS", 0.0)
    with pytest.raises(UnreachableError, match="longer than it may take in all"):
        place.source().scan()


def test_a_wrong_password_is_told_as_such(site: Site, links: list[Link]) -> None:
    """With the connection to correct, and without the password."""
    share = site.share
    wrong = SmbShare(
        connection="plant", host=share.host, port=share.port, share=share.share, user=share.user, password="not it"
    )
    assert "not it" not in repr(wrong)
    with pytest.raises(ConfigurationError, match=f"'plant' refused user '{share.user}'") as caught:
        wrong.scan()
    assert "airflow connections get plant" in str(caught.value)
    assert "not it" not in str(caught.value)


def test_a_share_that_does_not_exist_is_told_as_such(site: Site, links: list[Link]) -> None:
    """The server is there; the connection's schema is wrong."""
    share = site.share
    wrong = SmbShare(
        connection="plant", host=share.host, port=share.port, share="nope", user=share.user, password=share.password
    )
    with pytest.raises(ConfigurationError, match="'plant' has no share 'nope'"):
        wrong.check()


def test_a_folder_that_does_not_exist_is_told_as_such(place: Place) -> None:
    """Not an empty folder: the pipeline.yaml is wrong, or somebody moved it."""
    for work in (place.source(below="gone").scan, place.source(below="gone").check):
        with pytest.raises(UnreachableError, match=r"no folder '.*gone' on the share"):
            work()


def test_a_server_that_cannot_encrypt_is_refused_unless_allowed(
    server: Callable[..., Server], links: list[Link]
) -> None:
    """The way out is said; without encryption messages are signed."""
    smbd = server("server smb encrypt = off")
    with pytest.raises(ConfigurationError, match="offers no encrypted") as caught:
        smbd.share().check()
    assert '"encrypt": false' in str(caught.value)
    smbd.share(encrypt=False).check()
    assert not links[-1]._session.encrypt_data
    assert links[-1]._session.signing_required


def test_a_guest_is_not_taken_for_a_user(server: Callable[..., Server], links: list[Link]) -> None:
    """A server that lets everybody in as a guest offers neither signing nor encryption."""
    smbd = server("map to guest = bad user", "guest account = nobody")
    with pytest.raises(ConfigurationError, match="offers no encrypted"):
        smbd.share(user="somebody", password="else").check()


def test_a_host_that_is_not_there_is_unreachable(links: list[Link]) -> None:
    """Neither a name that nobody knows nor a port where nobody listens is an empty share."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    known: dict[str, Any] = {"connection": "plant", "share": "s", "user": "u", "password": "p"}
    for where in ({"host": "127.0.0.1", "port": port}, {"host": "no.such.host.invalid", "port": 445}):
        with pytest.raises(UnreachableError, match=r"'plant' did not answer: Failed to connect"):
            SmbShare(**known, **where).scan()


def test_a_writer_makes_a_file_wait(place: Place, site: Site) -> None:
    """A file that is open for writing over SMB is told as busy, waits, has no digest, and is ready once closed."""
    import smbclient

    place.put("a.csv", b"half")
    source = place.source()
    (seen,) = source.scan()
    assert not source.busy(seen)
    share = site.share
    client: dict[str, Any] = {"username": share.user, "password": share.password, "port": share.port}
    client |= {"connection_cache": {}}
    path = rf"\\{share.host}\{share.share}\{source.below.replace('/', chr(92))}\a.csv"  # type: ignore[attr-defined]
    rule = Rule(polls=2, poll_seconds=0.05, quiet_seconds=0.0)
    watch = Watch(source, Policy(complete="renamed", rule=rule))
    try:
        with smbclient.open_file(path, mode="ab", share_access="rwd", **client) as writer:
            writer.write(b" more")
            writer.flush()
            (open_now,) = source.scan()
            assert source.busy(open_now)
            assert source.digest(open_now) is None
            assert [one.path for one in watch.look().waiting] == ["a.csv"]
            assert watch.look().ready == ()
        assert [one.path for one in watch.wait().ready] == ["a.csv"]
        assert not source.busy(open_now)
    finally:
        smbclient.reset_connection_cache(connection_cache=client["connection_cache"])


def test_reading_keeps_no_writer_out(place: Place, site: Site) -> None:
    """A producer that cannot open its own file because we are reading it would be our fault."""
    import smbclient
    from tests.edgeloop.share.places import Tripwire

    place.put("a.csv", b"1" * 3_000_000)
    source = place.source()
    (seen,) = source.scan()
    share = site.share
    client: dict[str, Any] = {"username": share.user, "password": share.password, "port": share.port}
    client |= {"connection_cache": {}}
    path = rf"\\{share.host}\{share.share}\{source.below.replace('/', chr(92))}\a.csv"  # type: ignore[attr-defined]

    def write() -> None:
        with smbclient.open_file(path, mode="r+b", share_access="rwd", **client) as writer:
            writer.write(b"2")

    trap = Tripwire(write)
    try:
        assert source.digest(seen, trap) is None  # type: ignore[arg-type]
    finally:
        smbclient.reset_connection_cache(connection_cache=client["connection_cache"])
    assert trap.sprung


@pytest.mark.parametrize("few", [None, 4], ids=["credits", "hardly any credits"])
def test_a_directory_larger_than_an_answer_is_listed_whole(
    place: Place, monkeypatch: pytest.MonkeyPatch, few: int | None
) -> None:
    """Every file once, whatever the server lets us have in flight."""
    monkeypatch.setattr(smb_walk, "ANSWER_BYTES", 64 * 1024)
    if few:
        monkeypatch.setattr(Link, "credits", property(lambda _: few))
    names = [f"{'long ' * 10}{number:04d}.csv" for number in range(1500)]
    for name in names:
        place.put(name, b"")
    for number in range(20):
        place.put(f"{number:02d}/x.csv", b"1")
    found = [one.path for one in place.source().scan()]
    assert found == sorted([*names, *(f"{number:02d}/x.csv" for number in range(20))])


def test_a_loop_of_links_is_walked_once(place: Place, site: Site) -> None:
    """Samba shows a link to a folder above as a folder; a link that leads out of the share it does not show at all."""
    place.put("a/b.csv", b"1")
    source = place.source()
    root = Path(site.share.path) / source.below  # type: ignore[attr-defined]
    (root / "a" / "self").symlink_to(".")
    (root / "a" / "up").symlink_to("..")
    (root / "a" / "out.csv").symlink_to("/etc/hostname")
    assert [one.path for one in source.scan()] == ["a/b.csv"]
    assert source.look("a/out.csv") is None


def serve_nobody(smbd: Server, root: Path, closed: Path, *, mode: int) -> None:
    """From now on the server reads as somebody without rights, who gets to ``root`` and not past ``closed``."""
    text = smbd.config.read_text()
    smbd.stop()
    smbd.config.write_text(text.replace("force user = root", "force user = nobody"))
    for one in (root, *root.parents):
        one.chmod(one.stat().st_mode | 0o055)
    closed.chmod(mode)
    smbd.start()


def test_a_folder_that_may_not_be_listed_is_told(server: Callable[..., Server], site: Site, links: list[Link]) -> None:
    """The others go on."""
    smbd = server()
    root = Path(site.share.path) / "closed-test"
    (root / "shut").mkdir(parents=True, exist_ok=True)
    (root / "shut" / "a.csv").write_text("1")
    (root / "b.csv").write_text("1")
    serve_nobody(smbd, root, root / "shut", mode=0o700)
    found = smbd.share(below="closed-test", pattern="*.csv").listing()
    assert [one.path for one in found.files] == ["b.csv"]
    assert [(one.path, "the right to" in one.reason) for one in found.broken] == [("shut", True)]


def test_a_file_that_may_not_be_read_is_told(server: Callable[..., Server], site: Site, links: list[Link]) -> None:
    """By its own name, and not as a server that is gone."""
    smbd = server()
    root = Path(site.share.path) / "unread-test"
    root.mkdir()
    (root / "a.csv").write_text("1")
    serve_nobody(smbd, root, root / "a.csv", mode=0o600)
    source = smbd.share(below="unread-test", pattern="*.csv")
    (seen,) = source.scan()
    with pytest.raises(ClosedError, match=r"may not read unread-test/a\.csv|may not read a\.csv"):
        source.digest(seen)


def test_reparse_points_of_windows_are_links_only_if_they_say_so() -> None:
    """A symbolic link and a junction lead elsewhere; a tiered or deduplicated file is a file."""
    symlink, junction, tiered = 0xA000000C, 0xA0000003, 0x9000001A
    assert wire.is_link(wire.LINK, symlink)
    assert wire.is_link(wire.LINK | wire.FOLDER, junction)
    assert not wire.is_folder(wire.LINK | wire.FOLDER, junction)
    assert not wire.is_file(wire.LINK, symlink)
    assert wire.is_file(wire.LINK, tiered)
    assert wire.is_folder(wire.FOLDER, 0)
