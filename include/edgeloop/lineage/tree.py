"""A chain for a person to read: a tree each way, every check that does not hold beneath what it is about."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgeloop.lineage.chain import State

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.console import Group
    from rich.text import Text
    from rich.tree import Tree

    from edgeloop.lineage.chain import Check, Lineage, Node

MARKS = {State.SOUND: ("✓", "green"), State.UNPROVEN: ("?", "yellow"), State.BROKEN: ("✗ BROKEN", "bold red")}
WORDS = {"training_run": "training", "code": "code"}
SHOWN_ID = 16


def draw(lineage: Lineage) -> Group:
    """Everything in it, and what that comes to."""
    from rich.console import Group

    parts: list[Tree | Text] = [_tree(_line(lineage.subject), lineage.subject, ())]
    if lineage.made_of:
        parts.append(_branch("made of", lineage.made_of))
    if lineage.made_into:
        parts.append(_branch("made into", lineage.made_into))
    return Group(*parts, _verdict(lineage))


def _branch(title: str, nodes: Iterable[Node]) -> Tree:
    from rich.text import Text
    from rich.tree import Tree

    tree = Tree(Text(title, style="bold"))
    for one in nodes:
        tree.add(_tree(_line(one), one, one.links))
    return tree


def _tree(line: Text, node: Node, links: Iterable[Node]) -> Tree:
    from rich.text import Text
    from rich.tree import Tree

    tree = Tree(line)
    for fact in node.facts:
        tree.add(Text(fact, style="dim"))
    for check in node.checks:
        if check.state is not State.SOUND:
            tree.add(_wrong(check))
    for one in links:
        tree.add(_tree(_line(one), one, one.links))
    return tree


def _line(node: Node) -> Text:
    from rich.text import Text

    line = Text()
    if node.checks:
        mark, style = MARKS[node.state]
        line.append(f"{mark} ", style=style)
    line.append(f"{WORDS.get(node.kind, node.kind)} ", style="cyan")
    line.append(node.name, style="bold")
    algorithm, _, digits = node.id.rpartition(":")
    start = digits[:SHOWN_ID]
    if start not in node.name and node.kind not in {"device", "file"}:
        line.append(f"  {algorithm}{start}", style="dim")
    return line


def _wrong(check: Check) -> Text:
    from rich.text import Text

    mark, style = MARKS[check.state]
    return Text(f"{mark}: {check.what}? {check.found}" + (f"\nNext: {check.next}" if check.next else ""), style=style)


def _verdict(lineage: Lineage) -> Text:
    from rich.text import Text

    wrong = lineage.wrong()
    if not wrong:
        return Text(f"{lineage.checks} links tried, all of them hold.", style="green")
    broken = sum(check.state is State.BROKEN for _, check in wrong)
    return Text(
        f"{lineage.checks} links tried: {broken} broken, {len(wrong) - broken} could not be tried "
        "(docs/runbooks/lineage.md says what to do).",
        style="bold red" if broken else "yellow",
    )
