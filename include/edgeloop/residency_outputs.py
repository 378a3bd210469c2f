"""What may travel with a model: figures about it and synthetic rows, never a row of the data.

metrics.json is written by train.py, which sees every row, and its figures become labels of an image that is pushed to a
registry and pulled by devices. So of a pipeline marked ``on_premises`` it may hold numbers and the names that
pipeline.yaml holds anyway, and not many of them.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from edgeloop.errors import ResidencyError
from edgeloop.packaging.golden import draw
from edgeloop.residency import private

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from edgeloop.packaging.golden import Golden
    from edgeloop.pipeline import Pipeline

NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}")
ENTRIES, ENTRIES_PER_SITE = 100, 10
"""How much may travel: a model's figures, and some for each site."""


def require_figures(spec: Pipeline, metrics: Mapping[str, Any]) -> None:
    """Raise ``ResidencyError`` if the metrics of an ``on_premises`` pipeline could hold rows or values of its data."""
    if not private(spec):
        return
    wrong = sorted(set(_unfit(metrics, _known(spec), "metrics.json")))
    count, most = _entries(metrics), ENTRIES + ENTRIES_PER_SITE * len(spec.sites)
    if count > most:
        wrong.append(f"it has {count} entries, and figures about a model are at most {most}")
    if wrong:
        raise ResidencyError(
            f"The metrics of pipeline {spec.name}, which is on_premises, were about to travel with its image: "
            f"{'; '.join(wrong)}. What is there is not shown: it may be data.",
            left="metrics.json in the private account and the champion; nothing was registered or sent",
            next="Let train.py write numbers under plain names, for example {'accuracy': 0.93, 'mae': 21.5}; texts and "
            "lists may hold names of features, sites and columns only. Changed code trains anew.",
        )


def _known(spec: Pipeline) -> frozenset[str]:
    columns = (spec.columns.time, spec.columns.site, spec.columns.target)
    return frozenset({*columns, *(one.name for one in spec.model.features), *(one.name for one in spec.sites)})


def _unfit(value: Any, known: frozenset[str], where: str) -> Iterator[str]:
    """What is wrong, by the nearest name that may be told."""
    if isinstance(value, dict):
        for name, inner in value.items():
            if name in known or NAME.fullmatch(name):
                yield from _unfit(inner, known, name)
            else:
                yield f"a name below {where} is no plain one"
    elif isinstance(value, list):
        if not all(isinstance(one, str) and one in known for one in value):
            yield f"{where} is a list of other things than names of pipeline.yaml"
    elif isinstance(value, str) and value not in known:
        yield f"{where} is a text"


def _entries(value: Any) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return sum(1 + _entries(one) for one in inner)


def require_synthetic(spec: Pipeline, golden: Golden) -> None:
    """Raise ``ResidencyError`` unless the golden rows are those that are drawn from the features' ranges.

    They are stored beside the records and sent to the engine that proves the image, which may be anywhere: rows that
    somebody put in their place would leave with them.
    """
    if private(spec) and golden.rows != draw(spec.model.features, golden.sha256, len(golden.rows)):
        raise ResidencyError(
            f"Golden rows of pipeline {spec.name}, which is on_premises, were about to be sent to the engine "
            "that proves the image, and they are not the synthetic ones of its model: they may be rows of the data.",
            left="the file with the golden rows in the private account; nothing was sent",
            next="Trigger the packaging with that key and a reason to force: it draws them anew, under another name.",
        )
