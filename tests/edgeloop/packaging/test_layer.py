"""The model's layer and the image around it: the same bytes every time."""

from __future__ import annotations

import io
import json
import tarfile
from dataclasses import replace

from edgeloop.containers.engine import EngineImage
from edgeloop.packaging import layer

BASE = EngineImage(
    id="sha256:" + "1" * 64,
    layers=("sha256:" + "a" * 64, "sha256:" + "b" * 64),
    config={
        "Env": ["PORT=8080"],
        "User": "10001:10001",
        "Entrypoint": ["python3", "-m", "scorer"],
        "Hostname": "f00",
        "Labels": {"of": "base"},
        "Cmd": None,
    },
    architecture="amd64",
    os="linux",
    size=1,
)


def test_a_layer_is_its_content_and_nothing_of_the_moment_it_was_made() -> None:
    """Sorted, of root, dated 0, with an entry for every folder: the digest must not change from build to build."""
    packed = layer.model_layer(b"onnx", {"name": "p", "features": ["a"]})
    assert packed == layer.model_layer(b"onnx", {"features": ["a"], "name": "p"})
    with tarfile.open(fileobj=io.BytesIO(packed)) as tar:
        members = tar.getmembers()
        assert [one.name for one in members] == ["model", "model/model.json", "model/model.onnx"]
        assert {(one.uid, one.gid, one.mtime) for one in members} == {(0, 0, 0)}
        assert [oct(one.mode) for one in members] == ["0o755", "0o644", "0o644"]
        assert json.load(tar.extractfile("model/model.json")) == {"name": "p", "features": ["a"]}  # type: ignore[arg-type]


def test_the_base_is_known_by_what_it_holds_not_by_when_it_was_built() -> None:
    """Another id and host name are the same base; another layer or another command is another base."""
    known = layer.base_digest(BASE)
    assert known == layer.base_digest(replace(BASE, id="sha256:" + "2" * 64))
    assert known == layer.base_digest(replace(BASE, config={**BASE.config, "Hostname": "other"}))
    assert known != layer.base_digest(replace(BASE, layers=BASE.layers[:1]))
    assert known != layer.base_digest(replace(BASE, config={**BASE.config, "Entrypoint": ["sh"]}))


def test_an_archive_holds_the_new_layer_only_and_a_whole_configuration() -> None:
    """The engine has the base's layers; the configuration lists them before the model's."""
    about = layer.config(BASE, b"layer", {"edgeloop.model": "m"}, "2014-02-01T00:00:00Z")
    packed = layer.archive(BASE, b"layer", about, "host/repo:tag")
    assert packed == layer.archive(BASE, b"layer", about, "host/repo:tag")
    with tarfile.open(fileobj=io.BytesIO(packed)) as tar:
        assert sorted(tar.getnames()) == ["config.json", "manifest.json", "model.tar"]
        config = json.load(tar.extractfile("config.json"))  # type: ignore[arg-type]
        manifest = json.load(tar.extractfile("manifest.json"))  # type: ignore[arg-type]
    assert manifest == [
        {
            "Config": "config.json",
            "RepoTags": ["host/repo:tag"],
            "Layers": ["base/" + "a" * 64 + ".tar", "base/" + "b" * 64 + ".tar", "model.tar"],
        }
    ]
    assert config["created"] == "2014-02-01T00:00:00Z"
    assert config["rootfs"]["diff_ids"][:2] == list(BASE.layers)
    assert len(config["rootfs"]["diff_ids"]) == len(config["history"]) == 3
    assert config["config"]["Labels"] == {"of": "base", "edgeloop.model": "m"}
    assert config["config"]["Entrypoint"] == ["python3", "-m", "scorer"]
    assert "Hostname" not in config["config"]
