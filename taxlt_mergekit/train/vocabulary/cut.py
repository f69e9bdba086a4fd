"""A model cut to the pieces that its data have, and made whole again with θ₀'s rows for the others.

Of XLM-R's 250,002 pieces a corpus of one language has a tenth or less, yet each step scores all of them and
moves all of their rows. A classifier has no scores of pieces: a row that no batch has touched has neither
gradient nor moments, so without weight decay AdamW leaves it where it is, and the cut changes nothing. A
language model's softmax is taken over fewer pieces, which changes the loss.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import datasets
import numpy as np
import torch
from torch import Tensor, nn

from taxlt_mergekit.errors import UserError
from taxlt_mergekit.train.settings import Settings


def check_cut(settings: Settings) -> None:
    """Refuse what counts or names parameters of the whole model, before anything is read.

    Raises:
        UserError: names the flag.
    """
    others = {"--lora-rank": settings.lora_rank, "--sparse": settings.sparse, "--fisher": settings.fisher}
    for flag, given in others.items():
        if settings.cut_vocabulary and given is not None:
            raise UserError(f"--cut-vocabulary cannot be used with {flag}, which needs the whole vocabulary")


@dataclass(frozen=True)
class Cut:
    """A model's vocabulary while it is trained.

    Attributes:
        kept: the pieces, ascending, shape (n,): row i of the cut model is row kept[i] of θ₀.
        rows: of θ₀.
        starts: θ₀'s tensors of a row a piece, by name.
        padding: θ₀'s `padding_idx`.
        hook: leads pieces to their places among the kept.
    """

    kept: np.ndarray
    rows: int
    starts: Mapping[str, Tensor]
    padding: int | None
    hook: Any

    @property
    def fact(self) -> tuple[str, str]:
        """A line for the start and for the model card."""
        return (
            "vocabulary",
            f"cut to the {len(self.kept):,} pieces of the data, of {self.rows:,}; other rows stay θ₀'s",
        )

    @torch.no_grad()
    def restore(self, model: Any) -> None:
        """Make the trained model whole: its rows in their places, θ₀'s in all others."""
        trained = {name: _parameters(model)[name].detach() for name in self.starts}
        self.hook.remove()
        model.resize_token_embeddings(self.rows, mean_resizing=False)
        embeddings = model.get_input_embeddings()
        embeddings.padding_idx = self.padding
        del embeddings.place_of_piece
        parameters = _parameters(model)
        for name, start in self.starts.items():
            whole = start.to(trained[name].device, copy=True)
            whole[torch.from_numpy(self.kept).to(whole.device)] = trained[name]
            parameters[name].data = whole
        model.tie_weights()


def pieces_of(parts: Iterable[datasets.Dataset], tokenizer: Any) -> np.ndarray:
    """Every piece in data with the column `input_ids`, and the tokenizer's special ones; ascending, int64."""
    found = [np.asarray(tokenizer.all_special_ids, dtype=np.int64)]
    for part in parts:
        columns = part.select_columns(["input_ids"]).with_format("arrow")
        for batch in columns.iter(4096):
            found.append(np.unique(batch.column("input_ids").combine_chunks().values.to_numpy()))
            found = [np.unique(np.concatenate(found))]
    return found[0].astype(np.int64)


def cut_if_asked(
    settings: Settings, model: Any, tokenizer: Any, parts: Iterable[datasets.Dataset]
) -> Cut | None:
    """`cut_vocabulary` to the pieces of all parts where `--cut-vocabulary` is given."""
    return cut_vocabulary(model, pieces_of(parts, tokenizer)) if settings.cut_vocabulary else None


@torch.no_grad()
def cut_vocabulary(model: Any, kept: np.ndarray) -> Cut:
    """Leave a model the rows of some pieces alone; its inputs stay what they are.

    transformers' own resizing knows which tensors have a row a piece. Pieces keep their numbers on the way
    in, because models look at them too (padding, positions); scores have one column a kept piece, in order.

    Args:
        model: θ₀, changed in place.
        kept: the pieces, ascending.

    Raises:
        UserError: transformers takes another layer of this class for its output.
    """
    before = {name: parameter.detach() for name, parameter in _parameters(model).items()}
    frozen = [name for name, parameter in _parameters(model).items() if not parameter.requires_grad]
    embeddings = model.get_input_embeddings()
    rows, padding = embeddings.weight.shape[0], getattr(embeddings, "padding_idx", None)
    places = torch.from_numpy(kept)
    model.resize_token_embeddings(len(kept), mean_resizing=False)
    starts = {}
    for name, parameter in _parameters(model).items():
        if parameter.shape != before[name].shape:
            if before[name].shape[0] != rows:
                raise UserError(
                    f"--cut-vocabulary: transformers cannot resize the vocabulary of {type(model).__name__} "
                    f"(it changes {name}); leave it out"
                )
            starts[name] = before[name]
            parameter.data = before[name][places.to(before[name].device)]
        parameter.requires_grad_(name not in frozen)
    model.tie_weights()
    embeddings = model.get_input_embeddings()
    where = torch.zeros(rows, dtype=torch.long)
    where[places] = torch.arange(len(kept))
    embeddings.register_buffer("place_of_piece", where, persistent=False)
    hook = embeddings.register_forward_pre_hook(_to_places)
    if padding is not None:
        embeddings.padding_idx = int(where[padding])
    return Cut(kept, rows, starts, padding, hook)


def _to_places(embeddings: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return (embeddings.get_buffer("place_of_piece")[inputs[0]], *inputs[1:])


def _parameters(model: Any) -> dict[str, nn.Parameter]:
    return dict(model.named_parameters(remove_duplicate=False))
