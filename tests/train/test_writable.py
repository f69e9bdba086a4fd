"""Whether an output folder can be written is found out without making it: other runs may start beside it."""

import os
from pathlib import Path

import pytest

from taxlt_mergekit.errors import UserError
from taxlt_mergekit.train.folder import check_writable


def test_nothing_is_made_and_nothing_removed(tmp_path, monkeypatch):
    """Two trainings of one model share `vectors/MODEL`; neither may take it from under the other."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a folder was made or removed")

    for name in ("mkdir", "rmdir"):
        monkeypatch.setattr(os, name, refuse)
        monkeypatch.setattr(Path, name, refuse)
    check_writable(tmp_path / "vectors" / "tiny" / "lang" / "xx", "--output")
    check_writable(tmp_path, "--output")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("place", ["/proc/nowhere/out", "{}/file/out", "{}/dangling/out", "{}/" + 300 * "x"])
def test_what_cannot_be_made_is_refused(place, tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "dangling").symlink_to(tmp_path / "gone")
    folder = Path(place.format(tmp_path))
    with pytest.raises(UserError, match=r"--output \S+ cannot be written"):
        check_writable(folder, "--output")
