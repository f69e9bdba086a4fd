"""A training run's settings: as the user gives them, as they are resolved, and the file that keeps them.

What is left unset is resolved in `prepare`, from the paper where it speaks of it. Fields of
`transformers.TrainingArguments` that it does not speak of keep transformers' defaults.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from taxlt_mergekit.errors import UserError, translated
from taxlt_mergekit.paper import catalog
from taxlt_mergekit.paper.training import SEQUENCE_LENGTH

Kind = Literal["language", "task"]
SETTINGS_FILE = "training_settings.yaml"

# Fields of TrainingArguments that these commands set themselves, and what to use in their place.
RESERVED = {
    "output_dir": "use --output",
    "do_train": "training is what this command does",
    "do_eval": "use --eval-strategy",
    "do_predict": "evaluate with lm_eval",
    "resume_from_checkpoint": "use --resume",
    "local_rank": "use torchrun or accelerate launch",
    "load_best_model_at_end": "the best checkpoint is always the one that is kept",
    "remove_unused_columns": "the columns are given by --columns and --label",
    "label_names": "the labels are given by --label",
    "include_for_metrics": "the metrics are accuracy and macro-F1",
    "save_only_model": "--resume needs the whole checkpoint",
    "prediction_loss_only": "the best checkpoint is kept by metrics",
    "batch_eval_metrics": "metrics are those of all rows, not of batches",
    "eval_do_concat_batches": "metrics are those of all rows, not of batches",
    "ignore_data_skip": "--resume goes on with the data where it stopped",
    "hub_strategy": "--push-to-hub uploads the finished folder",
}
RESERVED_FOR_LANGUAGE = {
    "train_sampling_strategy": "blocks have one length and an order that --seed draws",
    "metric_for_best_model": "the lowest validation perplexity is kept",
    "greater_is_better": "the lowest validation perplexity is kept",
    "eval_strategy": "a language run counts in steps; use --eval-steps",
    "save_strategy": "a language run counts in steps; use --save-steps",
}
METRICS = ("accuracy", "f1", "loss")
# Fields that leave the weights as they are: a run may be resumed with other values.
WITHOUT_EFFECT_ON_WEIGHTS = {
    *("output", "cache_dir", "per_device_train_batch_size", "gradient_accumulation_steps"),
    *("logging_strategy", "logging_steps", "logging_first_step", "log_level", "log_level_replica"),
    *("log_on_each_node", "disable_tqdm", "report_to", "run_name", "project", "save_total_limit"),
    *("ddp_backend", "ddp_timeout"),
    *("dataloader_num_workers", "dataloader_pin_memory", "dataloader_persistent_workers"),
    *("dataloader_prefetch_factor", "push_to_hub", "hub_model_id", "hub_private_repo", "hub_token"),
    *("hub_always_push", "hub_revision", "torch_empty_cache_steps", "skip_memory_metrics"),
}
SECRET = {"hub_token"}
MLM_PROBABILITY = 0.15  # the objective that XLM-R was pre-trained with


class Settings(BaseModel):
    """What both commands know; keys of `--config` files are these fields and those of `TrainingArguments`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str
    output: str | None = None
    size: catalog.Size | None = None
    batch_size: int | None = Field(None, ge=1)
    new_head: bool = False
    freeze_embeddings: bool = False
    cut_vocabulary: bool = False
    tie_embeddings: bool | None = None
    lora_rank: int | None = Field(None, ge=1)
    lora_alpha: float | None = Field(None, gt=0)
    lora_target_modules: list[str] | None = Field(None, min_length=1)
    merge_lora: bool = False
    sparse: int | float | None = Field(None, gt=0)
    l1: float | None = Field(None, gt=0)
    freeze: list[Literal["layer-norm", "output-embeddings"]] | None = Field(None, min_length=1)
    fisher: int | None = Field(None, ge=1)
    early_stopping_patience: int | None = Field(None, ge=1)
    # Fields of TrainingArguments that the user or the paper set.
    arguments: dict[str, Any] = {}


class LanguageSettings(Settings):
    corpus: list[str] = Field(min_length=1)
    lang: str | None = Field(None, pattern=r"^[\w-]+$")
    validation: list[str] | None = Field(None, min_length=1)
    validation_share: float = Field(0.05, gt=0, lt=1)
    text_column: str = "text"
    block_size: int = Field(SEQUENCE_LENGTH, ge=8)
    mlm_probability: float = Field(MLM_PROBABILITY, gt=0, lt=1)


class TaskSettings(Settings):
    task: Literal["multinli", "marc", "smsa"] | None = None
    name: str | None = Field(None, pattern=r"^[\w.-]+$")
    train: str | None = None
    validation: str | None = None
    columns: list[str] | None = Field(None, min_length=1, max_length=2)
    label: str = "label"
    labels: list[str] | None = Field(None, min_length=2)
    max_length: int = Field(SEQUENCE_LENGTH, ge=8)


SETTINGS: dict[Kind, type[Settings]] = {"language": LanguageSettings, "task": TaskSettings}


def make_settings(kind: Kind, values: dict[str, Any]) -> Settings:
    """Check a flat mapping of settings and `TrainingArguments` fields.

    Raises:
        UserError: an unknown or reserved key, or a value out of range; names it.
    """
    ours = SETTINGS[kind].model_fields.keys() - {"arguments"}
    reserved = RESERVED | (RESERVED_FOR_LANGUAGE if kind == "language" else {})
    for key in values:
        if key in reserved:
            raise UserError(f"{key} cannot be set for `train {kind}`: {reserved[key]}")
    arguments = {key: value for key, value in values.items() if key not in ours}
    metric = str(arguments.get("metric_for_best_model", METRICS[0])).removeprefix("eval_")
    if metric not in METRICS:
        raise UserError(f"metric_for_best_model must be one of {', '.join(METRICS)}, not {metric!r}")
    if getattr(arguments.get("eval_strategy"), "value", arguments.get("eval_strategy")) == "no":
        raise UserError("eval_strategy: without evaluations there is no best checkpoint to keep")
    try:
        return SETTINGS[kind](
            **{key: value for key, value in values.items() if key in ours}, arguments=arguments
        )
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        if first["type"] == "missing":
            flag = "MODEL" if name == "model" else f"--{name.replace('_', '-')}"
            raise UserError(f"{flag} is missing, on the command line and in --config") from error
        raise UserError(f"{name}: {first['msg']}, not {first['input']!r}") from error


