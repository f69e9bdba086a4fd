"""The output folder: never an input; what was there before; what goes along; how a merge ends early."""

import contextlib
import json
import logging
import os
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import yaml
from mergekit.config import MergeConfiguration
from mergekit.merge import run_merge
from mergekit.options import MergeOptions

from taxlt_mergekit.errors import UserError
from taxlt_mergekit.merge.output import refuse_inputs, staging
from tests.helpers.families import build
from tests.helpers.hosts import mergekit_yaml
from tests.helpers.merging import assert_merged, expected, merge, recipe, tensors


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    return build(tmp_path_factory.mktemp("models"), "xlm-roberta")


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# ---- never an input


def here(models: Path, tmp_path: Path) -> Path:
    """A copy of the models that a test may lose."""
    return Path(shutil.copytree(models, tmp_path / "models"))


def linked(target: Path, name: str) -> Path:
    (target.parent / name).symlink_to(target)
    return target.parent / name


# OUT of a recipe's folder of models -> what is wrong with it.
RELATIONS = {
    "the base": (lambda m: m / "theta0", "is .*theta0"),
    "the task model": (lambda m: m / "task", "is .*task"),
    "a language model": (lambda m: m / "tgt", "is .*tgt"),
    "through a link": (lambda m: linked(m / "tgt", "link"), "is .*tgt"),
    "through a link above": (lambda m: linked(m, "link") / "tgt", "is .*tgt"),
    "under another name": (lambda m: m / "src" / ".." / "tgt", "is .*tgt"),
    "in an input": (lambda m: m / "task" / "merged" / "again", "lies in .*task"),
    "around an input": (lambda m: m, "holds .*(theta0|task|src|tgt)"),
    "an adapter": (lambda m: m / "ad", "is .*ad,"),
    "the adapters' cache": (lambda m: m / "cache", "is --lora-merge-cache .*cache"),
    "in the adapters' cache": (lambda m: m / "cache" / "out", "lies in --lora-merge-cache .*cache"),
    "the hub's cache": (lambda m: m / "hub", "is --transformers-cache .*hub"),
    "a source of tokens": (lambda m: m / "words", "is .*words"),
}


def everything(models: Path) -> tuple[MergeConfiguration, MergeOptions]:
    """A recipe, and options, with an input of every kind in a folder."""
    for name in ("ad", "cache", "hub", "words"):
        (models / name).mkdir()
    document = recipe(models)
    document["models"][1]["model"] += f"+{models / 'ad'}"
    document["tokenizer"] = {"source": str(models / "words")}
    options = MergeOptions(lora_merge_cache=str(models / "cache"), transformers_cache=str(models / "hub"))
    return MergeConfiguration.model_validate(document), options


@pytest.mark.parametrize("relation", RELATIONS)
def test_an_output_that_is_read(relation, models, tmp_path):
    place, words = RELATIONS[relation]
    config, options = everything(here(models, tmp_path))
    out = place(tmp_path / "models")
    with pytest.raises(UserError, match=rf"^{out}: {words}.*choose another output folder"):
        refuse_inputs(str(out), config, options)


def test_an_output_beside_what_is_read(models, tmp_path):
    config, options = everything(here(models, tmp_path))
    for out in (tmp_path / "models" / "out", tmp_path / "models" / "task-2", tmp_path / "new" / "out"):
        refuse_inputs(str(out), config, options)


def test_an_output_that_holds_the_files_of_a_linked_model(models, tmp_path):
    config, options = everything(here(models, tmp_path))
    shutil.move(tmp_path / "models" / "tgt", tmp_path / "out")
    (tmp_path / "models" / "tgt").mkdir()
    for path in (tmp_path / "out").iterdir():
        (tmp_path / "models" / "tgt" / path.name).symlink_to(path)
    with pytest.raises(UserError, match=r"holds .*tgt"):
        refuse_inputs(str(tmp_path / "out"), config, options)


def test_through_the_command(models, tmp_path):
    copy = here(models, tmp_path)
    before = files(copy)
    (tmp_path / "r.yml").write_text(yaml.safe_dump(recipe(copy)))
    outcome = mergekit_yaml(tmp_path / "r.yml", copy / "tgt")
    assert outcome.code == 1 and "from which the merge reads" in outcome.last_line, outcome.stderr
    assert files(copy) == before


# ---- where it goes


