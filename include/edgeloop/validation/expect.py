"""Great Expectations, started once and asked about every file of a task."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgeloop.errors import ConfigurationError

if TYPE_CHECKING:
    import pandas as pd

    from edgeloop.validation.suite import Rule, Suite


NUMBER = "edgeloop_rule"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How one expectation went on one file: ``failing`` row positions (from 0) of ``total``; none for a table's."""

    rule: Rule
    success: bool
    failing: tuple[int, ...]
    total: int
    evaluated: bool = True


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
        expectations = _numbered(suite)
        refused = [
            f"{rule}: {reason}"
            for rule, one in zip(suite.rules, expectations, strict=True)
            if (reason := _refusal(one))
        ]
        if refused:
            raise ConfigurationError(
                f"Great Expectations does not take {len(refused)} expectations of the suite {suite.name}:\n"
                + "\n".join(refused),
                left="nothing was validated",
                next="Correct expectations.json, then run the batch again with force to use today's file.",
            )
        self._suite = gx.ExpectationSuite(name=suite.name, expectations=expectations)

    def run(self, frame: pd.DataFrame) -> tuple[Outcome, ...]:
        """The suite's outcomes on one file's rows (index 0 to n-1), in the order of its rules."""
        batch = self._whole.get_batch({"dataframe": frame})
        complete = {"result_format": "COMPLETE", "include_unexpected_rows": False}
        result = batch.validate(self._suite, result_format=complete)
        # Results come back grouped by column, not in the suite's order.
        answers = {int(one.expectation_config.meta[NUMBER]): one for one in result.results}
        return tuple(_outcome(rule, answers[number], len(frame)) for number, rule in enumerate(self.suite.rules))


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


def _outcome(rule: Rule, answer: Any, total: int) -> Outcome:
    failing = (answer.result or {}).get("unexpected_index_list") or []
    return Outcome(
        rule=rule,
        success=bool(answer.success),
        failing=tuple(sorted(int(position) for position in failing)),
        total=total,
        evaluated=not _raised(answer.exception_info),
    )


def _raised(info: Any) -> bool:
    """Whether an expectation raised; the library reports one exception flat, several by metric."""
    if not isinstance(info, dict):
        return False
    return bool(info.get("raised_exception")) or any(_raised(one) for one in info.values() if isinstance(one, dict))
