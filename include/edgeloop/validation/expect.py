"""Great Expectations, started once and asked about every file of a task."""

from __future__ import annotations

import json
import logging
from array import array
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from edgeloop.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

    from edgeloop.validation.suite import Rule, Suite


NUMBER = "edgeloop_rule"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How one expectation went on one file.

    Args:
        rule: The expectation and its price.
        success: Whether it holds.
        failing: Positions (from 0, ascending) of the rows that break it, of ``total``; none for a table's.
        evaluated: Whether it could be judged at all.
        observed: The value that was found, where it is one: a mean, a count, the columns. Private, as the data is.
    """

    rule: Rule
    success: bool
    total: int
    failing: array[int] = field(default_factory=lambda: array("q"))
    evaluated: bool = True
    observed: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What Great Expectations says of one expectation on one frame.

    ``considered`` are the rows that count for ``mostly``; None for an expectation that does not look at rows.
    """

    success: bool
    evaluated: bool
    failing: Sequence[int]
    considered: int | None
    observed: Any


class Expectations:
    """A suite ready to run. Starting it imports Great Expectations, which takes seconds: once per task.

    Raises:
        ConfigurationError: The suite names an expectation or an argument that Great Expectations does not know.
    """

    def __init__(self, suite: Suite) -> None:
        import great_expectations as gx
        from great_expectations.data_context.types.base import ProgressBarsConfig

        # Its progress bars and chatter would fill the task's log, and may quote values.
        logging.getLogger("great_expectations").setLevel(logging.ERROR)
        self.suite = suite
        self._context = gx.get_context(mode="ephemeral")
        self._context.variables.progress_bars = ProgressBarsConfig(globally=False)
        self._frames = self._context.data_sources.add_pandas("files").add_dataframe_asset("file")
        self._whole = self._frames.add_batch_definition_whole_dataframe("whole")
        self._bodies = _numbered(suite)
        self._suites: dict[tuple[int, ...], Any] = {}
        refused = [
            f"{rule}: {reason}"
            for rule, one in zip(suite.rules, self._bodies, strict=True)
            if (reason := _refusal(one))
        ]
        if refused:
            raise ConfigurationError(
                f"Great Expectations does not take {len(refused)} expectations of the suite {suite.name}:\n"
                + "\n".join(refused),
                left="nothing was validated",
                next="Correct expectations.json, then run the batch again with force to use today's file.",
            )

    def ask(self, rules: tuple[int, ...], frame: pd.DataFrame) -> dict[int, Answer]:
        """The answers of some rules, by their number in the suite, on some rows (index 0 to n-1)."""
        import great_expectations as gx

        if rules not in self._suites:
            bodies = [self._bodies[number] for number in rules]
            self._suites[rules] = gx.ExpectationSuite(name=self.suite.name, expectations=bodies)
        batch = self._whole.get_batch({"dataframe": frame})
        complete = {"result_format": "COMPLETE", "include_unexpected_rows": False}
        result = batch.validate(self._suites[rules], result_format=complete)
        # The library keeps the last frame until it gets another; it would lie beside the one that is read next.
        kept = self._frames.datasource.get_execution_engine().batch_manager
        kept.reset_batch_cache()
        kept.batch_data_cache.clear()
        # Results come back grouped by column, not in the suite's order.
        return {int(one.expectation_config.meta[NUMBER]): _answer(one) for one in result.results}

    def run(self, frame: pd.DataFrame) -> tuple[Outcome, ...]:
        """The suite's outcomes on one file's rows in one piece, in the order of its rules."""
        numbers = tuple(range(len(self.suite.rules)))
        answers = self.ask(numbers, frame) if numbers else {}
        return tuple(outcome(self.suite.rules[number], answers[number], len(frame)) for number in numbers)

    def sentences(self) -> tuple[str, ...]:
        """What each rule of the suite demands, in Great Expectations' own words."""
        import great_expectations as gx
        from great_expectations.render.renderer.inline_renderer import InlineRenderer

        suite = gx.ExpectationSuite(name=self.suite.name, expectations=self._bodies)
        said = {
            int(one.meta[NUMBER]): _words(InlineRenderer(render_object=one.configuration).get_rendered_content())
            for one in suite.expectations
        }
        return tuple(said[number] for number in range(len(self._bodies)))


def outcome(rule: Rule, answer: Answer, total: int) -> Outcome:
    """One answer about all of a file's rows."""
    return Outcome(
        rule=rule,
        success=answer.success,
        total=total,
        failing=array("q", sorted(answer.failing)),
        evaluated=answer.evaluated,
        observed=shown(answer.observed),
    )


def shown(observed: Any) -> str:
    """An observed value as text of bounded length; "" for none."""
    text = "" if observed is None else json.dumps(observed, default=str, ensure_ascii=False)
    return text if len(text) <= 200 else text[:199] + "\u2026"  # noqa: PLR2004 - a line of a page


def _numbered(suite: Suite) -> list[dict[str, Any]]:
    expectations = [json.loads(one) for one in suite.expectations]
    return [{**one, "meta": {**(one.get("meta") or {}), NUMBER: number}} for number, one in enumerate(expectations)]


def _refusal(one: dict[str, Any]) -> str:
    """Why an expectation cannot be built, or "". An unknown one is left out with a line in the log, and would pass."""
    import great_expectations as gx

    try:
        return (
            "" if gx.ExpectationSuite(name="one", expectations=[one]).expectations else "there is no such expectation"
        )
    except (ValueError, TypeError) as error:  # the library's pydantic 1 errors are ValueErrors
        return " ".join(str(error).split())


def _answer(one: Any) -> Answer:
    result = one.result or {}
    count = result.get("element_count")
    return Answer(
        success=bool(one.success),
        evaluated=not _raised(one.exception_info),
        failing=[int(position) for position in result.get("unexpected_index_list") or ()],
        # Expectations about nulls have no missing_count: every row counts for them.
        considered=None if count is None else int(count) - int(result.get("missing_count") or 0),
        observed=result.get("observed_value"),
    )


def _raised(info: Any) -> bool:
    """Whether an expectation raised; the library reports one exception flat, several by metric."""
    if not isinstance(info, dict):
        return False
    return bool(info.get("raised_exception")) or any(_raised(one) for one in info.values() if isinstance(one, dict))


def _words(rendered: list[Any]) -> str:
    from string import Template

    parts = []
    for one in rendered:
        value = one.to_json_dict()["value"]
        value = value.get("header", {}).get("value", value)
        if value.get("template"):
            params = {name: body["value"] for name, body in (value.get("params") or {}).items()}
            parts.append(Template(value["template"]).safe_substitute(params))
    return " ".join(parts)
