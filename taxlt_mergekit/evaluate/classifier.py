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
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import datasets
import torch
from lm_eval.api.instance import Instance
from lm_eval.api.task import Task
from lm_eval.models.huggingface import HFLM
from tqdm import tqdm

from taxlt_mergekit.errors import UserError, translated
from taxlt_mergekit.evaluate.head import HeadLoader, recipe_text, refuse_untrained
from taxlt_mergekit.evaluate.inputs import Inputs, accepted_columns, learned_positions, vocabulary_size
from taxlt_mergekit.evaluate.labels import (
    check_labels,
    choice_labels,
    has_no_names,
    input_columns,
    match_labels,
)
from taxlt_mergekit.evaluate.padding import Padding, harmless, padding_token
from taxlt_mergekit.model_files import check_adapter, check_folder
from taxlt_mergekit.paper.remedies import for_model

# A child of lm-eval's own logger, so that its settings and its level hold.
LOG = logging.getLogger("lm_eval.models.hf-seq-cls")

# Numbers of words in the short texts on which padding is tried.
PROBES = (4, 5, 7, 10, 14, 20)


@dataclass
class Document:
    """One forward pass: what the model reads, and the requests of lm-eval that it answers."""

    task: str
    texts: list[str]
    columns: list[int]  # the head's column for each choice
    requests: list[int] = field(default_factory=list)  # positions in lm-eval's list


def _translated(about: str, hint: str = "") -> AbstractContextManager[None]:
    """The libraries' errors in one line; as they are at log level DEBUG."""
    return translated(f"hf-seq-cls: {about}", hint, as_it_is=LOG.isEnabledFor(logging.DEBUG))


