"""lm-eval's model `hf-seq-cls`: the log-probabilities of a sequence-classification head.

lm-eval asks a model for the log-likelihood of each choice after a prompt, one request a choice. A head gives
all its labels in one forward pass, from the raw columns of the document. So requests are grouped by document,
documents are batched by length, and each request is answered with the log-probability of the label that its
choice stands for. Labels are matched by name.

    lm_eval --model hf-seq-cls --model_args pretrained=DIR --tasks americas_nli

Loading, devices, precision, adapters and distribution are those of lm-eval's `hf`, which this class extends.
"""

import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import datasets
import torch
from lm_eval.api.instance import Instance
from lm_eval.api.task import Task
from lm_eval.models.huggingface import HFLM
from tqdm import tqdm
from transformers import AutoModelForSequenceClassification, DataCollatorWithPadding

from taxlt_mergekit.errors import UserError, one_line
from taxlt_mergekit.evaluate.labels import choice_labels, has_no_names, input_columns, match_labels

# A child of lm-eval's own logger, so that its settings and its level hold.
LOG = logging.getLogger("lm_eval.models.hf-seq-cls")


@dataclass
class Document:
    """One forward pass: what the model reads, and the requests of lm-eval that it answers."""

    task: str
    texts: list[str]
    columns: list[int]  # the head's column for each choice
    requests: list[int] = field(default_factory=list)  # positions in lm-eval's list


class _HeadLoader:
    """AutoModelForSequenceClassification, noting the weights that a checkpoint lacks."""

    def __init__(self) -> None:
        self.missing: list[str] = []

    def from_pretrained(self, *args: Any, **kwargs: Any) -> Any:
        model, report = AutoModelForSequenceClassification.from_pretrained(
            *args, output_loading_info=True, **kwargs
        )
        self.missing += sorted(report["missing_keys"])
        return model


@contextmanager
def _loading(pretrained: object) -> Iterator[None]:
    """The libraries' errors about a checkpoint or its arguments as one line; the rest at log level DEBUG."""
    try:
        yield
    except UserError:
        raise
    except (OSError, ValueError, TypeError, KeyError, RuntimeError) as error:
        LOG.debug("the whole error", exc_info=True)
        raise UserError(
            f"hf-seq-cls: can't load {pretrained}: {type(error).__name__}: {one_line(error)}"
        ) from error