def test_links_and_other_file_systems(models, tmp_path):
    other = Path("/dev/shm")
    if not os.access(other, os.W_OK) or other.stat().st_dev == tmp_path.stat().st_dev:
        other = tmp_path
    real = other / f"taxlt-test-{os.getpid()}"
    shutil.copytree(models / "task", real)
    try:
        (tmp_path / "out").symlink_to(real)
        out = merge(recipe(models), tmp_path)
        assert out.is_symlink()
        assert_merged(real, models, {"src": 0.5, "tgt": 0.9})
        shutil.rmtree(real)  # and now it leads nowhere
        merge(recipe(models), tmp_path)
        assert_merged(real, models, {"src": 0.5, "tgt": 0.9})
    finally:
        shutil.rmtree(real, ignore_errors=True)


def test_a_link_to_itself_and_a_file(tmp_path):
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "file").write_text("mine")
    mistakes = {"loop": "is a link to itself", "file": "is a file", "file/out": "cannot be written"}
    for name, words in mistakes.items():
        with pytest.raises(UserError, match=words), staging(str(tmp_path / name)):
            raise AssertionError("never reached")
    assert (tmp_path / "file").read_text() == "mine"
    with pytest.raises(UserError, match="the output folder has no name"), staging(""):
        raise AssertionError("never reached")


def put(out: Path, content: dict[str, str]) -> None:
    with staging(str(out)) as folder:
        for name, text in content.items():
            Path(folder, name).write_text(text)


