"""The model that is trained: its objective, its head, and what of it is trained."""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import transformers
from transformers.models.auto import modeling_auto
from transformers.utils import logging

from taxlt_mergekit.errors import UserError, translated
from taxlt_mergekit.evaluate.inputs import learned_positions, vocabulary_size
from taxlt_mergekit.model_files import check_folder
from taxlt_mergekit.paper import catalog
from taxlt_mergekit.paper.remedies import for_model
from taxlt_mergekit.train.settings import LanguageSettings, Settings, TaskSettings
from taxlt_mergekit.train.sparse.counted import freeze
from taxlt_mergekit.train.text import file_sha256

WEIGHTS = ("*.safetensors", "pytorch_model*.bin")


@dataclass(frozen=True)
class Objective:
    """How a model was pre-trained, as far as its config tells."""

    kind: Literal["mlm", "clm"]
    reason: str

    @property
    def name(self) -> str:
        return "masked language modelling" if self.kind == "mlm" else "next-token prediction"


def load_config(name: str) -> Any:
    """The model's config.

    Raises:
        UserError: there is no such model.
    """
    if name.startswith(("/", ".", "~")) and not Path(name).is_dir():
        raise UserError(f"model {name}: no such folder{for_model(name)}")
    if Path(name).is_dir() and not (Path(name) / "config.json").is_file():
        adapter = (Path(name) / "adapter_config.json").is_file()
        hint = "it holds a peft adapter; give the base model" if adapter else "it has no config.json"
        raise UserError(f"model {name} is not a transformers model: {hint}")
    hint = "" if Path(name).is_dir() else f"(and there is no such folder in {Path.cwd()}){for_model(name)}"
    with translated(f"model {name} cannot be loaded", hint):
        return transformers.AutoConfig.from_pretrained(name, trust_remote_code=False)


def load_tokenizer(name: str) -> Any:
    """The model's tokenizer; where it has no padding token, its end-of-text token pads.

    Raises:
        UserError: the model comes without one.
    """
    with translated(f"model {name} has no tokenizer that can be loaded"):
        tokenizer = transformers.AutoTokenizer.from_pretrained(name, trust_remote_code=False)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def choose_objective(config: Any, name: str) -> Objective:
    """Masked or next-token prediction, from the architecture that the checkpoint names, or else its type.

    Raises:
        UserError: an encoder-decoder, or a type with neither kind of head in transformers.
    """
    masked = modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES
    causal = modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    if config.is_encoder_decoder:
        raise UserError(
            f"model {name} is an encoder-decoder ({config.model_type}); language vectors are trained for "
            "encoders (masked LM) and decoders (next token)"
        )
    for architecture in config.architectures or []:
        if architecture in masked.values():
            return Objective("mlm", f"it is a {architecture}")
        if architecture in causal.values():
            return Objective("clm", f"it is a {architecture}")
    if _is_encoder(config):
        return Objective("mlm", f"{config.model_type} models are encoders with a masked-LM head")
    if config.model_type in causal:
        return Objective("clm", f"{config.model_type} models are decoders")
    raise UserError(
        f"model {name} ({config.model_type}) has neither a masked-LM nor a causal head in transformers"
    )


def _is_encoder(config: Any) -> bool:
    masked = modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES
    return config.model_type in masked and not getattr(config, "is_decoder", False)


def load_language_model(
    settings: LanguageSettings, config: Any, tokenizer: Any, objective: Objective
) -> tuple[Any, list[str]]:
    """The model with its language-modelling head, in float32, and the tensors of it that are new.

    Raises:
        UserError: the checkpoint has no such head (and `new_head` is off), the tokenizer has no mask token or
            does not fit, or blocks are longer than the model's positions.
    """
    if objective.kind == "mlm" and tokenizer.mask_token_id is None:
        raise UserError(f"the tokenizer of {settings.model} has no mask token, which masked LM needs")
    loader = (
        transformers.AutoModelForMaskedLM if objective.kind == "mlm" else transformers.AutoModelForCausalLM
    )
    choose_language(config, settings.model, settings.lang)
    model, new = _load(loader, settings.model, config)
    missing = [key for key in new if not key.startswith(f"{model.base_model_prefix}.")]
    architecture = (config.architectures or ["unnamed"])[0]
    if missing and not settings.new_head:
        head = "masked-LM" if objective.kind == "mlm" else "causal"
        raise UserError(
            f"model {settings.model} ({architecture}) has no {head} head: {_some(missing)} "
            f"{'is' if len(missing) == 1 else 'are'} not in the checkpoint; start from a model that has one, "
            "or give --new-head to train a fresh one"
        )
    if settings.new_head and not missing:
        raise UserError(f"--new-head: model {settings.model} ({architecture}) has its head already")
    _check_fit(model, tokenizer, settings.block_size, "--block-size", settings.model)
    return _prepare(model, settings, None, new), missing


