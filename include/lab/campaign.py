"""`make faults`: parts of a site are broken at random points of the loop, and what must hold after is looked at.

python -m lab.campaign --site test --number 20 --seed 1 --only vm_power_cut,vm_link_cut
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

from rich.console import Console

from edgeloop.errors import EdgeloopError
from lab import campaign_checks, campaign_site
from lab.campaign_kinds import KINDS
from lab.campaign_unit import MissedError
from lab.campaign_work import OF_THE_LOOP, WORKS, finish
from lab.demo import stop
from lab.errors import LabError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lab.campaign_site import Ground
    from lab.campaign_strikes import Kind

REPORT = Path("build") / "faults.json"
TRIES = 3
"""A fault that found its work over is tried again on fresh work, this often."""
BY_ITSELF, AFTER_CLEAR, RESTORED, BROKEN = "by itself", "after clear", "restored", "broken"


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One round: what was struck when, how the work ended, and what does not hold after it."""

    kind: str
    work: str
    point: str
    how: str
    broken: tuple[str, ...]
    seconds: float
    missed: int = 0

    @property
    def held(self) -> bool:
        """Whether all that must hold does."""
        return not self.broken

    def __str__(self) -> str:
        """One line."""
        said = f"{self.kind}: {self.point}: {self.how} ({self.seconds:.0f} s)"
        return said if self.held else f"{said} BROKEN: {'; '.join(self.broken)}"


def strike(ground: Ground, kind: Kind, rng: Random, serial: str) -> Result:
    """One round of one kind: fresh work, the fault at a random moment of it, the work's end, and the checks of it."""
    began = time.monotonic()
    work = kind.work or rng.choice(OF_THE_LOOP)
    for missed in range(TRIES):
        unit = WORKS[work].begin(ground, rng, f"{serial}-{missed}")
        wrong: list[str] = []
        try:
            point = kind.strike(ground, unit, rng)
        except MissedError as error:
            point = error.what
            if missed + 1 < TRIES:
                finish(ground, unit)
                continue
        except EdgeloopError as error:
            point, wrong = "not struck", [f"the fault itself: {error}"]
        ending = finish(ground, unit)
        if ending.how == BROKEN:
            wrong.append(ending.reason)
        wrong += campaign_checks.after(ground, unit, retrains=kind.retrains)
        how, seconds = BROKEN if wrong else ending.how, time.monotonic() - began
        return Result(
            kind=kind.name, work=work, point=point, how=how, broken=tuple(wrong), seconds=seconds, missed=missed
        )
    raise AssertionError("unreachable: the last try always returns")


def together(ground: Ground, kinds: Sequence[Kind], seed: str) -> list[Result]:
    """Rounds of several kinds at once, each on work of its own kind; then what must hold of the whole site."""
    before = campaign_checks.at_rest(ground)
    # Files that arrive are of groups of their own, so any number of such kinds may strike at once.
    works = [kind.work for kind in kinds if kind.work != "arrivals"]
    assert len(set(works)) == len(works), "two of these strike the same kind of work"
    with ThreadPoolExecutor() as pool:
        rounds = [
            pool.submit(strike, ground, kind, Random(f"{seed}-{kind.name}"), f"{int(time.time())}-{kind.name}")
            for kind in kinds
        ]
    results = [one.result() for one in rounds]
    # What an earlier round broke is not these kinds' fault; it was told then.
    wrong = [one for one in campaign_checks.at_rest(ground) if one not in before]
    return [_with(one, wrong) for one in results]


def _with(result: Result, wrong: Sequence[str]) -> Result:
    if not wrong:
        return result
    return Result(
        kind=result.kind, work=result.work, point=result.point, how=BROKEN,
        broken=(*result.broken, *wrong), seconds=result.seconds, missed=result.missed,
    )  # fmt: skip


def chosen(only: str) -> tuple[Kind, ...]:
    """The kinds named, separated by commas; all of them for "". Raises ``LabError`` for a name that is none."""
    names = [one.strip() for one in only.split(",") if one.strip()]
    unknown = sorted(set(names) - {kind.name for kind in KINDS})
    if unknown:
        known = ", ".join(sorted(kind.name for kind in KINDS))
        raise LabError(f"no such kind of fault: {', '.join(unknown)}", left="nothing was started", next=f"Use: {known}")
    return tuple(kind for kind in KINDS if not names or kind.name in names)


