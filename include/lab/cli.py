"""The lab on the command line: python -m lab <verb> --site <name>."""

from __future__ import annotations

import argparse
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from lab import install, lifecycle, processes
from lab import layout as layouts
from lab import parts as all_parts
from lab import site as sites
from lab.errors import LabError
from lab.progress import Screen

if TYPE_CHECKING:
    from collections.abc import Sequence

_VERBS = {
    "install": "install the Debian packages and node modules the lab needs, only what is missing",
    "up": "start the site, or find it healthy",
    "down": "stop all the site started; its state stays",
    "status": "say what of the site answers",
    "clean": "stop the site and remove its state",
}


def parser() -> argparse.ArgumentParser:
    """The command line's grammar."""
    made = argparse.ArgumentParser(prog="lab", description=__doc__)
    verbs = made.add_subparsers(dest="verb", required=True)
    for verb, meaning in _VERBS.items():
        sub = verbs.add_parser(verb, help=meaning, description=meaning)
        sub.add_argument("--site", default="demo", help="the site's name (default: demo)")
        if verb == "up":
            sub.add_argument("--parts", help="only these and what they stand on, separated by commas")
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Do what the command line says; returns the exit status."""
    arguments = parser().parse_args(argv)
    console = Console()
    began = time.monotonic()
    try:
        status = _do(arguments, console)
    except LabError as error:
        console.print(f"[bold red]{type(error).__name__}[/]", highlight=False)
        console.print(str(error), markup=False, highlight=False)
        return 1
    console.print(f"{arguments.verb} of {arguments.site}: {time.monotonic() - began:.1f} s", highlight=False)
    return status


def _do(arguments: argparse.Namespace, console: Console) -> int:
    name = arguments.site
    if arguments.verb == "status":
        return _status(name, console)
    with Screen(f"{arguments.verb} {name}", console) as screen:
        if arguments.verb == "install":
            install.install(sites.cache_root(), screen)
        elif arguments.verb == "up":
            parts = arguments.parts.split(",") if arguments.parts else None
            lifecycle.up(name, parts=parts, progress=screen)
        elif arguments.verb == "down":
            lifecycle.down(name, progress=screen)
        else:
            lifecycle.clean(name, progress=screen)
    return 0


def _status(name: str, console: Console) -> int:
    install.require_root("look into a site", ["ask each part whether it answers"])
    layout = layouts.resolve(name)
    if not (layout.state / layouts.MARKER).exists():
        layouts.forget(layout)
        console.print(f"site {name} was never up: {layout.state} holds nothing of the lab's", highlight=False)
        return 1
    parts = all_parts.every(layout)
    with ThreadPoolExecutor() as pool:
        answers = dict(zip(parts, pool.map(lambda part: part.healthy(), parts.values()), strict=True))
    records = {record.name: record for record in processes.every(layout)}
    answers |= {extra: records[extra].running for extra in records if extra not in all_parts.records(parts)}
    table = Table("part", "state", "pid", "log", title=f"site {name}: 10.77.{layout.index}.0/24, {layout.state}")
    for part, answer in answers.items():
        record = records.get(part)
        pid, log = (str(record.pid), record.log) if record is not None and record.running else ("", "")
        table.add_row(part, "[green]up[/]" if answer else "[red]down[/]", pid, log)
    console.print(table)
    return 0 if all(answers.values()) else 1