def model_size(model: str, config: Any) -> tuple[catalog.Size, str]:
    """Which of the paper's two sizes a model is trained as, and why.

    A model is `large` if it is named so in the catalog (hub id or folder), or if its hidden states are at
    least as wide as XLM-R large's (1024).
    """
    if size := catalog.size_of(model):
        return size, f"the catalog's {catalog.load().models[size].folder}"
    width = getattr(config.get_text_config(), "hidden_size", None) or 0
    return ("large" if width >= 1024 else "base"), f"hidden size {width}"


@dataclass(frozen=True)
class Batch:
    """total = per_device × accumulation × devices."""

    total: int
    per_device: int
    accumulation: int
    devices: int

    def __str__(self) -> str:
        return (
            f"{self.total} = {self.per_device} a device × {self.accumulation} accumulated × {self.devices} "
            f"device{'s' * (self.devices > 1)}"
        )


def split_batch(
    default: int, total: int | None, per_device: int | None, accumulation: int | None, devices: int
) -> Batch:
    """Spread the paper's total batch over devices and accumulation steps.

    The paper's batch is the total, so without `per_device` it is divided. With `per_device` and no `total`
    that number means what it means in transformers: the total is `per_device × accumulation × devices`.

    Raises:
        UserError: it does not come out even.
    """
    if per_device is not None and total is None:
        accumulation = accumulation or 1
        return Batch(per_device * accumulation * devices, per_device, accumulation, devices)
    total = total or default
    if per_device is not None and accumulation is None:
        accumulation = max(1, total // (per_device * devices))
    accumulation = accumulation or 1
    share = per_device or total // (accumulation * devices)
    if share < 1 or share * accumulation * devices != total:
        parts = f"{devices} devices × {accumulation} accumulation steps"
        raise UserError(
            f"a batch of {total} cannot be spread over {parts}"
            + (f" × {per_device} a device" if per_device else "")
            + "; change --batch-size, --per-device-train-batch-size or --gradient-accumulation-steps"
        )
    return Batch(total, share, accumulation, devices)


def count_devices(use_cpu: bool) -> int:
    """How many devices share a batch: processes of the launcher, or the GPUs of this one process."""
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    if processes > 1 or use_cpu:
        return processes
    import torch

    return max(1, torch.cuda.device_count())


def read_config(path: Path, kind: Kind) -> dict[str, Any]:
    """A `--config` file: a flat YAML mapping of settings; `command` and `record` of a saved one are dropped.

    Raises:
        UserError: not such a file, or saved by the other command.
    """
    with translated(f"--config {path}"):
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise UserError(f"--config {path}: it must be a mapping of setting: value")
    if content.get("command", f"train {kind}") != f"train {kind}":
        raise UserError(f"--config {path} is for `taxlt {content['command']}`, not for `taxlt train {kind}`")
    return {
        key.replace("-", "_"): value for key, value in content.items() if key not in ("command", "record")
    }


def flat(settings: Settings) -> dict[str, Any]:
    """The settings as one mapping, as `--config` reads it; without secrets and without what is not set."""
    values = settings.model_dump(exclude_none=True)
    arguments = values.pop("arguments")
    return {key: value for key, value in (values | arguments).items() if key not in SECRET}


def write_settings(folder: Path, kind: Kind, settings: Settings, record: dict[str, Any]) -> None:
    """Write `SETTINGS_FILE`: the settings, then under `record` the facts about inputs and versions."""
    text = yaml.safe_dump(
        {"command": f"train {kind}", **flat(settings), "record": record}, sort_keys=False, allow_unicode=True
    )
    heading = f"# What `taxlt train {kind}` ran with. `--config` reads it again (and leaves `record` out).\n"
    (folder / SETTINGS_FILE).write_text(heading + text, encoding="utf-8")


def check_same_run(folder: Path, settings: Settings, record: dict[str, Any]) -> None:
    """Refuse to go on with a run that had other settings or other data.

    Raises:
        UserError: names the settings that differ.
    """
    with translated(f"{folder / SETTINGS_FILE} cannot be read"):
        saved = dict(yaml.safe_load((folder / SETTINGS_FILE).read_text(encoding="utf-8")))
    # A run of an earlier version lacks the settings that came later: those had no effect then.
    defaults = flat(type(settings).model_construct())
    then = {key: value for key, value in (defaults | saved).items() if key not in ("command", "record")}
    now = yaml.safe_load(yaml.safe_dump(flat(settings)))
    different = [
        f"{key} {then.get(key, 'unset')} → {now.get(key, 'unset')}"
        for key in sorted(then.keys() | now.keys())
        if key not in WITHOUT_EFFECT_ON_WEIGHTS and then.get(key) != now.get(key)
    ]
    inputs_now = yaml.safe_load(yaml.safe_dump(record))["inputs"]
    if not different and saved.get("record", {}).get("inputs") != inputs_now:
        different = ["the data or the base model were changed"]
    if different:
        raise UserError(
            f"{folder} holds another run ({'; '.join(different)}); choose another --output, or remove it"
        )
