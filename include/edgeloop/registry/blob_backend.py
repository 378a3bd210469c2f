"""The backend ``blob``: the registry of one pipeline as a view of its records and ledgers, which are the truth.

A version is a ``ModelVersion`` record under the number that the promotion ledger gave it, its tags are the ledger
``tags/<model id>``, its aliases what the promotion ledger says of it. Nothing is kept here beside those.
"""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from edgeloop.errors import ConfigurationError, ConflictError, IntegrityError, NotFoundError
from edgeloop.origin import LIVE
from edgeloop.records import ModelVersion, canonical_json, sha256_hex
from edgeloop.registry.backend import ALIASES, CHALLENGER, CHAMPION, QUARANTINED, Listed
from edgeloop.registry.promotions import current, opened
from edgeloop.registry.standing import ALIASED, REGISTERED
from edgeloop.registry.tags import all_tags, tag, tags
from edgeloop.registry.versions import store_bytes

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from edgeloop.registry.standing import Standing
    from edgeloop.registry.versions import ModelBlobs
    from edgeloop.store import Store

FIELDS = ("training_run", "window_end", "config", "origin")
"""Properties that are fields of the record; its metrics and its own tags are the others."""


def listed(model: ModelVersion, now: Standing, added: Mapping[str, str]) -> Listed:
    """A version as a registry shows it: its record, where it stands, and the tags that were added since. Pure."""
    return Listed(
        version=model.version,
        model=model.id,
        sha256=model.sha256,
        size=model.size,
        properties=properties(model),
        tags=dict(added),
        aliases=frozenset(alias for alias, models in aliases(now).items() if model.id in models),
    )


def properties(model: ModelVersion) -> dict[str, str]:
    """What never changes of a version, as texts: figures by dotted name, the record's own tags, where it came from."""
    figures = {name: _text(value) for name, value in _flat(json.loads(model.metrics)).items()}
    own = dict(pair.partition("=")[::2] for pair in model.tags)
    fields = {name: str(getattr(model, name)) for name in FIELDS}
    if fields["origin"] == LIVE:
        del fields["origin"]
    return {name: text for name, text in sorted((figures | own | fields).items()) if text}


def aliases(now: Standing) -> dict[str, frozenset[str]]:
    """The models that have each alias: one champion and one challenger at most, any number quarantined. Pure."""
    return {
        CHAMPION: frozenset({now.champion} - {""}),
        CHALLENGER: frozenset({now.candidate} - {""}),
        QUARANTINED: now.quarantined,
    }


