from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from edgeloop.errors import UnreachableError
from edgeloop.records import Certificate
from edgeloop.share import Folder
from edgeloop.store import Store

if TYPE_CHECKING:
    from tests.edgeloop.validation.conftest import Bench

    from edgeloop.records import Record

pytestmark = [pytest.mark.system, pytest.mark.fault]


class DiedError(Exception):
    """Stands for SIGKILL."""


@pytest.mark.parametrize("step", ["look", "digest"])
@pytest.mark.parametrize("mount_point", [False, True], ids=["gone", "its mount point empty"])
def test_a_share_that_goes_between_two_files_is_no_share_without_the_second(
    tiny: Bench, monkeypatch: pytest.MonkeyPatch, step: str, *, mount_point: bool
) -> None:
    """Nothing is certified while it is away, whichever call notices; once it is back, all files are."""
    for number in range(3):
        tiny.drop(f"north{number}_2014-01.csv", f"site,at,wind,power\nnorth,2014-01-01T0{number}:00:00Z,5,1.5\n")
    batch, root, calls = tiny.batch(), tiny.folder.root, []
    away = root.with_name(f"{root.name}.away")
    real = getattr(Folder, step)

    def goes(self: Folder, what: object, *more: object) -> object:
        calls.append(what)
        if len(calls) == 2:
            root.rename(away)
            if mount_point:
                root.mkdir()
        return real(self, what, *more)

    with monkeypatch.context() as patch:
        patch.setattr(Folder, step, goes)
        with pytest.raises(UnreachableError, match="edgeloop_share"):
            tiny.certify(batch)
    assert tiny.store.children(batch.id, Certificate) == []
    if mount_point:
        root.rmdir()
    away.rename(root)
    certificate = tiny.certify(batch)
    assert len(certificate.files) == 3
    assert certificate.set_aside == ()


def test_a_try_that_died_before_its_certificate_traps_no_later_one(
    tiny: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Everything was sent and sealed, the worker died, a file was rewritten: the rest is certified all the same."""
    for number in range(2):
        tiny.drop(f"north{number}_2014-01.csv", f"site,at,wind,power\nnorth,2014-01-01T0{number}:00:00Z,5,1.5\n")
    batch, put = tiny.batch(), Store.put

    def die(self: Store, record: Record) -> Record:
        if isinstance(record, Certificate):
            raise DiedError
        return put(self, record)

    with monkeypatch.context() as patch:
        patch.setattr(Store, "put", die)
        with pytest.raises(DiedError):
            tiny.certify(batch)
    tiny.drop("north1_2014-01.csv", "site,at,wind,power\nnorth,2014-01-01T01:00:00Z,6,2.5\n")
    certificate = tiny.certify(batch)
    assert [one.path for one in certificate.files] == [f"data/{batch.id}/north0_2014-01.parquet"]
    assert len(certificate.set_aside) == 1