def load_classifier(
    settings: TaskSettings, config: Any, tokenizer: Any, labels: Sequence[str]
) -> tuple[Any, list[str]]:
    """The model with a sequence-classification head for `labels`, in float32, and the tensors that are new.

    Raises:
        UserError: the checkpoint is a classifier already, transformers has no such head for it, texts would
            be longer than its positions, or the tokenizer has no padding.
    """
    architecture = (config.architectures or [""])[0]
    if architecture.endswith("ForSequenceClassification"):
        raise UserError(
            f"model {settings.model} is a classifier already ({architecture}); start from the pre-trained "
            "model, θ₀, so that the vector is the task's alone"
        )
    if config.model_type not in modeling_auto.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES:
        kind = f"{settings.model} ({config.model_type})"
        raise UserError(f"model {kind} has no sequence-classification head in transformers")
    if tokenizer.pad_token is None:
        raise UserError(f"the tokenizer of {settings.model} has no padding token, which batches of rows need")
    config.id2label = dict(enumerate(labels))
    config.label2id = {label: number for number, label in enumerate(labels)}
    text = config.get_text_config()
    if text.pad_token_id is None or not _is_encoder(config):
        # A decoder's head looks for the last token that is no padding; the tokenizer knows which that is.
        text.pad_token_id = tokenizer.pad_token_id
    benchmarks = catalog.load().benchmarks.values()
    source = next((entry.source for entry in benchmarks if entry.task_vector == settings.task), None)
    choose_language(config, settings.model, source)
    model, missing = _load(transformers.AutoModelForSequenceClassification, settings.model, config)
    _check_fit(model, tokenizer, settings.max_length, "--max-length", settings.model)
    return _prepare(model, settings, "SEQ_CLS", missing), missing


def choose_language(config: Any, name: str, lang: str | None) -> None:
    """Set the language of a model that has an adapter for each (X-MOD), where its config sets none.

    Raises:
        UserError: there is no adapter of this language.
    """
    languages = list(getattr(config, "languages", None) or [])
    if config.model_type != "xmod" or config.default_language is not None:
        return
    fitting = [code for code in languages if lang is not None and lang in (code, code.partition("_")[0])]
    if len(fitting) != 1:
        wanted = f"{lang} names {len(fitting) or 'none'} of them" if lang else "none of them is chosen"
        raise UserError(
            f"model {name} has an adapter for each of {len(languages)} languages, and {wanted}; set "
            f"default_language in its config.json to one of {_some(languages)}"
        )
    config.default_language = fitting[0]


def _load(loader: Any, name: str, config: Any) -> tuple[Any, list[str]]:
    """The model and the parameters that its checkpoint does not hold (tied ones are held)."""
    if Path(name).is_dir():
        check_folder(name)
    model, missing, unused = _from_pretrained(loader, name, config)
    # Microsoft's own files of DeBERTa-v2 and v3 have another head than transformers takes by default.
    if (
        missing
        and config.model_type == "deberta-v2"
        and any(key.startswith("lm_predictions.") for key in unused)
    ):
        config.legacy = False
        model, missing, _ = _from_pretrained(loader, name, config)
    prefix = f"{model.base_model_prefix}."
    if body := [key for key in missing if key.startswith(prefix) and ".pooler." not in key]:
        raise UserError(f"model {name} is incomplete: its checkpoint lacks {_some(body)}")
    return model, missing