class SequenceClassifierLM(HFLM):
    """A classification head as one of lm-eval's models. Takes the arguments of lm-eval's `hf`."""

    def __init__(self, pretrained: Any = None, **kwargs: Any) -> None:
        """
        Args:
            pretrained: the folder or hub id of a sequence-classification checkpoint, or such a model.
            **kwargs: as `lm_eval.models.huggingface.HFLM`: device, dtype, batch_size, max_length, peft …

        Raises:
            UserError: nothing loadable is there, or no trained classification head comes with it.
        """
        if pretrained is None:
            raise UserError("hf-seq-cls: say which model: --model_args pretrained=DIR")
        if not isinstance(pretrained, str) and "ForSequenceClassification" not in type(pretrained).__name__:
            raise UserError(f"hf-seq-cls: {type(pretrained).__name__} has no sequence-classification head")
        self.AUTO_MODEL_CLASS = _HeadLoader()
        super().__init__(pretrained, **kwargs)
        self._refuse_untrained(pretrained, kwargs.get("peft"))
        if self.model.config.pad_token_id is None:  # decoders find a text's last token by it
            self.model.config.pad_token_id = self.tokenizer.pad_token_id
        accelerator = getattr(self, "accelerator", None)
        if accelerator is not None and self.world_size == 1:
            # HFLM divides the documents among processes only where there are several GPUs.
            self._rank, self._world_size = accelerator.process_index, accelerator.num_processes
        self._truncated: Counter[str] = Counter()
        self._assumed: set[str] = set()  # orders of labels that were warned of

    # Loading

    def _get_backend(self, *args: Any, **kwargs: Any) -> None:
        self.backend = "causal"  # one sequence a document, whatever the architecture

    def _get_config(self, pretrained: str, **kwargs: Any) -> None:
        path = Path(pretrained).expanduser()
        if not path.exists() and (pretrained.endswith("/") or pretrained.startswith((".", "/", "~"))):
            raise UserError(f"hf-seq-cls: pretrained={pretrained}: no such folder")
        with _loading(pretrained):
            super()._get_config(pretrained, **kwargs)

    def _create_tokenizer(self, pretrained: Any, *args: Any, **kwargs: Any) -> None:
        with _loading(pretrained):
            super()._create_tokenizer(pretrained, *args, **kwargs)

    def _create_model(self, pretrained: str, **kwargs: Any) -> None:
        with _loading(pretrained):
            super()._create_model(pretrained, **kwargs)

    def _refuse_untrained(self, pretrained: Any, adapter: str | None) -> None:
        missing = self.AUTO_MODEL_CLASS.missing
        if missing and adapter:
            from peft.utils import load_peft_weights

            brought = {
                name.removeprefix("base_model.model.") for name in load_peft_weights(adapter, device="cpu")
            }
            missing = [name for name in missing if name not in brought]
        if missing:
            raise UserError(
                f"hf-seq-cls: {pretrained} has no weights for {', '.join(missing[:2])}"
                f"{f' and {len(missing) - 2} more' if len(missing) > 2 else ''}; "
                "a head that starts at random is not scored"
            )

    @property
    def max_length(self) -> int:
        """The most tokens that both the positions and the tokenizer allow, or `max_length=` as given."""
        if self._max_length:
            return self._max_length
        length = super().max_length
        for module in self.model.modules():
            # RoBERTa's positions start after the padding index: 514 of them hold 512 tokens.
            if (
                isinstance(module, torch.nn.Embedding)
                and module.num_embeddings == length
                and module.padding_idx
            ):
                length -= module.padding_idx + 1
                break
        return min(length, self.tokenizer.model_max_length)

    def get_model_info(self) -> dict[str, Any]:
        """What lm-eval writes into the results' `config`; adds how many documents were truncated."""
        return super().get_model_info() | {"truncated_documents": dict(self._truncated)}

    # Scoring

    def loglikelihood(self, requests: list[Instance], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """For each request the log-probability of its choice's label, and whether no label has a higher one.

        Raises:
            UserError: the task asks for few-shot examples, or its labels or columns don't fit the model.
        """
        documents = self._documents(requests)
        encoded = self.encode(documents)
        collate = DataCollatorWithPadding(self.tokenizer)
        results: list[tuple[float, bool]] = [(0.0, False)] * len(requests)
        hidden = disable_tqdm or self.rank != 0
        with tqdm(total=len(documents), desc="Running hf-seq-cls documents", disable=hidden) as progress:
            for batch in self._batches(encoded):
                logits = self._model_call(**collate([encoded[index] for index in batch]).to(self.device))
                scores = torch.log_softmax(logits, dim=-1, dtype=self.softmax_dtype or torch.float32)
                for index, row in zip(batch, scores.tolist(), strict=True):
                    document = documents[index]
                    for position in document.requests:
                        request = requests[position]
                        score = row[document.columns[request.idx]]
                        results[position] = (score, score == max(row))
                        self.cache_hook.add_partial("loglikelihood", request.args, results[position])
                progress.update(len(batch))
        return results

    def _documents(self, requests: Sequence[Instance]) -> list[Document]:
        documents: dict[Any, Document] = {}
        layouts: dict[str, tuple[tuple[str, ...], list[int]]] = {}
        for position, request in enumerate(requests):
            name = request.task_name or "the task"
            key = (name, id(request.doc) if request.doc_id is None else request.doc_id)
            if key not in documents:
                if name not in layouts:
                    layouts[name] = self.layout(_task_of(request, name), request.doc, name)
                inputs, columns = layouts[name]
                texts = [request.doc[column] for column in inputs]
                if not all(isinstance(text, str) for text in texts):
                    raise UserError(f"{name}, document {request.doc_id}: {' or '.join(inputs)} is not a text")
                documents[key] = Document(name, texts, columns)
            if request.idx >= len(documents[key].columns):
                raise UserError(
                    f"{name}: hf-seq-cls has no score for a choice without its text (acc_mutual_info)"
                )
            documents[key].requests.append(position)
        return list(documents.values())

    def layout(self, task: Task, document: Mapping[str, Any], name: str) -> tuple[tuple[str, ...], list[int]]:
        """A task's input columns, and the head's column for each of its choices.

        Args:
            document: one of the task's.
            name: the task's, for errors.

        Raises:
            UserError: the task is none that a head can be scored on, or does not fit this one.
        """
        if task.config.num_fewshot:
            raise UserError(
                f"{name}: hf-seq-cls reads a document's own columns, so few-shot examples can't reach it; "
                "run with --num_fewshot 0"
            )
        if task.OUTPUT_TYPE != "multiple_choice":
            raise UserError(f"{name}: hf-seq-cls scores multiple-choice tasks, not {task.OUTPUT_TYPE}")
        inputs = input_columns(document, name)
        # As model arguments in JSON give it, its keys are strings.
        id2label = {int(column): str(label) for column, label in self.model.config.id2label.items()}
        choices = task.doc_to_choice(document)
        labels, assumed = choice_labels(choices, named_labels(task), document, id2label, name)
        if assumed:
            LOG.warning(
                "%s: its labels have no names; taken as XNLI numbers them: %s", name, ", ".join(labels)
            )
        columns = match_labels(id2label, labels, name)
        if has_no_names(id2label) and (order := ", ".join(labels)) not in self._assumed:
            self._assumed.add(order)
            LOG.warning(
                "%s: the model's labels have no names (%s); their order is taken as given: %s. "
                "Set id2label in its config.json to be sure.",
                name,
                ", ".join(id2label.values()),
                order,
            )
        return inputs, columns

    def encode(self, documents: Sequence[Document]) -> list[dict[str, list[int]]]:
        """Token ids of each document, without padding; too long ones are truncated, counted and reported."""
        encoded: list[dict[str, list[int]]] = [{}] * len(documents)
        limit = self.max_length
        truncated: Counter[str] = Counter()
        for width in {len(document.texts) for document in documents}:
            indices = [index for index, document in enumerate(documents) if len(document.texts) == width]
            rows = self._tokenize([documents[index].texts for index in indices])
            for index, row in zip(indices, rows, strict=True):
                if len(row["input_ids"]) > limit:
                    truncated[documents[index].task] += 1
                    row = self._tokenize([documents[index].texts], truncation=True, max_length=limit)[0]
                encoded[index] = row
        if truncated:
            self._truncated |= truncated
            LOG.warning(
                "%d of %d documents are longer than %d tokens and were truncated (%s)",
                truncated.total(),
                len(documents),
                limit,
                ", ".join(f"{task}: {count}" for task, count in truncated.items()),
            )
        return encoded

    def _tokenize(self, texts: Sequence[Sequence[str]], **options: Any) -> list[dict[str, list[int]]]:
        columns = self.tokenizer(*map(list, zip(*texts, strict=True)), verbose=False, **options)
        return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]

    def _batches(self, encoded: Sequence[Mapping[str, list[int]]]) -> Iterator[list[int]]:
        """Indices of documents of like length, the longest first, which shows at once whether they fit."""
        order = sorted(range(len(encoded)), key=lambda index: -len(encoded[index]["input_ids"]))
        automatic = self.batch_size == "auto"
        if automatic:
            # In the form that HFLM's search for a batch size reads: (_, context, continuation).
            probes = [(None, encoded[index]["input_ids"], [0]) for index in order]
            self.batch_sizes: dict[int, int] = {}
            self.batch_schedule: float = min(self.batch_schedule, len(order))
        start = 0
        while start < len(order):
            size = self._batch_scheduler(start, probes) if automatic else self.batch_size
            yield order[start : start + size]
            start += size

    def _detect_batch_size(self, requests: Sequence | None = None, pos: int = 0) -> int:
        if self.device.type == "cpu":  # has no memory of its own to run out of
            return self.max_batch_size
        return super()._detect_batch_size(requests, pos)

    def _model_call(self, input_ids: torch.Tensor, **inputs: torch.Tensor) -> torch.Tensor:
        """Logits (documents, labels) of one padded batch."""
        mixed = self.mixed_precision_dtype
        with torch.inference_mode(), torch.autocast(self.device.type, dtype=mixed, enabled=mixed is not None):
            return self.model(input_ids=input_ids, **inputs).logits

    # What a head can't do

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = False) -> list[float]:
        """Refused: a head has no likelihood of a text."""
        raise UserError(_not_for_a_head(requests, "the likelihood of a text"))

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """Refused: a head generates nothing."""
        raise UserError(_not_for_a_head(requests, "generated text"))

    def chat_template(self, chat_template: bool | str = False) -> str | None:
        """Refused: a head reads no prompt."""
        raise UserError("hf-seq-cls reads a document's own columns; run without --apply_chat_template")


def _task_of(request: Instance, name: str) -> Task:
    """The task that a request is of, which lm-eval's requests do not tell by themselves."""
    task = getattr(request, "task", None)
    if task is None:
        raise UserError(
            f"{name}: hf-seq-cls can't see which task its requests are of; call taxlt_mergekit.register() "
            "before lm-eval is used, or unset TAXLT_NO_AUTOLOAD"
        )
    return task


def named_labels(task: Task) -> list[str] | None:
    """The names that a task's data set gives its labels, where the target is such a label."""
    target = task.config.doc_to_target
    features = getattr(getattr(task, "task_docs", None), "features", None) or {}
    label = features.get(target) if isinstance(target, str) else None
    return label.names if isinstance(label, datasets.ClassLabel) else None


def _not_for_a_head(requests: Sequence[Instance], asked: str) -> str:
    tasks = ", ".join(sorted({request.task_name or "the task" for request in requests}))
    return f"{tasks}: asks for {asked}, which hf-seq-cls, a classification head, can't give; use --model hf"
