"""`base+adapter` in a recipe: the checkpoint that peft makes of both, with its head, and a cache of them."""

import json
import shutil
from pathlib import Path

import peft
import pytest
import torch
import transformers as tf
import yaml
from mergekit.common import ModelReference
from mergekit.options import MergeOptions
from safetensors.torch import load_file, save_file

from taxlt_mergekit.errors import UserError
from taxlt_mergekit.merge.adapter import fingerprint, merged_checkpoint
from tests.helpers.adapters import make_adapter
from tests.helpers.families import LABELS, build
from tests.helpers.hosts import mergekit_yaml
from tests.helpers.merging import ROLES, load_without_gaps, merge, recipe, tensors
from tests.helpers.tiny_models import xlmr_tokenizer

ADAPTED = "roberta.encoder.layer.0.attention.self.query.weight"
HEADS = {
    "SEQ_CLS": tf.AutoModelForSequenceClassification,
    "TOKEN_CLS": tf.AutoModelForTokenClassification,
    "QUESTION_ANS": tf.AutoModelForQuestionAnswering,
}


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    return build(tmp_path_factory.mktemp("models"), "xlm-roberta")


def whole(base: Path, adapter: Path, cache: Path, **options) -> Path:
    """The folder of the checkpoint that is made of an adapter."""
    model = ModelReference.parse(f"{base}+{adapter}")
    return Path(merged_checkpoint(model, MergeOptions(lora_merge_cache=str(cache), **options)).model.path)


def assert_equal(folder: Path, wanted: dict[str, torch.Tensor]) -> None:
    found = tensors(folder)
    assert found
    for name, tensor in found.items():
        assert torch.equal(tensor, wanted[name]), name


def with_adapters(models: Path, **adapters: Path) -> dict:
    """A recipe whose models of these names are adapters of θ₀."""
    document = recipe(models)
    for entry, name in zip(document["models"], ROLES, strict=True):
        if name in adapters:
            entry["model"] = f"{models / 'theta0'}+{adapters[name]}"
    return document


@pytest.mark.parametrize("task_type", HEADS)
def test_a_task_adapter_keeps_its_head(task_type, models, tmp_path):
    labels = 2 if task_type == "QUESTION_ANS" else 5
    made = make_adapter(
        models / "theta0", tmp_path / "ad", HEADS[task_type], labels=labels, task_type=task_type
    )
    document = with_adapters(models, task=tmp_path / "ad")
    out = merge(document, tmp_path, "--lora-merge-cache", tmp_path / "cache")
    merged = load_without_gaps(out)
    assert type(merged) is HEADS[task_type]._model_mapping[type(merged.config)]
    base, found = tensors(models / "theta0"), tensors(out)
    assert found.keys() == made.keys()
    for name, tensor in made.items():
        if name not in base:
            assert torch.equal(found[name], tensor), name
            continue
        wanted = tensor.double()
        for model, weight in (("src", 0.5), ("tgt", 0.9)):
            wanted = wanted + weight * (tensors(models / model)[name].double() - base[name].double())
        torch.testing.assert_close(found[name].double(), wanted, atol=1e-6, rtol=0, msg=name)


def test_its_labels_are_those_beside_it(models, tmp_path):
    make_adapter(models / "theta0", tmp_path / "ad", HEADS["SEQ_CLS"], labels=3, task_type="SEQ_CLS")
    document = with_adapters(models, task=tmp_path / "ad")
    (tmp_path / "r.yml").write_text(yaml.safe_dump(document))
    arguments = (tmp_path / "r.yml", tmp_path / "out", "--lora-merge-cache", tmp_path / "cache")
    outcome = mergekit_yaml(*arguments)
    assert outcome.code == 0 and "labels have no names" in outcome.stderr, outcome.stderr
    assert "MISSING" not in outcome.stderr, "transformers reports what the adapter brings"
    config = json.loads((models / "task" / "config.json").read_text())
    (tmp_path / "ad" / "config.json").write_text(json.dumps(config))
    xlmr_tokenizer(["words of its own"], 40).save_pretrained(tmp_path / "ad")
    outcome = mergekit_yaml(*arguments)
    assert outcome.code == 0 and "no names" not in outcome.stderr, outcome.stderr
    merged = tf.AutoConfig.from_pretrained(tmp_path / "out")
    assert list(merged.id2label.values()) == LABELS
    for name in ("tokenizer.json", "tokenizer_config.json"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "ad" / name).read_bytes()


