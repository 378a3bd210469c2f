"""What is a valid pipeline.yaml and can never work: told when it is loaded, not weeks later when its turn has come.

Asked of what a person has just written, never of a snapshot that a batch pinned.
"""

from __future__ import annotations

import ast
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from edgeloop.pipeline_parts import twice
from edgeloop.residency import Refusal
from edgeloop.validation.suite import COLUMN_EXPECTATIONS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edgeloop.pipeline import Pipeline

DAYS_OF_A_MONTH = 31
LARGEST_FLOAT32 = 3.4028235e38
YEAR_HOURS, WEEK_SECONDS = 8760, 604_800
ANY_LEAP_YEAR = datetime(2024, 1, 1, tzinfo=UTC)
PANDAS_OWN = ("index", "inf", "Inf", "datetime", "list", "tuple")
"""Names that a query may use though no column has them."""
IMAGE_NAME = r"[A-Za-z0-9][^\s]*"


def doubts(spec: Pipeline) -> Iterator[Refusal]:
    """Everything in one pipeline.yaml that contradicts itself or asks for what there is not."""
    yield from _source(spec)
    yield from _columns(spec)
    yield from _model(spec)
    yield from _training(spec)
    yield from _rollout(spec)
    yield from _schedules(spec)


def _source(spec: Pipeline) -> Iterator[Refusal]:
    source = spec.source
    if not source.pattern:
        yield Refusal(at=("source", "pattern"), remedy="is empty and no file has such a name; write '*' for all")
    parts = source.folder.replace("\\", "/").split("/")
    if source.kind != "blob" and (".." in parts or (source.folder and not parts[0])):
        remedy = f"{source.folder!r} leads out of the share; write it relative to the share, without a '/' in front"
        yield Refusal(at=("source", "folder"), remedy=remedy)


def _columns(spec: Pipeline) -> Iterator[Refusal]:
    columns = spec.columns
    named = {name: getattr(columns, name) for name in ("time", "site", "target")}
    for name, column in named.items():
        if not column:
            yield Refusal(at=("columns", name), remedy="is empty; write the column's name as it is in the files")
    for column in twice(named.values()):
        at = [name for name, other in named.items() if other == column][-1]
        yield Refusal(at=("columns", at), remedy=f"names {column!r} again; time, site and target are three columns")


def _model(spec: Pipeline) -> Iterator[Refusal]:
    for number, feature in enumerate(spec.model.features):
        for end in ("low", "high"):
            if abs(getattr(feature, end)) > LARGEST_FLOAT32:
                remedy = "is no float32, which is what the model's input is; write the range that the plant has"
                yield Refusal(at=("model", "features", number, end), remedy=remedy)
    try:
        names_of(spec.model.domain)
    except (SyntaxError, ValueError, RecursionError) as error:
        said = error.msg if isinstance(error, SyntaxError) else error
        remedy = f"is no pandas query ({said}); write for example 'Ws_avg > 2.5 and Ot_avg > -50'"
        yield Refusal(at=("model", "domain"), remedy=remedy)


def _training(spec: Pipeline) -> Iterator[Refusal]:
    asked = spec.training
    if asked.minimum_months > asked.window_months:
        remedy = (
            f"holds {asked.window_months} months and minimum_months is {asked.minimum_months}: nothing would ever be "
            f"trained; write minimum_months: {asked.window_months}, or a longer window"
        )
        yield Refusal(at=("training", "window_months"), remedy=remedy)
    if asked.holdout_days >= asked.window_months * DAYS_OF_A_MONTH:
        remedy = f"is the whole window of {asked.window_months} months, and leaves nothing to train on; write fewer"
        yield Refusal(at=("training", "holdout_days"), remedy=remedy)
    for number, pattern in enumerate(asked.reports):
        if pattern.startswith("/") or ".." in pattern.split("/"):
            remedy = f"{pattern!r} leads out of /outputs; write it relative to that, for example '*.html'"
            yield Refusal(at=("training", "reports", number), remedy=remedy)
    for section, name, image in (("training", "image", asked.image), ("image", "base", spec.image.base)):
        if not re.fullmatch(IMAGE_NAME, image):
            yield Refusal(
                at=(section, name), remedy=f"{image!r} is no image's name; write for example 'edgeloop/own:1'"
            )