def test_where_files_cannot_be_moved_as_a_whole(tmp_path, monkeypatch):
    """A folder of the same file system mounted elsewhere: the system will not move from one to the other."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").write_text("mine")
    rename = os.rename

    def across(source: str, target: str) -> None:
        if (f"{tmp_path}/out/" in str(source)) != (f"{tmp_path}/out/" in str(target)):
            raise OSError(18, "Invalid cross-device link")
        rename(source, target)

    monkeypatch.setattr(os, "rename", across)
    put(tmp_path / "out", {"config.json": "new"})
    assert files(tmp_path) == {"out/config.json": b"new", "out/notes.txt": b"mine"}


def test_in_the_folder_where_one_stands(tmp_path, monkeypatch):
    put(tmp_path / "out", {"config.json": "old"})
    monkeypatch.chdir(tmp_path / "out")
    put(Path("."), {"config.json": "new"})
    assert Path("config.json").read_text() == "new"
    assert os.path.samefile(".", tmp_path / "out")


def test_rights_are_kept(tmp_path):
    (tmp_path / "out").mkdir(mode=0o750)
    put(tmp_path / "out", {"config.json": "new"})
    assert (tmp_path / "out").stat().st_mode & 0o777 == 0o750
    put(tmp_path / "other", {"config.json": "new"})
    (tmp_path / "plain").mkdir()
    assert (tmp_path / "other").stat().st_mode == (tmp_path / "plain").stat().st_mode


# ---- what was there before

EARLIER = [
    "adapter_config.json",
    "adapter_model.safetensors",
    "added_tokens.json",
    "chat_template.jinja",
    "config.json",
    "config_sentence_transformers.json",
    "generation_config.json",
    "merges.txt",
    "model-00001-of-00002.safetensors",
    "model-00002-of-00002.safetensors",
    "model.safetensors",
    "model.safetensors.index.json",
    "preprocessor_config.json",
    "processor_config.json",
    "pytorch_model.bin",
    "pytorch_model-00001-of-00003.bin",
    "pytorch_model.bin.index.json",
    "sentence_bert_config.json",
    "sentencepiece.bpe.model",
    "spiece.model",
    "tokenizer.model",
    "vocab.json",
    "vocab.txt",
    "README.md",
    "mergekit_config.yml",
    "1_Pooling/config.json",
    "2_Dense/model.safetensors",
    "additional_chat_templates/tools.jinja",
]
MINE = [
    "notes.txt",
    "LICENSE",
    "modeling_own.py",
    "train.bin",
    "data/rows.tsv",
    "checkpoint-500/model.safetensors",
    "3_things/list.txt",
    "model-q4.gguf",
    "optimizer.pt",
    "onnx/model.onnx",
    ".gitattributes",
    "my_tokenizer.json",
]


def test_an_earlier_model_leaves_nothing_and_a_user_loses_nothing(models, tmp_path):
    out = tmp_path / "out"
    for name in (*EARLIER, *MINE):
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_text("earlier")
    modules = [{"path": ""}, {"path": "1_Pooling"}, {"path": "2_Dense"}, {"path": "../3_things"}]
    (out / "modules.json").write_text(json.dumps(modules))
    merge(recipe(models), tmp_path)
    fresh = merge(recipe(models), tmp_path, name="fresh")
    kept = dict.fromkeys(MINE, b"earlier")
    new = files(fresh)
    assert files(out).keys() == new.keys() | kept.keys()
    assert {name: content for name, content in files(out).items() if name in kept} == kept
    assert files(out)["model.safetensors"] == new["model.safetensors"]
    assert_merged(out, models, {"src": 0.5, "tgt": 0.9})


# ---- what goes along


def test_what_goes_along_with_the_weights(models, tmp_path):
    copy = here(models, tmp_path)
    settings = {
        "generation_config.json": '{"eos_token_id": [2, 5]}',
        "preprocessor_config.json": "{}",
        "config_sentence_transformers.json": "{}",
        "modules.json": '[{"path": ""}, {"path": "1_Pooling"}]',
        "1_Pooling/config.json": '{"pooling_mode_mean_tokens": true}',
    }
    words = {"chat_template.jinja": "{{ messages }}", "vocab.txt": "a"}
    words["additional_chat_templates/rag.jinja"] = "x"
    others = {"README.md": "the task model's", "LICENSE": "its own", "training_args.bin": "x", "own.py": "x"}
    for name, content in (settings | words | others).items():
        (copy / "task" / name).parent.mkdir(exist_ok=True)
        (copy / "task" / name).write_text(content)
    found = files(merge(recipe(copy), tmp_path))
    weights = {"config.json", "model.safetensors", "README.md", "mergekit_config.yml"}
    tokenizer = {"tokenizer.json", "tokenizer_config.json"}
    assert found.keys() == {*weights, *tokenizer, *settings, *words}
    for name, content in (settings | words).items():
        assert found[name] == content.encode(), name
    for name in tokenizer:
        assert found[name] == (copy / "task" / name).read_bytes()
    assert b"the task model's" not in found["README.md"]
    found = files(merge(recipe(copy), tmp_path, "--no-copy-tokenizer"))
    assert found.keys() == {*weights, *settings}


def test_a_new_chat_template(models, tmp_path):
    document = recipe(models) | {"chat_template": "{% for m in messages %}{{ m.content }}{% endfor %}"}
    found = files(merge(document, tmp_path))
    assert found["chat_template.jinja"].decode() == document["chat_template"]
    assert "tokenizer.json" in found


# ---- errors that mergekit logs and goes on from


def refused(document: dict, tmp_path: Path, *words: str) -> None:
    (tmp_path / "r.yml").write_text(yaml.safe_dump(document))
    outcome = mergekit_yaml(tmp_path / "r.yml", tmp_path / "out")
    assert outcome.code == 1 and "Traceback" not in outcome.stderr, outcome.stderr
    for word in words:
        assert word in outcome.last_line, outcome.stderr
    assert not (tmp_path / "out").exists() and not list(tmp_path.glob(".*"))


NEEDS = {
    "a chat template": ({"chat_template": "{% for m in messages %}{{ m.content }}{% endfor %}"}, "task"),
    "a vocabulary of all": ({"tokenizer": {"source": "union"}}, "tgt"),
    "a vocabulary of one": ({"tokenizer_source": "base"}, "tgt"),
}


@pytest.mark.parametrize("what", NEEDS)
def test_a_model_without_the_tokenizer_that_a_recipe_needs(what, models, tmp_path):
    """transformers would make up an empty one, and mergekit take all its tokens for missing."""
    more, without = NEEDS[what]
    copy = here(models, tmp_path)
    for name in ("theta0", "src", "tgt"):
        for file in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copy(copy / "task" / file, copy / name)
    for file in ("tokenizer.json", "tokenizer_config.json"):
        (copy / without / file).unlink()
    words = f"{without}: has no tokenizer, which the recipe's {next(iter(more))} needs"
    refused(recipe(copy) | more, tmp_path, words)


def test_an_error_that_mergekit_only_logs(models, tmp_path):
    copy = here(models, tmp_path)
    (copy / "task" / "tokenizer.json").write_text("{")
    document = recipe(copy) | {"chat_template": "{% for m in messages %}{{ m.content }}{% endfor %}"}
    refused(document, tmp_path, "xlt_additive to", "Failed to copy tokenizer")


def test_a_tokenizer_that_cannot_be_read(models, tmp_path):
    (here(models, tmp_path) / "task" / "vocab.txt").symlink_to("nowhere")
    document = recipe(tmp_path / "models")
    refused(document, tmp_path, "out: tokenizer and settings of", "cannot be copied", "vocab.txt")


# ---- folders that are read as a model


def test_an_input_that_is_no_model_through_the_command(models, tmp_path):
    (here(models, tmp_path) / "tgt" / "model.safetensors.index.json").write_text('{"weight_map": {"a": "b"}}')
    refused(recipe(tmp_path / "models"), tmp_path, "tgt: has two sets of weights")


def test_inputs_that_are_one_model(models, tmp_path):
    """An index of the one file, and an older form of the same weights."""
    copy = here(models, tmp_path)
    index = {"weight_map": dict.fromkeys(tensors(copy / "tgt"), "model.safetensors")}
    (copy / "tgt" / "model.safetensors.index.json").write_text(json.dumps(index))
    (copy / "src" / "pytorch_model.bin").write_text("weights")
    assert_merged(merge(recipe(copy), tmp_path), models, {"src": 0.5, "tgt": 0.9})


# ---- one process, many merges


def test_files_that_changed_since_an_earlier_merge(models, tmp_path):
    """mergekit keeps files of a model open for the whole process."""
    copy = here(models, tmp_path)
    config, options = MergeConfiguration.model_validate(recipe(copy)), MergeOptions(quiet=True)
    run_merge(config, str(tmp_path / "out"), options)
    before = tensors(tmp_path / "out")
    shutil.rmtree(copy / "tgt")
    shutil.copytree(copy / "src", copy / "tgt")
    run_merge(config, str(tmp_path / "out"), options)
    after, wanted = tensors(tmp_path / "out"), expected(copy, {"src": 0.5, "tgt": 0.9})
    assert not all(torch.equal(before[name], after[name]) for name in after)
    for name, tensor in wanted.items():
        torch.testing.assert_close(after[name].double(), tensor.double(), atol=1e-6, rtol=0)


# ---- ends that come early


@contextlib.contextmanager
def a_merge_under_way(out: Path) -> Iterator[int]:
    """A process that has written half of its output; its number."""
    ready, say = os.pipe()
    child = os.fork()
    if not child:
        code = 0
        try:
            with staging(str(out)) as folder:
                Path(folder, "model.safetensors").write_text("half")
                os.write(say, b".")
                time.sleep(60)
        except SystemExit as error:
            code = error.code
        finally:
            os._exit(code)
    os.read(ready, 1)
    try:
        yield child
    finally:
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


def test_two_merges_to_one_folder_and_what_a_killed_one_leaves(tmp_path):
    out = tmp_path / "out"
    put(out, {"config.json": "old"})
    with a_merge_under_way(out) as first:
        with pytest.raises(UserError, match="out: another merge is writing there; wait for its end"):
            put(out, {"config.json": "new"})
        assert (tmp_path / ".out-new" / "model.safetensors").exists(), "the running merge lost its files"
        put(tmp_path / "beside", {"config.json": "new"})
        os.kill(first, signal.SIGKILL)
        os.waitpid(first, 0)
    assert files(out) == {"config.json": b"old"}
    assert (tmp_path / ".out-new").exists()
    put(out, {"config.json": "new"})
    assert files(tmp_path) == {"out/config.json": b"new", "beside/config.json": b"new"}


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, 0)]
)
def test_signals(number, code, tmp_path):
    with a_merge_under_way(tmp_path / "out") as process:
        os.kill(process, number)
        _, status = os.waitpid(process, 0)
    assert os.waitstatus_to_exitcode(status) == code
    assert not list(tmp_path.iterdir())


def test_waiting_for_the_other_process(tmp_path):
    with a_merge_under_way(tmp_path / "out") as process:
        threading.Timer(0.3, os.kill, (process, signal.SIGTERM)).start()
        start = time.monotonic()
        with staging(str(tmp_path / "out"), wait=True) as folder:
            assert time.monotonic() - start > 0.2
            assert not os.listdir(folder)


def test_signals_of_others_are_left_alone(tmp_path):
    def own(number, frame):
        raise AssertionError("never sent")

    before = signal.signal(signal.SIGTERM, own)
    try:
        with staging(str(tmp_path / "out")):
            assert signal.getsignal(signal.SIGTERM) is own
        assert signal.getsignal(signal.SIGTERM) is own
    finally:
        signal.signal(signal.SIGTERM, before)
    with staging(str(tmp_path / "out")):
        assert signal.getsignal(signal.SIGTERM) is not before
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_file_system_without_locks(tmp_path, monkeypatch):
    fcntl = pytest.importorskip("fcntl")

    def none(*_args):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", none)
    put(tmp_path / "out", {"config.json": "new"})
    assert files(tmp_path) == {"out/config.json": b"new"}


def test_leftovers_that_cannot_be_removed_are_named(tmp_path, monkeypatch, caplog):
    put(tmp_path / "out", {"config.json": "old"})

    def stuck(path):
        raise OSError(16, "Device or resource busy", path)

    monkeypatch.setattr(shutil, "rmtree", stuck)
    with caplog.at_level(logging.WARNING):
        put(tmp_path / "out", {"config.json": "new"})
    assert ".out-new: cannot be removed: Device or resource busy" in caplog.text
    assert files(tmp_path / "out") == {"config.json": b"new"}
