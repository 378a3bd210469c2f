"""Data Docs of a batch: one page that opens from a download, with no script and nothing to fetch.

Great Expectations' own site is 4 MB a batch, most of it shared assets and some from a content delivery network, and it
is made of a result over the file in one piece, which a file judged in chunks does not have. So the demands are in its
words and the page is ours. It is as private as the data: it holds values.
"""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

from edgeloop.validation.suite import Severity
from edgeloop.validation.verdict import broken

if TYPE_CHECKING:
    from collections.abc import Iterable

    from edgeloop.validation.expect import Outcome
    from edgeloop.validation.judge import Judged, Sample

STYLE = """
body{font:15px/1.45 system-ui,sans-serif;margin:2rem auto;max-width:70rem;padding:0 1rem;color:#1c2530}
h1{font-size:1.4rem}h2{font-size:1.1rem;margin-top:2rem}
table{border-collapse:collapse;width:100%}th,td{text-align:left;padding:.3rem .6rem;border-bottom:1px solid #d8dee6;
vertical-align:top}td.n{text-align:right;font-variant-numeric:tabular-nums}code{background:#f1f4f8;padding:0 .2rem}
.held{color:#146c43}.broken{color:#b02a37;font-weight:600}.noted{color:#8a5a00}
@media(prefers-color-scheme:dark){body{background:#12161c;color:#dfe6ee}th,td{border-color:#2c3642}code{background:#1e252e}
.held{color:#63c796}.broken{color:#ff8a94}.noted{color:#e3b25b}}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """What a page is about: which batch, judged by what, and how it ended."""

    pipeline: str
    batch: str
    suite: str
    library: str
    ended: str


def page(about: Page, files: Iterable[Judged], aside: Iterable[str], sentences: tuple[str, ...]) -> str:
    """The page as HTML. The same batch judged by the same suite is the same page: it holds no clock.

    Args:
        about: Which batch.
        files: Its files, judged.
        aside: Files that were set aside, a sentence each.
        sentences: What each expectation of the suite demands.
    """
    facts = (("Pipeline", about.pipeline), ("Suite", about.suite), ("Judged by", about.library))
    parts = [
        "<!doctype html><html lang=en><head><meta charset=utf-8>",
        "<meta name=viewport content='width=device-width,initial-scale=1'>",
        f"<title>{escape(about.batch)}</title><style>{STYLE}</style></head><body>",
        f"<h1>Batch {escape(about.batch)}: {escape(about.ended)}</h1><table>",
        *(f"<tr><th>{name}</th><td>{escape(value)}</td></tr>" for name, value in facts),
        "</table>",
    ]
    if aside := list(aside):
        parts += ["<h2>Files set aside</h2><ul>", *(f"<li>{escape(one)}</li>" for one in aside), "</ul>"]
    for one in files:
        parts += _file(one, sentences)
    return "\n".join([*parts, "</body></html>"]) + "\n"


def _file(one: Judged, sentences: tuple[str, ...]) -> list[str]:
    return [
        f"<h2>{escape(one.path)}</h2>",
        f"<p>{one.rows} rows: {one.kept} kept, {one.quarantined} quarantined.</p>",
        "<table><tr><th>Expectation</th><th>Severity</th><th>Result</th><th>Rows</th><th>Observed</th></tr>",
        *(_row(outcome, said) for outcome, said in zip(one.outcomes, sentences, strict=True)),
        "</table>",
        *_samples(one.samples),
    ]


def _row(outcome: Outcome, said: str) -> str:
    rule = outcome.rule
    if not broken(outcome):
        result, look = ("held" if not outcome.failing else "within its budget"), "held"
    else:
        noted = rule.severity is Severity.WARN
        result, look = ("noted" if noted else "broken"), ("noted" if noted else "broken")
        result += "" if outcome.evaluated else ": could not be evaluated"
    share = f"{len(outcome.failing)} of {outcome.total}" if outcome.failing else ""
    budget = f", budget {rule.budget:.2%}" if outcome.failing else ""
    reason = f"<br>{escape(rule.reason)}" if rule.reason else ""
    return (
        f"<tr><td>{escape(said)}<br><code>{escape(str(rule))}</code>{reason}</td><td>{rule.severity.value}</td>"
        f"<td class={look}>{result}</td><td class=n>{share}{budget}</td><td>{escape(outcome.observed)}</td></tr>"
    )


def _samples(samples: tuple[Sample, ...]) -> list[str]:
    if not samples:
        return []
    rows = [
        f"<tr><td><code>{escape(one.fault)}</code></td><td class=n>{one.count}</td>"
        f"<td>{', '.join(f'row {number}: <code>{escape(value)}</code>' for number, value in one.rows)}</td></tr>"
        for one in samples
    ]
    head = "<tr><th>Reason</th><th>Rows</th><th>First</th></tr>"
    return ["<h3>Quarantined rows, the first of each reason</h3>", "<table>", head, *rows, "</table>"]