def test_a_decoder_with_a_head(tmp_path):
    models = build(tmp_path / "models", "llama")
    made = make_adapter(
        models / "theta0",
        tmp_path / "ad",
        HEADS["SEQ_CLS"],
        labels=4,
        task_type="SEQ_CLS",
        target_modules=["q_proj", "v_proj"],
    )
    folder = whole(models / "theta0", tmp_path / "ad", tmp_path / "cache")
    assert_equal(folder, made)
    assert load_without_gaps(folder).score.out_features == 4


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        (tf.AutoModelForMaskedLM, {}),
        (tf.AutoModelForMaskedLM, {"task_type": "FEATURE_EXTRACTION"}),
        (tf.AutoModel, {"task_type": "FEATURE_EXTRACTION"}),
        (tf.AutoModel, {}),
        (tf.AutoModelForMaskedLM, {"use_dora": True}),
        (tf.AutoModelForMaskedLM, {"modules_to_save": ["lm_head"]}),
    ],
)
def test_language_adapters_of_every_make(kind, settings, models, tmp_path):
    made = make_adapter(models / "theta0", tmp_path / "ad", kind, **settings)
    folder = whole(models / "theta0", tmp_path / "ad", tmp_path / "cache")
    assert_equal(folder, made)
    # The base model has no pooler; one is made up on loading, and must not come along.
    assert not [name for name in tensors(folder) if "pooler" in name]


def test_a_base_whose_config_names_no_class(models, tmp_path):
    shutil.copytree(models / "theta0", tmp_path / "base")
    made = make_adapter(tmp_path / "base", tmp_path / "ad", task_type="FEATURE_EXTRACTION")
    config = json.loads((tmp_path / "base" / "config.json").read_text())
    (tmp_path / "base" / "config.json").write_text(json.dumps(config | {"architectures": None}))
    folder = whole(tmp_path / "base", tmp_path / "ad", tmp_path / "cache")
    assert_equal(folder, made)
    assert any(name.startswith("lm_head.") for name in tensors(folder))


def test_a_head_that_was_never_saved_is_missed(models, tmp_path):
    make_adapter(models / "theta0", tmp_path / "ad", HEADS["SEQ_CLS"], labels=3, task_type="SEQ_CLS")
    file = tmp_path / "ad" / "adapter_model.safetensors"
    save_file({key: value for key, value in load_file(file).items() if "classifier" not in key}, file)
    with pytest.raises(
        UserError, match=r"ad: classifier\.\S+, a part of XLMRobertaForSeq\S+ \(SEQ_CLS\), is neither"
    ):
        whole(models / "theta0", tmp_path / "ad", tmp_path / "cache")
    assert not list((tmp_path / "cache").iterdir())


def test_a_pooler_that_was_never_saved_is_missed(tmp_path):
    """BERT's classifier has one, made up for each adapter, which peft does not save by itself."""
    models = build(tmp_path / "models", "bert")
    make = {"kind": HEADS["SEQ_CLS"], "labels": 3, "task_type": "SEQ_CLS"}
    make_adapter(models / "theta0", tmp_path / "ad", **make)
    with pytest.raises(UserError, match=r"bert\.pooler\.dense\.bias.*among modules_to_save"):
        whole(models / "theta0", tmp_path / "ad", tmp_path / "cache")
    made = make_adapter(models / "theta0", tmp_path / "ad", **make, modules_to_save=["classifier", "pooler"])
    assert_equal(whole(models / "theta0", tmp_path / "ad", tmp_path / "cache"), made)


def rename_tensors(folder: Path) -> None:
    file = folder / "adapter_model.safetensors"
    save_file({key.replace("encoder", "decoder"): value for key, value in load_file(file).items()}, file)


def as_a_prompt(folder: Path) -> None:
    config = peft.PrefixTuningConfig(num_virtual_tokens=3, task_type="FEATURE_EXTRACTION")
    config.save_pretrained(folder)


def write(name: str, content: str):
    return lambda folder: (folder / name).write_text(content)


POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n"
DAMAGE = {
    "no config": (lambda f: (f / "adapter_config.json").unlink(), "ad: is no adapter"),
    "no weights": (lambda f: (f / "adapter_model.safetensors").unlink(), "ad: the adapter has no weights"),
    "a pointer": (write("adapter_model.safetensors", POINTER), "git lfs pull"),
    "cut off": (write("adapter_model.safetensors", "x" * 40), "the adapter cannot be opened"),
    "config is no JSON": (write("adapter_config.json", "{"), "the adapter cannot be opened"),
    "of another model": (rename_tensors, "cannot be merged: Found missing adapter keys"),
    "a prefix": (as_a_prompt, "PREFIX_TUNING adapter .* has no vector"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_adapters_that_cannot_be_merged(damage, models, tmp_path):
    change, words = DAMAGE[damage]
    make_adapter(models / "theta0", tmp_path / "ad")
    change(tmp_path / "ad")
    with pytest.raises(UserError, match=words):
        whole(models / "theta0", tmp_path / "ad", tmp_path / "cache")


def test_models_and_adapters_in_each_others_place(models, tmp_path):
    make_adapter(models / "theta0", tmp_path / "ad")
    (tmp_path / "r.yml").write_text(yaml.safe_dump(with_adapters(models, tgt=tmp_path / "ad")))
    outcome = mergekit_yaml(tmp_path / "r.yml", tmp_path / "out")
    assert outcome.code == 1 and "needs --lora-merge-cache FOLDER" in outcome.last_line
    with pytest.raises(UserError, match="task: is a whole model, not an adapter; name it alone"):
        whole(models / "theta0", models / "task", tmp_path / "cache")
    with pytest.raises(UserError, match="ad: is an adapter, not a model; write its base model before it"):
        whole(tmp_path / "ad", tmp_path / "ad", tmp_path / "cache")


class TestCache:
    def test_it_knows_content_not_paths(self, models, tmp_path):
        base, adapter, cache = tmp_path / "base", tmp_path / "ad", tmp_path / "cache"
        shutil.copytree(models / "theta0", base)
        first = make_adapter(base, adapter, seed=1)
        assert_equal(whole(base, adapter, cache), first)
        second = make_adapter(base, adapter, seed=2)
        assert_equal(whole(base, adapter, cache), second)
        shutil.copytree(models / "tgt", base, dirs_exist_ok=True)
        third = make_adapter(base, adapter, seed=2)
        assert_equal(whole(base, adapter, cache), third)
        assert not torch.equal(second[ADAPTED], third[ADAPTED])
        # A copy elsewhere is the same adapter.
        shutil.copytree(adapter, tmp_path / "elsewhere" / "ad")
        assert whole(base, tmp_path / "elsewhere" / "ad", cache) == whole(base, adapter, cache)
        assert len(list(cache.iterdir())) == 3
        half = tensors(whole(base, adapter, cache, lora_merge_dtype="float16"))
        assert all(tensor.dtype == torch.float16 for tensor in half.values())

    def test_it_is_used(self, models, tmp_path):
        make_adapter(models / "theta0", tmp_path / "ad")
        entry = whole(models / "theta0", tmp_path / "ad", tmp_path / "cache")
        written = (entry / "model.safetensors").stat().st_mtime_ns
        assert whole(models / "theta0", tmp_path / "ad", tmp_path / "cache") == entry
        assert (entry / "model.safetensors").stat().st_mtime_ns == written

    @pytest.mark.parametrize("file", ["model.safetensors", "config.json"])
    def test_a_damaged_entry_is_made_again(self, file, models, tmp_path):
        made = make_adapter(models / "theta0", tmp_path / "ad")
        entry = whole(models / "theta0", tmp_path / "ad", tmp_path / "cache")
        (entry / file).write_bytes((entry / file).read_bytes()[:-50])
        assert_equal(whole(models / "theta0", tmp_path / "ad", tmp_path / "cache"), made)
        tf.AutoConfig.from_pretrained(entry)

    def test_an_interrupted_one_leaves_nothing(self, models, tmp_path, monkeypatch):
        made = make_adapter(models / "theta0", tmp_path / "ad")

        def interrupted(self, folder, **options):
            (Path(folder) / "config.json").write_text("{}")
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(tf.PreTrainedModel, "save_pretrained", interrupted)
            with pytest.raises(KeyboardInterrupt):
                whole(models / "theta0", tmp_path / "ad", tmp_path / "cache")
        assert not list((tmp_path / "cache").iterdir())
        assert_equal(whole(models / "theta0", tmp_path / "ad", tmp_path / "cache"), made)


def test_a_fingerprint_is_of_content(models, tmp_path):
    shutil.copytree(models / "task", tmp_path / "task")

    def found() -> str:
        return fingerprint(ModelReference.parse(str(tmp_path / "task")), MergeOptions())

    seen = {found()}
    (tmp_path / "task" / "README.md").write_text("a card")
    (tmp_path / "task" / "notes.txt").write_text("mine")
    assert found() in seen
    for name in (
        "config.json",
        "tokenizer.json",
        "generation_config.json",
        "chat_template.jinja",
        "vocab.txt",
    ):
        file = tmp_path / "task" / name
        file.write_text((file.read_text() if file.exists() else "") + " ")
        assert found() not in seen, name
        seen.add(found())
    file = tmp_path / "task" / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    assert found() not in seen