def run(
    ground: Ground, number: int, seed: int, say: Callable[[str], None], *, kinds: Sequence[Kind] = KINDS
) -> list[Result]:
    """`number` rounds, one after the other; the kinds in a random order, each before any is tried again."""
    rng = Random(seed)
    deck: list[Kind] = []
    results = []
    for at in range(number):
        if not deck:
            deck = rng.sample(kinds, len(kinds))
        (result,) = together(ground, [deck.pop()], f"{seed}-{at}")
        say(f"{at + 1}/{number} {result}")
        results.append(result)
    return results


def report(results: Sequence[Result], seed: int) -> dict[str, object]:
    """The counts, as build/faults.json holds them."""
    kinds = {}
    for name in sorted({one.kind for one in results}):
        mine = [one for one in results if one.kind == name]
        kinds[name] = {
            "tried": len(mine),
            "held": sum(one.held for one in mine),
            "by_itself": sum(one.how == BY_ITSELF for one in mine),
            "after_clear": sum(one.how == AFTER_CLEAR for one in mine),
            "restored": sum(one.how == RESTORED for one in mine),
            "missed": sum(one.missed for one in mine),
        }
    return {
        "seed": seed,
        "number": len(results),
        "held": sum(one.held for one in results),
        "seconds": round(sum(one.seconds for one in results), 1),
        "kinds": kinds,
        "broken": [
            {"kind": one.kind, "work": one.work, "point": one.point, "reasons": list(one.broken)}
            for one in results
            if not one.held
        ],
        "rounds": [
            {"kind": one.kind, "work": one.work, "point": one.point, "how": one.how, "seconds": round(one.seconds, 1)}
            for one in results
        ],
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Bring the site up, make a champion if there is none, strike, and report; 1 if anything did not hold."""
    parser = argparse.ArgumentParser(prog="python -m lab.campaign", description=__doc__)
    parser.add_argument("--site", default="test", help="name of the lab site (default: test)")
    parser.add_argument("--number", type=int, default=20, help="rounds (default: 20)")
    parser.add_argument("--seed", type=int, default=1, help="of the kinds' order and the points (default: 1)")
    parser.add_argument("--only", default="", help="kinds, separated by commas (default: all)")
    options = parser.parse_args(argv)
    console = Console()
    began = time.monotonic()

    def say(text: str) -> None:
        console.print(f"[dim]{time.monotonic() - began:6.0f} s[/] {text}", highlight=False)

    try:
        kinds = chosen(options.only)
    except EdgeloopError as error:
        console.print(f"[bold red]The campaign did not start.[/]\n{error}", highlight=False)
        return 1
    try:
        results = _campaign(options, kinds, say)
    except EdgeloopError as error:
        console.print(f"[bold red]The campaign stopped.[/]\n{error}\n{_left_up(options.site)}", highlight=False)
        return 1
    REPORT.parent.mkdir(exist_ok=True)
    REPORT.write_text(json.dumps(report(results, options.seed), indent=1) + "\n")
    held = sum(one.held for one in results)
    say(f"{held} of {len(results)} faults left everything as it must be; see {REPORT}")
    if held < len(results):
        say(_left_up(options.site))
        return 1
    stop(options.site, console)
    return 0


def _left_up(name: str) -> str:
    return f"The site is left up for looking at; to stop it: python -m lab.demo down --site {name}"


def _campaign(options: argparse.Namespace, kinds: Sequence[Kind], say: Callable[[str], None]) -> list[Result]:
    import lab

    name = options.site
    say(f"bringing site {name} up")
    site = lab.up(name)
    folder = site.state / campaign_site.FOLDER
    airflow = campaign_site.airflow_for(site, folder, say)
    if not airflow.running():
        campaign_site.small_pipeline(folder)
        campaign_site.bulk_pipeline(folder)
    airflow.start()
    with campaign_site.ground_of(airflow, site, folder) as ground:
        say("making sure of a champion")
        campaign_site.ensure_champion(ground, campaign_site.MONTHS)
        return run(ground, options.number, options.seed, say, kinds=kinds)


if __name__ == "__main__":
    sys.exit(main())
