"""What travels in an image of an on_premises pipeline: a model, its card, figures about it; never a row."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

from tests.edgeloop.test_residency import spec
from tests.pipelines.test_wind_power import TURBINES, frame, load

from edgeloop import catalog
from edgeloop.packaging.build import LABEL, card, labels
from edgeloop.packaging.golden import draw
from edgeloop.packaging.layer import model_layer
from edgeloop.records import ModelImage, ModelVersion

MONTHS = ("2014-01", "2014-02", "2014-11", "2014-12")
LABELS = {"pipeline", "model", "version", "sha256", "training_run", "metrics", "window_end", "image", "base"}
SAMPLE = Path(__file__).parents[2] / "include" / "pipelines" / "wind_power"


def test_golden_rows_are_no_rows_of_the_data() -> None:
    """Of all committed rows of the real data not one is among 10,000 golden rows of the sample pipeline's model."""
    snapshot, problems = catalog.read(SAMPLE)
    assert snapshot is not None, problems
    features = load("features")
    real = {tuple(row) for month in MONTHS for row in features.derive(frame(month)).tolist()}
    golden = draw(snapshot.spec.model.features, "5e" * 32, 10_000)
    assert len(real) > 1000 * len(TURBINES) // 2
    assert len(golden[0]) == len(next(iter(real)))
    assert not real & set(golden)


def version() -> ModelVersion:
    """A registered model with the figures it may have."""
    return ModelVersion(
        pipeline="tiny_power",
        sha256="ab" * 32,
        size=3,
        blob="models/x.onnx",
        version=2,
        training_run="r" * 64,
        metrics=json.dumps({"accuracy": 0.9}),
        window_end="2014-02-01T00:00:00+00:00",
    )


def test_an_image_says_this_and_no_more() -> None:
    """Its labels, its card and its layer hold these entries and no other; whoever adds one answers for it here."""
    model = version()
    image = ModelImage(pipeline="tiny_power", model=model.id, base="b" * 64)
    assert {one.removeprefix(LABEL) for one in labels(model, image)} == LABELS
    about = card(model, spec().model.features)
    assert {name: about[name] for name in ("name", "version", "sha256", "features")} == about
    assert about["features"] == ["wind"]
    with tarfile.open(fileobj=io.BytesIO(model_layer(b"abc", about))) as layer:
        files = {one.name for one in layer if one.isfile()}
    assert files == {"model/model.onnx", "model/model.json"}
