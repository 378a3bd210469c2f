from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from edgeloop.errors import UnreachableError
from edgeloop.records import Certificate
from edgeloop.share import Folder

if TYPE_CHECKING:
    from tests.edgeloop.validation.conftest import Bench

pytestmark = [pytest.mark.system, pytest.mark.fault]


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