class BlobRegistry:
    """The versions of one pipeline: see :class:`edgeloop.registry.backend.ModelRegistry`.

    Args:
        store: The pipeline's records and ledgers.
        blobs: Where its models' bytes are.
        pipeline: Its name, part of every model's identity.
        by: Who publishes, tags and sets aliases, as the ledgers name them.
    """

    def __init__(self, store: Store, blobs: ModelBlobs, pipeline: str, by: str = "edgeloop") -> None:
        self.store, self.blobs, self.pipeline, self.by = store, blobs, pipeline, by

    def publish(self, wanted: Listed, content: bytes) -> Listed:
        """See the protocol; in the order of :func:`edgeloop.registry.register`, which makes new numbers.

        Raises also ``IntegrityError`` if ``content`` is not what ``wanted`` says, or its model another pipeline's.
        """
        model = self._record(wanted)
        if (len(content), sha256_hex(content)) != (wanted.size, wanted.sha256):
            raise IntegrityError(
                f"The bytes of version {wanted.version} have sha256 {sha256_hex(content)}, not {wanted.sha256}.",
                left="the registry as it is",
                next="Publish the bytes that belong to the version.",
            )
        _number_is_free(current(self.store), model)
        store_bytes(self.blobs, model.blob, content, model.sha256)
        opened(self.store).append(lambda now: self._entry(now, model))
        stored = self.store.put(model)
        if wanted.tags:
            tag(self.store, stored, wanted.tags, by=self.by)
        self._keep_aliases(stored, wanted.aliases)
        return self._shown(stored)

    def find(self, version: int) -> Listed | None:
        """See the protocol; a version whose registration died before its record is not there yet."""
        model = self._model(version)
        return None if model is None else self._shown(model)

    def versions(self) -> tuple[Listed, ...]:
        """See the protocol."""
        now, added = current(self.store), all_tags(self.store)
        models = [one for one in self.store.all(ModelVersion) if now.versions.get(one.id) == one.version]
        return tuple(listed(one, now, added.get(one.id, {})) for one in sorted(models, key=lambda one: one.version))

    def tag(self, version: int, tags: Mapping[str, str]) -> Listed:
        """See the protocol."""
        model = self._model(version)
        if model is None:
            raise self._unknown(version)
        tag(self.store, model, tags, by=self.by)
        return self._shown(model)

    def alias(self, aliases: Mapping[str, int | Collection[int]]) -> None:
        """See the protocol. An entry of the promotion ledger, unless it is so already.

        What a gate or a person found bad stays quarantined whatever is named here. Raises ``ConflictError`` where it is
        to be champion or challenger all the same: that takes a nomination with a reason.
        """
        numbers = {alias: frozenset((of,) if isinstance(of, int) else of) for alias, of in aliases.items() if of != ()}
        wrong = sorted(numbers.keys() - {*ALIASES})
        if wrong or any(len(numbers.get(one, ())) > 1 for one in (CHAMPION, CHALLENGER)):
            raise ConfigurationError(
                f"{', '.join(wrong)} is no alias." if wrong else "There is one champion and one challenger at most.",
                left="the aliases as they were",
                next=f"Name {', '.join(ALIASES)} only, and more than one version only as {QUARANTINED}.",
            )
        opened(self.store).append(lambda now: self._aliased(now, numbers))

    def _record(self, wanted: Listed) -> ModelVersion:
        rest = {name: text for name, text in wanted.properties.items() if name not in FIELDS}
        figures = {name: value for name, text in rest.items() if (value := _figure(text)) is not None}
        model = ModelVersion(
            pipeline=self.pipeline,
            sha256=wanted.sha256,
            size=wanted.size,
            blob=f"models/{wanted.sha256}.onnx",
            version=wanted.version,
            metrics=canonical_json(figures).decode(),
            tags=tuple(f"{name}={text}" for name, text in sorted(rest.items()) if name not in figures),
            **{"training_run": "", **{one: wanted.properties[one] for one in FIELDS if one in wanted.properties}},
        )
        if model.id != wanted.model:
            raise IntegrityError(
                f"These bytes are model {model.id[:16]} of pipeline {self.pipeline}, not {wanted.model[:16]}.",
                left="the registry as it is",
                next="Publish a version to the registry of its own pipeline.",
            )
        return model

    def _entry(self, now: Standing, model: ModelVersion) -> dict[str, Any] | None:
        _number_is_free(now, model)
        if model.id in now.versions:
            return None
        return self._body(REGISTERED, now, model.id, model.version, "published") | {"evidence": model.training_run}

    def _body(self, event: str, now: Standing, model: str, version: int, why: str) -> dict[str, Any]:
        return {
            "event": event,
            "model": model,
            "version": version,
            "from": now.champion,
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "by": self.by,
            "why": why,
            "evidence": "",
            "origin": LIVE,
        }

    def _keep_aliases(self, model: ModelVersion, wanted: frozenset[str]) -> None:
        """Give the version the aliases that it was published with beside those that others have."""
        now = current(self.store)
        shown = aliases(now)
        if all(model.id in shown[alias] for alias in wanted):
            return
        numbers: dict[str, Collection[int]] = {}
        for alias, models in shown.items():
            others = {now.versions[one] for one in models}
            added = {model.version} if alias in wanted else set()
            numbers[alias] = others | added if alias == QUARANTINED else added or others
        self.alias(numbers)

    def _aliased(self, now: Standing, numbers: Mapping[str, frozenset[int]]) -> dict[str, Any] | None:
        models = {number: model for model, number in now.versions.items()}
        for number in sorted(frozenset().union(*numbers.values()) - models.keys()):
            raise self._unknown(number)
        named = {alias: frozenset(models[one] for one in of) for alias, of in numbers.items()}
        champion, challenger = (next(iter(named.get(one, ())), "") for one in (CHAMPION, CHALLENGER))
        bad = (now.quarantined - now.by_alias) | named.get(QUARANTINED, frozenset())
        for one in {champion, challenger} & bad:
            raise ConflictError(
                f"Version {now.versions[one]} is quarantined; it can be neither champion nor challenger.",
                left="the aliases as they were",
                next="Nominate it again with a reason, which lifts the quarantine: see docs/runbooks/registry.md.",
            )
        if (champion, challenger, bad) == (now.champion, now.candidate, now.quarantined):
            return None
        told = {CHAMPION: champion, CHALLENGER: challenger, QUARANTINED: sorted(named.get(QUARANTINED, ()))}
        body = self._body(ALIASED, now, champion, now.versions.get(champion, 0), "its aliases were set")
        return body | {"aliases": told}

    def _model(self, version: int) -> ModelVersion | None:
        found = next((model for model, number in current(self.store).versions.items() if number == version), None)
        return None if found is None else self.store.find(ModelVersion, found)

    def _shown(self, model: ModelVersion) -> Listed:
        return listed(model, current(self.store), tags(self.store, model))

    def _unknown(self, version: int) -> NotFoundError:
        return NotFoundError(
            f"Pipeline {self.pipeline} has no version {version}.",
            left="the registry as it is",
            next=f"See `edgeloop standing {self.pipeline}` for those there are; one that is missing is finished by "
            "clearing the register task of its training.",
        )


def _number_is_free(now: Standing, model: ModelVersion) -> None:
    """Raise ``ConflictError`` if the number is another model's, or the model has another number."""
    holder = next((one for one, number in now.versions.items() if number == model.version), model.id)
    number = now.versions.get(model.id, model.version)
    if holder != model.id or number != model.version:
        said = f"is model {holder[:16]}" if holder != model.id else f"is version {number} already"
        who = f"Version {model.version}" if holder != model.id else f"Model {model.id[:16]}"
        raise ConflictError(
            f"{who} {said}: a version is never changed in place.",
            left="the versions as they are",
            next="Publish these bytes under the number that the promotion ledger gives them.",
        )


def _flat(value: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, one in value.items():
        found |= _flat(one, f"{path}{name}.") if isinstance(one, dict) else {f"{path}{name}": one}
    return found


def _text(value: Any) -> str:
    return value if isinstance(value, str) else canonical_json(value).decode()


def _figure(text: str) -> float | None:
    """The number that a text is, if that number would be written just so."""
    try:
        value = json.loads(text)
    except ValueError:
        return None
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return value if number and _text(value) == text else None
