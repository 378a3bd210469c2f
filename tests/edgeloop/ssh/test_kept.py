"""One kept connection per machine: shared, replaced when it died or changed, closed by the last one."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from edgeloop.errors import ConfigurationError, UnreachableError
from edgeloop.ssh import kept

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from tests.gates import Gates

    from edgeloop.ssh.endpoint import Endpoint
    from edgeloop.ssh.kept import Held

FOLLOWERS = 30


def always(endpoint: Endpoint) -> Callable[[], Awaitable[Endpoint]]:
    """A connection that never changes."""

    async def resolve() -> Endpoint:
        return endpoint

    return resolve


def go(work: Coroutine[None, None, None]) -> None:
    """Run in an event loop of its own, with a time-out that no test should meet."""

    async def limited() -> None:
        async with asyncio.timeout(60):
            await work
        assert not kept._LINES.get(asyncio.get_running_loop())

    asyncio.run(limited())


async def caller(link: Held) -> str:
    """The port that the machine sees us call from: one for each TCP connection."""
    return (await link.run("echo $SSH_CLIENT", timeout=20)).text.split()[1]


def test_thirty_followers_are_one_connection(gates: Gates) -> None:
    """With sshd's own limits (MaxSessions 10, MaxStartups 10:30:100) all of them get their answers, several times."""
    gate = gates()

    async def follow() -> None:
        links = [kept.hold("vm", always(gate.endpoint)) for _ in range(FOLLOWERS)]
        for _ in range(3):
            assert len(set(await asyncio.gather(*(caller(one) for one in links)))) == 1
        for one in links:
            one.close()

    go(follow())
    assert (gate.connections() - gate.probes, gate.logins()) == (1, 1)
    assert "no more sessions" not in gate.log.read_text()


def test_fewer_sessions_than_wanted_are_waited_for(gates: Gates) -> None:
    """An sshd that allows one session at a time serves all, one after the other; one that allows none is told."""
    one = gates("MaxSessions 1")

    async def follow(endpoint: Endpoint) -> None:
        link = kept.hold("vm", always(endpoint))
        try:
            await asyncio.gather(*(link.run("true", timeout=20) for _ in range(12)))
        finally:
            link.close()

    go(follow(one.endpoint))
    none = gates("MaxSessions 0")

    async def refused() -> None:
        link = kept.hold("vm", always(none.endpoint))
        try:
            with pytest.raises(UnreachableError, match="opens no session") as caught:
                await link.run("true", timeout=0.5)
        finally:
            link.close()
        assert "MaxSessions" in str(caught.value)

    go(refused())


def test_who_lets_go_does_not_close_it_for_others(gates: Gates) -> None:
    """Closing one share, twice even, or cancelling one in the middle of a command leaves the other's commands alone."""
    gate = gates()

    async def follow() -> None:
        first, second, third = (kept.hold("vm", always(gate.endpoint)) for _ in range(3))
        before = await caller(first)
        sleeping = asyncio.create_task(third.run("sleep 30", timeout=40))
        running = asyncio.create_task(second.run("sleep 0.5; echo done", timeout=20))
        await asyncio.sleep(0)
        first.close()
        first.close()
        sleeping.cancel()
        third.close()
        assert (await running).text == "done"
        assert await caller(second) == before
        with pytest.raises(ValueError, match="was closed"):
            await first.run("true", timeout=5)
        second.close()

    go(follow())


def test_commands_that_are_given_up_leave_no_session_behind(gates: Gates) -> None:
    """Whatever moment a caller is cancelled at, its session counts no longer than its command runs."""
    gate = gates("MaxSessions 2")

    async def follow() -> None:
        link = kept.hold("vm", always(gate.endpoint))
        await link.run("true", timeout=20)
        for step in range(12):
            task = asyncio.create_task(link.run("sleep 0.1", timeout=20))
            await asyncio.sleep(step / 2000)
            task.cancel()
            await asyncio.wait([task])
        await asyncio.gather(*(link.run("true", timeout=10) for _ in range(4)))
        link.close()

    go(follow())


def test_a_connection_that_died_is_replaced_once(gates: Gates) -> None:
    """After sshd's restart everybody gets the error once, and all share the one new connection."""
    gate = gates()
    number = gate.endpoint.port

    async def follow() -> None:
        links = [kept.hold("vm", always(gate.endpoint)) for _ in range(5)]
        await asyncio.gather(*(one.run("true", timeout=20) for one in links))
        gate.end()
        failed = await asyncio.gather(*(one.run("true", timeout=5) for one in links), return_exceptions=True)
        assert {type(one) for one in failed} == {UnreachableError}
        again = await asyncio.to_thread(gates, port=number, host_key=gate.host_key)
        assert len(set(await asyncio.gather(*(caller(one) for one in links)))) == 1
        assert again.logins() == 1
        for one in links:
            one.close()

    go(follow())


def test_a_command_that_does_not_end_costs_others_nothing(gates: Gates) -> None:
    """Its caller gets an error and the next command a new connection; what runs over the old one ends in peace."""
    gate = gates()

    async def follow() -> None:
        slow, other = (kept.hold("vm", always(gate.endpoint)) for _ in range(2))
        before = await caller(slow)
        running = asyncio.create_task(other.run("sleep 1; echo done", timeout=20))
        with pytest.raises(UnreachableError, match="did not end within"):
            await slow.run("sleep 30", timeout=0.3)
        assert await caller(slow) != before
        assert (await running).text == "done"
        slow.close()
        other.close()

    go(follow())


def test_a_changed_connection_is_taken_up(gates: Gates, monkeypatch: pytest.MonkeyPatch) -> None:
    """The Airflow connection is read again now and then; while it cannot be read or used, the open one serves."""
    monkeypatch.setattr(kept, "REFRESH_SECONDS", 0.0)
    old, new = gates().endpoint, gates().endpoint
    answers: list[Endpoint | Exception] = [old]

    async def resolve() -> Endpoint:
        if isinstance(answers[-1], Exception):
            raise answers[-1]
        return answers[-1]

    async def port(link: Held) -> int:
        return int((await link.run("echo $SSH_CONNECTION", timeout=20)).text.split()[-1])

    async def follow() -> None:
        link = kept.hold("vm", resolve)
        assert await port(link) == old.port
        answers.append(ConnectionError("Airflow's API is away"))
        assert await port(link) == old.port
        answers.append(ConfigurationError("somebody emptied the host key"))
        assert await port(link) == old.port
        answers.append(new)
        assert await port(link) == new.port
        link.close()

    go(follow())


def test_a_login_that_fails_fails_for_all_who_wait_and_is_tried_again(gates: Gates, endpoint: Endpoint) -> None:
    """Thirty that wait for one login are told together, within one time-out, and the next command tries anew."""
    good, wanted = gates().endpoint, [replace(endpoint, port=1)]

    async def resolve() -> Endpoint:
        return wanted[0]

    async def follow() -> None:
        links = [kept.hold("vm", resolve) for _ in range(FOLLOWERS)]
        failed = await asyncio.gather(*(one.run("true", timeout=5) for one in links), return_exceptions=True)
        assert {type(one) for one in failed} == {UnreachableError}
        wanted[0] = good
        assert len(set(await asyncio.gather(*(caller(one) for one in links)))) == 1
        for one in links:
            one.close()

    go(follow())
