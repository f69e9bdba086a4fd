"""What mergekit's own repository could take: recipes with its stock methods, and encoder architectures."""

from taxlt_mergekit.export.architectures import definition_files
from taxlt_mergekit.paper import citation

TEST = "tests/test_encoder_architectures.py"


def repository_files() -> dict[str, str]:
    """Every file, by its path below the root of mergekit's repository."""
    architectures = {
        f"mergekit/_data/architectures/{name}": text for name, text in definition_files().items()
    }
    examples = {"chat-vector.yml": _CHAT_VECTOR, "language-vectors.yml": _LANGUAGE_VECTORS}
    return {f"examples/{name}": text for name, text in examples.items()} | architectures | {TEST: _TEST}


_CHAT_VECTOR = """\
# Chat vector: what instruction tuning changed, added to a model that was trained further on another language.
#   model = base + (instruct - base) + (continued - base)
# Huang et al. 2024, https://aclanthology.org/2024.acl-long.590
#
# The three models must start from the same weights. normalize: false is task_arithmetic's default, written
# out because the sum is the point: with normalize: true the weights are divided by their sum, and each
# difference would be halved.
models:
  - model: meta-llama/Meta-Llama-3-8B-Instruct
    parameters:
      weight: 1.0
  - model: rinna/llama-3-youko-8b # Meta-Llama-3-8B, trained further on Japanese text
    parameters:
      weight: 1.0
merge_method: task_arithmetic
base_model: meta-llama/Meta-Llama-3-8B
parameters:
  normalize: false
chat_template: llama3
dtype: bfloat16
"""
_LANGUAGE_VECTORS = f"""\
# A task model learns a language without labelled data in it: add what training on raw text in the target
# language changed, and take away what training on raw text in the source language changed.
#   model = base + (task - base) + 0.5 * (target - base) - 0.5 * (source - base)
# Parović et al. 2024, {citation.URL}
#
# task:   base, fine-tuned on labelled data in the source language
# source: base, trained further on raw text in the source language
# target: base, trained further on raw text in the target language
#
# A negative weight subtracts a model's difference from base. The formula needs the weights as they are, hence
# normalize: false; normalize: true would divide them by their sum, which negative weights make any number.
# Without the source language it is the same recipe without that entry.
models:
  - model: ./task
    parameters:
      weight: 1.0
  - model: ./target
    parameters:
      weight: 0.5
  - model: ./source
    parameters:
      weight: -0.5
merge_method: task_arithmetic
base_model: ./base
parameters:
  normalize: false
dtype: bfloat16
"""
_TEST = '''\
import pytest
import transformers

from mergekit.architecture import arch_info_for_config
from mergekit.config import InputModelDefinition, MergeConfiguration
from mergekit.io.lazy_tensor_loader import ShardedTensorIndex
from tests.common import run_and_check_merge

SIZES = {
    "vocab_size": 64,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 40,
}
# As microsoft/deberta-v3-base, and as deberta-v2-xlarge with a smaller embedding.
DEBERTA_V3 = {
    "relative_attention": True,
    "position_buckets": 8,
    "norm_rel_ebd": "layer_norm",
    "share_att_key": True,
    "pos_att_type": ["p2c", "c2p"],
    "type_vocab_size": 0,
    "position_biased_input": False,
}
DEBERTA_V2 = {
    "relative_attention": True,
    "pos_att_type": ["p2c", "c2p"],
    "conv_kernel_size": 3,
    "embedding_size": 8,
    "type_vocab_size": 2,
}
MODELS = [
    ("XLMRobertaForMaskedLM", "XLMRobertaConfig", {}),
    ("XLMRobertaForSequenceClassification", "XLMRobertaConfig", {"num_labels": 3}),
    ("XLMRobertaForTokenClassification", "XLMRobertaConfig", {"num_labels": 5}),
    ("ElectraForSequenceClassification", "ElectraConfig", {"embedding_size": 8}),
    ("ElectraForTokenClassification", "ElectraConfig", {"embedding_size": 16}),
    ("DebertaV2ForSequenceClassification", "DebertaV2Config", DEBERTA_V3),
    ("DebertaV2ForTokenClassification", "DebertaV2Config", DEBERTA_V2),
]


@pytest.fixture(params=MODELS, ids=lambda model: model[0])
def pair(request, tmp_path):
    """Two random models of one architecture."""
    model, config, options = request.param
    for name in "ab":
        cfg = getattr(transformers, config)(**SIZES, **options)
        getattr(transformers, model)(cfg).save_pretrained(tmp_path / name)
    return str(tmp_path / "a"), str(tmp_path / "b")


def test_every_tensor_is_defined(pair):
    config = transformers.AutoConfig.from_pretrained(pair[0])
    info = arch_info_for_config(config)
    assert info is not None
    weights = info.all_weights(config)
    present = set(ShardedTensorIndex.from_disk(pair[0]).tensor_paths)
    assert present <= {weight.name for weight in weights}
    assert {weight.name for weight in weights if not weight.optional} <= present


@pytest.mark.parametrize("method", ["passthrough", "linear", "task_arithmetic"])
def test_merges(pair, method):
    one, other = pair
    models = [InputModelDefinition(model=one)]
    if method != "passthrough":
        models.append(InputModelDefinition(model=other, parameters={"weight": 0.4}))
        models[0] = InputModelDefinition(model=one, parameters={"weight": 0.6})
    config = MergeConfiguration(
        merge_method=method,
        base_model=one if method == "task_arithmetic" else None,
        models=models,
        dtype="float32",
    )
    expected = transformers.AutoConfig.from_pretrained(one).architectures

    def same_head(path):
        assert transformers.AutoConfig.from_pretrained(path).architectures == expected
        found = set(ShardedTensorIndex.from_disk(path).tensor_paths)
        assert found == set(ShardedTensorIndex.from_disk(one).tensor_paths)

    run_and_check_merge(config, validate=same_head)
'''