def _from_pretrained(loader: Any, name: str, config: Any) -> tuple[Any, list[str], list[str]]:
    """The model, the parameters that the checkpoint lacks, and what of the checkpoint is not used."""
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # the fresh head is reported in our own words
    try:
        with translated(f"model {name} cannot be loaded"):
            model, info = loader.from_pretrained(
                name, config=config, dtype=torch.float32, trust_remote_code=False, output_loading_info=True
            )
    finally:
        logging.set_verbosity(verbosity)
    return model, sorted(info["missing_keys"]), sorted(info["unexpected_keys"])


def _check_fit(model: Any, tokenizer: Any, length: int, flag: str, name: str) -> None:
    rows = vocabulary_size(model)
    if rows is not None and len(tokenizer) > rows:
        raise UserError(
            f"the tokenizer of {name} has {len(tokenizer)} tokens and the model {rows} embeddings; "
            "they do not belong together"
        )
    stated = getattr(model.config.get_text_config(), "max_position_embeddings", None) or 0
    positions = learned_positions(model, stated) or stated
    if 0 < positions < length:
        raise UserError(f"{flag} {length}: {name} has positions for {positions} tokens at most")


def _prepare(model: Any, settings: Settings, peft_task: str | None, fresh: Sequence[str]) -> Any:
    """Tie, untie, freeze, or put a peft adapter on."""
    tie = False if "output-embeddings" in (settings.freeze or ()) else settings.tie_embeddings
    if tie is not None:
        output = model.get_output_embeddings()
        if output is None:
            raise UserError("tie_embeddings: this model has no output embeddings to tie")
        model.config.tie_word_embeddings = tie
        if tie:
            model.tie_weights()
        else:
            output.weight = torch.nn.Parameter(output.weight.detach().clone())
    if settings.lora_rank is None:
        if settings.freeze_embeddings:
            model.get_input_embeddings().weight.requires_grad_(False)
        freeze(model, settings.freeze or (), fresh)
        return model
    import peft

    return peft.get_peft_model(
        model,
        peft.LoraConfig(
            r=settings.lora_rank,
            lora_alpha=settings.lora_alpha if settings.lora_alpha is not None else 2 * settings.lora_rank,
            target_modules=_lora_targets(model, settings.lora_target_modules),
            task_type=peft_task,
        ),
    )


def _lora_targets(model: Any, wanted: Sequence[str] | None) -> str:
    """A pattern for the linear layers of the body: a head is no part of a vector."""
    body = model.base_model
    found = {
        name.rsplit(".", 1)[-1]
        for name, module in body.named_modules()
        if isinstance(module, torch.nn.Linear)
    }
    if unknown := sorted(set(wanted or ()) - found):
        raise UserError(
            f"--lora-target-modules {unknown[0]}: the model has no such linear layer; it has "
            f"{', '.join(sorted(found))}"
        )
    prefix = rf"{model.base_model_prefix}\." if body is not model else ""
    return rf"{prefix}(.*\.)?({'|'.join(sorted(wanted or found))})"


def model_identity(name: str, config: Any) -> dict[str, str]:
    """What tells the base model's weights from others: the hub's commit, or the weight files' SHA-256."""
    if not Path(name).is_dir():
        return {"name": name, "commit": getattr(config, "_commit_hash", None) or "unknown"}
    files = sorted(path for pattern in WEIGHTS for path in Path(name).glob(pattern))
    return {"name": name} | {path.name: file_sha256(path) for path in files}


def count_parameters(model: Any) -> tuple[int, int]:
    """Parameters in all, and those that are trained."""
    sizes = [(parameter.numel(), parameter.requires_grad) for parameter in model.parameters()]
    return sum(size for size, _ in sizes), sum(size for size, trained in sizes if trained)


def checkpoint_size(model: Any, optim: str) -> int:
    """Bytes of one of Trainer's checkpoints: weights, and two moments of what is trained under AdamW."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    saved = trained if hasattr(model, "peft_config") else list(model.parameters())
    size = sum(parameter.numel() * parameter.element_size() for parameter in saved)
    if optim.startswith("adamw_torch"):
        size += 2 * sum(parameter.numel() * parameter.element_size() for parameter in trained)
    return size


def has_bf16() -> bool:
    """Whether the GPU computes in bfloat16 itself. A CPU trains in float32 unless --bf16 asks otherwise."""
    if not torch.cuda.is_available():
        return False
    with contextlib.suppress(TypeError):  # older torch has no such argument
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.cuda.get_device_capability()[0] >= 8


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