class SequenceClassifierLM(HFLM):
    """A classification head as one of lm-eval's models. Takes the arguments of lm-eval's `hf`."""

    _max_length: int | None

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
        self.AUTO_MODEL_CLASS = HeadLoader()
        self._name = pretrained if isinstance(pretrained, str) else type(pretrained).__name__
        adapter = kwargs.get("peft")
        with _translated(f"can't load {self._name}"):
            if adapter and Path(adapter).is_dir():
                check_adapter(adapter)
            super().__init__(pretrained, **kwargs)
            refuse_untrained(self._name, self.AUTO_MODEL_CLASS.missing, adapter)
        accelerator = getattr(self, "accelerator", None)
        if accelerator is not None and self.world_size == 1:
            # HFLM divides the documents among processes only where there are several GPUs.
            self._rank, self._world_size = accelerator.process_index, accelerator.num_processes
        self._truncated: Counter[str] = Counter()
        self._warned: set[str] = set()
        self._recipe = recipe_text(self._name)
        check_labels(self.model.config, self._name, self._warn)
        with _translated(f"{self._name} can't be run"):
            self.inputs = self._settle_inputs()
            self._max_length = self.inputs.longest
            self._padding = self._settle_padding()

    def _warn(self, text: str) -> None:
        """Once a model."""
        if text not in self._warned:
            self._warned.add(text)
            LOG.warning("%s", text)

    # Loading

    def _get_backend(self, *args: Any, **kwargs: Any) -> None:
        self.backend = "causal"  # one sequence a document, whatever the architecture

    def _get_config(self, pretrained: str, **kwargs: Any) -> None:
        path = Path(pretrained).expanduser()
        if not path.exists() and (
            pretrained.endswith("/") or pretrained.startswith((".", "/", "~")) or pretrained.count("/") > 1
        ):
            how = for_model(pretrained) or "; mergekit-yaml RECIPE OUT writes a merged model"
            raise UserError(
                f"hf-seq-cls: pretrained={pretrained}: no such folder, seen from {Path.cwd()}{how}"
            )
        if path.is_dir() and not (kwargs.get("subfolder") or kwargs.get("gguf_file")):
            check_folder(str(path))
        hint = ""
        if not path.exists():
            hint = f"(there is no such folder in {Path.cwd()}, so the hub was asked){for_model(pretrained)}"
        with _translated(f"can't load {pretrained}", hint):
            super()._get_config(pretrained, **kwargs)

    def _create_tokenizer(self, pretrained: Any, *args: Any, **kwargs: Any) -> None:
        super()._create_tokenizer(pretrained, *args, **kwargs)
        # lm-eval gives a tokenizer without padding token one of its own choice.
        self._tokenizers_padding, self._tokenizers_size = self.tokenizer.pad_token_id, len(self.tokenizer)

    # What the model can be given; the user is told where its files disagree

    def _settle_inputs(self) -> Inputs:
        config = self.model.config.get_text_config()
        network = getattr(self.model, "get_base_model", lambda: self.model)()
        vocabulary = vocabulary_size(self.model)
        if vocabulary is not None and self._tokenizers_size > vocabulary:
            self._warn(
                f"{self._name}: its tokenizer has {self._tokenizers_size} tokens, the model embeddings for "
                f"{vocabulary}: a document with one of the others is refused"
            )
        return Inputs(
            self._name,
            self.tokenizer,
            self._longest(network),
            accepted_columns(network),
            getattr(config, "type_vocab_size", None),
            vocabulary,
            self._warn,
        )

    def _longest(self, network: torch.nn.Module) -> int:
        """The most tokens that positions and tokenizer allow, or `max_length=` as far as positions go."""
        asked, self._max_length = self._max_length, None  # so that HFLM says what the config has
        stated, most = super().max_length, self.tokenizer.model_max_length
        held = learned_positions(network, stated)
        if asked is None:
            return min(held or (stated if stated > 0 else most), most)
        if held is not None and asked > held:
            self._warn(
                f"{self._name}: max_length={asked}, but its positions hold {held} tokens: {held} it is"
            )
            return held
        return int(asked)

    def _settle_padding(self) -> Padding:
        config = self.model.config.get_text_config()
        stated, tokenizers = getattr(config, "pad_token_id", None), self._tokenizers_padding
        token = padding_token(stated, self.tokenizer.pad_token_id, self.inputs.vocabulary)
        if stated is not None and tokenizers is not None and stated != tokenizers:
            self._warn(
                f"{self._name}: padding is token {stated} by its config.json, {tokenizers} by its tokenizer; "
                f"{token} is used, so that scores do not depend on the batch"
            )
        if token is None:
            self._warn(f"{self._name}: has no padding token, so documents are scored one at a time")
        elif token != stated:  # decoders find a text's last token by it
            config.pad_token_id = token
        padding = Padding(token, self.tokenizer.pad_token_type_id, self.tokenizer.padding_side)
        if self.batch_size == 1 or token is None:
            return padding
        rows, _ = self.inputs.rows([[" ".join(map(str, range(count)))] for count in PROBES])
        dtype = self.mixed_precision_dtype or self.model.dtype
        precision = dtype if dtype.is_floating_point else torch.float16  # of quantised weights
        found = harmless(padding, self._logits, rows, self.inputs.longest, precision)
        if found.side is None:
            self._warn(
                f"{self._name}: padding changes its scores, so only documents of equal length share a batch"
            )
        elif found != padding:
            self._warn(
                f"{self._name}: padding on the {padding.side} changes its scores; it goes on the {found.side}"
            )
        return found

    def get_model_info(self) -> dict[str, Any]:
        """What lm-eval writes into the results' `config`.

        Adds how many documents were truncated, and the recipe of a merged model, in whose place another may
        stand when somebody reads the results.
        """
        return super().get_model_info() | {
            "truncated_documents": dict(self._truncated),
            "mergekit_config": self._recipe,
        }

    # Scoring

    def loglikelihood(self, requests: list[Instance], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """For each request the log-probability of its choice's label, and whether no label has a higher one.

        Raises:
            UserError: the task asks for few-shot examples, or its labels or columns don't fit the model.
        """
        documents = self._documents(requests)
        with _translated(f"{self._name} can't be run"):
            return self._scores(requests, documents, self.encode(documents), disable_tqdm)

    def _scores(
        self,
        requests: list[Instance],
        documents: Sequence[Document],
        encoded: Sequence[dict[str, list[int]]],
        disable_tqdm: bool,
    ) -> list[tuple[float, bool]]:
        results: list[tuple[float, bool]] = [(0.0, False)] * len(requests)
        for document, row in self.classified(documents, encoded, disable_tqdm):
            for position in documents[document].requests:
                request = requests[position]
                score = row[documents[document].columns[request.idx]]
                results[position] = (score, score == max(row))
                self.cache_hook.add_partial("loglikelihood", request.args, results[position])
        return results

    def classified(
        self, documents: Sequence[Document], encoded: Sequence[dict[str, list[int]]], disable_tqdm: bool
    ) -> Iterator[tuple[int, list[float]]]:
        """Each document's position and log-probabilities by the head's columns, as batches are ready.

        Raises:
            UserError: NaN.
        """
        hidden = disable_tqdm or self.rank != 0
        with tqdm(total=len(documents), desc="Running hf-seq-cls documents", disable=hidden) as progress:
            for batch in self._batches(encoded):
                logits = self._logits(self._padding.batch([encoded[index] for index in batch]))
                scores = torch.log_softmax(logits, dim=-1, dtype=self.softmax_dtype or torch.float32)
                if scores.isnan().any():
                    raise UserError(
                        f"hf-seq-cls: {self._name} gives NaN for a document of {documents[batch[0]].task}: "
                        f"its weights, or sums in {self.model.dtype}, are not finite"
                    )
                yield from zip(batch, scores.tolist(), strict=True)
                progress.update(len(batch))

    def _documents(self, requests: Sequence[Instance]) -> list[Document]:
        documents: dict[Any, Document] = {}
        layouts: dict[str, tuple[tuple[str, ...], list[int]]] = {}
        for position, request in enumerate(requests):
            name = request.task_name or "the task"
            key = (name, id(request.doc) if request.doc_id is None else request.doc_id)
            if key not in documents:
                if name not in layouts:
                    layouts[name] = self.layout(_task_of(request, name), request.doc, name)
                read, columns = layouts[name]
                texts = [request.doc[column] for column in read]
                if not all(isinstance(text, str) for text in texts):
                    raise UserError(f"{name}, document {request.doc_id}: {' or '.join(read)} is not a text")
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
        read = input_columns(document, name)
        # As model arguments in JSON give it, its keys are strings.
        id2label = {int(column): str(label) for column, label in self.model.config.id2label.items()}
        choices = task.doc_to_choice(document)
        labels, assumed = choice_labels(choices, named_labels(task), document, id2label, name)
        order = ", ".join(labels)
        if assumed:
            self._warn(f"{name}: its labels have no names; taken as XNLI numbers them: {order}")
        columns = match_labels(id2label, labels, name)
        if has_no_names(id2label):
            self._warn(
                f"{self._name}: its labels have no names ({', '.join(id2label.values())}); their order is "
                f"taken as given: {order}. Set id2label in its config.json to be sure."
            )
        return read, columns

    def encode(self, documents: Sequence[Document]) -> list[dict[str, list[int]]]:
        """Token ids of each document, without padding; too long ones are truncated, counted and reported."""
        encoded: list[dict[str, list[int]]] = [{}] * len(documents)
        truncated: Counter[str] = Counter()
        for width in {len(document.texts) for document in documents}:
            indices = [index for index, document in enumerate(documents) if len(document.texts) == width]
            rows, too_long = self.inputs.rows([documents[index].texts for index in indices])
            for index, row in zip(indices, rows, strict=True):
                encoded[index] = row
            truncated.update(documents[indices[place]].task for place in too_long)
        if truncated:
            self._truncated |= truncated
            LOG.warning(
                "%d of %d documents are longer than %d tokens and were truncated (%s)",
                truncated.total(),
                len(documents),
                self.inputs.longest,
                ", ".join(f"{task}: {count}" for task, count in truncated.items()),
            )
        return encoded

    def _batches(self, encoded: Sequence[Mapping[str, list[int]]]) -> Iterator[list[int]]:
        """Indices of documents of like length, the longest first, which shows at once whether they fit.

        Of equal length, where padding would change scores.
        """
        lengths = [len(row["input_ids"]) for row in encoded]
        order = sorted(range(len(encoded)), key=lambda index: -lengths[index])
        automatic = self.batch_size == "auto"
        if automatic:
            # In the form that HFLM's search for a batch size reads: (_, context, continuation).
            probes = [(None, encoded[index]["input_ids"], [0]) for index in order]
            self.batch_sizes: dict[int, int] = {}
            self.batch_schedule: float = min(self.batch_schedule, len(order))
        start = 0
        while start < len(order):
            size = self._batch_scheduler(start, probes) if automatic else self.batch_size
            batch = order[start : start + size]
            batch = batch[: self._padding.together([lengths[index] for index in batch])]
            yield batch
            start += len(batch)

    def _detect_batch_size(self, requests: Sequence | None = None, pos: int = 0) -> int:
        if self.device.type == "cpu":  # has no memory of its own to run out of
            return self.max_batch_size
        return super()._detect_batch_size(requests, pos)

    def _logits(self, columns: Mapping[str, torch.Tensor]) -> torch.Tensor:
        taken = {name: of.to(self.device) for name, of in columns.items() if name in self.inputs.columns}
        return self._model_call(**taken)

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