def _rollout(spec: Pipeline) -> Iterator[Refusal]:
    # A number of hours that no calendar has: the DAG of the rollout alone could not be built, and nobody was told.
    for name, most, told in (("approval_hours", YEAR_HOURS, "a year"), ("soak_seconds", WEEK_SECONDS, "a week")):
        if getattr(spec.rollout, name) > most:
            yield Refusal(at=("rollout", name), remedy=f"is longer than {told} ({most}), and holds a ring that long")


def _schedules(spec: Pipeline) -> Iterator[Refusal]:
    for name, expression in spec.schedules:
        # Only a day of the month in named months may be one that never comes; asking costs every parse of a DAG file.
        if expression and "*" not in (expression.split()[2], expression.split()[3]) and not _comes(expression):
            remedy = f"{expression!r} is a day that never comes (fields: minute, hour, day, month, day of the week)"
            yield Refusal(at=("schedules", name), remedy=remedy)


def _comes(expression: str) -> bool:
    from croniter import CroniterBadDateError, croniter

    try:
        croniter(expression, ANY_LEAP_YEAR).get_next()
    except CroniterBadDateError:
        return False
    return True


def names_of(domain: str) -> frozenset[str]:
    """The columns that a pandas query names; ``SyntaxError`` where it is none."""
    if not domain.strip():
        return frozenset()
    quoted = re.findall(r"`([^`]+)`", domain)
    tree = ast.parse(re.sub(r"`[^`]+`", "True", domain).strip(), mode="eval")
    called = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and id(node) not in called}
    return frozenset(name for name in (*names, *quoted) if name not in PANDAS_OWN and not name.startswith("ilevel_"))


def column_doubts(spec: Pipeline, suite: Any) -> Iterator[Refusal]:
    """Columns that pipeline.yaml names and that the suite, a body of valid shape, lets no file have."""
    there = _columns_of(suite)
    if there is None:
        return
    columns = spec.columns
    named = [(("columns", name), getattr(columns, name)) for name in ("time", "site", "target")]
    named += [(("columns", "identifiers"), one) for one in columns.identifiers]
    named += [(("model", "domain"), one) for one in sorted(names_of(spec.model.domain))]
    known = ", ".join(sorted(there))
    for at, column in named:
        if column not in there:
            remedy = f"names {column!r}, which expectations.json lets no file have; its columns are {known}"
            yield Refusal(at=at, remedy=remedy)


def _columns_of(suite: Any) -> frozenset[str] | None:
    """The columns of every file, where a suite lists exactly those; else None."""
    for one in suite["expectations"]:
        if argument := COLUMN_EXPECTATIONS.get(one["type"]):
            kwargs = one.get("kwargs") or {}
            exact = kwargs.get("exact_match", True)
            return frozenset(map(str, kwargs.get(argument) or ())) or None if exact else None
    return None


def argument_doubts(suite: Any) -> Iterator[tuple[int, str, str]]:
    """What is wrong with the arguments of a suite's expectations: number from 0, field, and what to write instead."""
    there = _columns_of(suite)
    for number, one in enumerate(suite["expectations"]):
        kwargs = one.get("kwargs") or {}
        wanted = _column_arguments(one["type"])
        for name in wanted:
            if not isinstance(kwargs.get(name), str):
                yield number, f"kwargs.{name}", f"is missing; {one['type']} needs the name of a column there"
            elif there is not None and kwargs[name] not in there:
                known = ", ".join(sorted(there))
                yield number, f"kwargs.{name}", f"is {kwargs[name]!r}, and the suite's own columns are {known}"
        mostly = kwargs.get("mostly", 1)
        if isinstance(mostly, int | float) and not 0 <= mostly <= 1:
            yield number, "kwargs.mostly", f"is {mostly}; write a share of rows from 0 to 1, for example 0.95"


def _column_arguments(expectation: str) -> tuple[str, ...]:
    if expectation.startswith("expect_column_pair_"):
        return ("column_A", "column_B")
    return ("column",) if expectation.startswith("expect_column_") else ()
