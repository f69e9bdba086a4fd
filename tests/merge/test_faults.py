"""Every operation of a merge on files fails once, or is its last: the old model is whole, or the new one."""

import hashlib
import itertools
import os
import resource
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from mergekit.scripts import run_yaml

from taxlt_mergekit.errors import UserError, translated
from taxlt_mergekit.merge.output import staging
from tests.helpers.families import build
from tests.helpers.faults import ERRORS, Fault, run_forked
from tests.helpers.merging import recipe

OLD = {
    "config.json": "old",
    "model.safetensors": "old weights",
    "tokenizer.json": "old",
    "chat_template.jinja": "old",
}
NEW = {"config.json": "new", "model.safetensors": "new weights", "README.md": "new", "vocab.txt": "new"}
MINE = {"notes.txt": "mine", "data/rows.tsv": "mine too"}


def write(folder: Path, files: dict[str, str]) -> None:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)


def read(folder: Path) -> dict[str, str]:
    """Files, hidden ones too, and their content."""
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def put_new(out: Path) -> None:
    with staging(str(out)) as folder, translated(f"{out}: cannot be written"):
        write(Path(folder), NEW)


def nothing(place: Path) -> Path:
    return place / "out"


def a_model(place: Path) -> Path:
    write(place / "out", OLD)
    return place / "out"


def a_model_and_files_of_a_user(place: Path) -> Path:
    write(place / "out", OLD | MINE)
    return place / "out"


def a_mount(place: Path) -> Path:
    return a_model(place)  # `os.path.ismount` says so


@pytest.mark.parametrize("place", [nothing, a_model, a_model_and_files_of_a_user, a_mount])
@pytest.mark.parametrize("kind", ["error", "kill"])
def test_at_every_operation(place, kind, tmp_path, monkeypatch):
    folder = tmp_path / "d"
    if place is a_mount:
        monkeypatch.setattr(os.path, "ismount", lambda path: str(path) == str(folder / "out"))
    for at in itertools.count(1):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        out = place(folder)
        old = read(out)
        mine = MINE if "notes.txt" in old else {}
        whole = [old, NEW | mine]
        fault = Fault(at, ERRORS[at % len(ERRORS)] if kind == "error" else None)
        ended = run_forked(lambda out=out: put_new(out), folder, fault)
        found = {name: content for name, content in read(out).items() if not name.startswith(".")}
        assert mine.items() <= found.items(), fault
        if kind == "error":
            assert found in whole, fault
            assert ended.code == 0 or ended.last_line.startswith(f"Error: {out}: cannot be written: "), fault
            assert ended.code == 1 or found == NEW | mine, fault
        else:
            # Where files are replaced one by one, there is no model between two of them.
            one_by_one = mine or place is a_mount
            assert found in whole or (one_by_one and "config.json" not in found), fault
            # A merge that fails later does not take with it what the killed one had put aside.
            with pytest.raises(UserError, match="no room"), staging(str(out)):
                raise UserError("no room")
            assert read(out) in whole, fault
        put_new(out)
        assert read(out) == NEW | mine
        assert not list(folder.rglob(".*")), fault
        if not ended.met:
            break
    assert at > 8


def contents(folder: Path) -> dict[str, str]:
    """Content hash of each file."""
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.iterdir() if p.is_file()}


def test_at_every_operation_of_a_merge(tmp_path):
    models = build(tmp_path / "models", "xlm-roberta")
    (tmp_path / "r.yml").write_text(yaml.safe_dump(recipe(models, {"task": {"role": "task"}})))
    folder, refused = tmp_path / "d", 0

    def merge() -> None:
        torch.set_num_threads(1)
        run_yaml.main([str(tmp_path / "r.yml"), str(folder / "out"), "--quiet"], standalone_mode=False)

    old = contents(models / "tgt")
    for at in itertools.count(1):
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(models / "tgt", folder / "out")
        fault = Fault(at, ERRORS[at % len(ERRORS)])
        ended = run_forked(merge, folder, fault)
        if not ended.met:
            break
        if ended.code:
            assert contents(folder / "out") == old, fault
            assert ended.last_line.startswith("Error: ") and "Traceback" not in ended.stderr, ended.stderr
            assert str(folder / "out") in ended.last_line, ended.last_line
            refused += 1
        else:  # nothing of the new model was at stake
            assert {"config.json", "model.safetensors", "tokenizer.json"} <= contents(
                folder / "out"
            ).keys(), fault
            assert "tgt" not in (folder / "out" / "config.json").read_text()
    assert refused > 15


@pytest.mark.parametrize("room", [5_000, 60_000])
def test_no_room_in_the_middle_of_a_file(room, tmp_path):
    """Libraries write too, out of Python's sight."""
    models = build(tmp_path / "models", "xlm-roberta")
    document = recipe(
        models, {"task": {"role": "task"}}, chat_template="{% for m in messages %}{{ m }}{% endfor %}"
    )
    (tmp_path / "r.yml").write_text(yaml.safe_dump(document))
    folder = tmp_path / "d"
    shutil.copytree(models / "tgt", folder / "out")

    def merge() -> None:
        torch.set_num_threads(1)
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))
        run_yaml.main([str(tmp_path / "r.yml"), str(folder / "out"), "--quiet"], standalone_mode=False)

    ended = run_forked(merge, folder, None)
    assert ended.code == 1 and ended.last_line.startswith("Error: ") and "too large" in ended.last_line, (
        ended.stderr
    )
    assert contents(folder / "out") == contents(models / "tgt")
    assert os.listdir(folder) == ["out"]
