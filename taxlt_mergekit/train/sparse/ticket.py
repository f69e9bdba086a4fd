"""The selected parameters as a file, which says that phase 1 is over."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import safetensors
from safetensors.torch import save_file
from torch import Tensor

from taxlt_mergekit.errors import UserError, translated

TICKET_FILE = "selected.safetensors"


@dataclass(frozen=True)
class Ticket:
    """The K parameters that phase 1 selected.

    Attributes:
        selected: name → flat positions, int64, ascending.
        kept: which step of phase 1 was taken, for the card.
    """

    selected: Mapping[str, Tensor]
    kept: str

    def save(self, file: Path) -> None:
        """Write it in one go."""
        new = file.with_suffix(".new")
        save_file(dict(self.selected), new, {"kept": self.kept})
        os.replace(new, file)

    @staticmethod
    def load(file: Path, k: int) -> "Ticket":
        """Read what `save` wrote.

        Raises:
            UserError: the file is damaged, or holds another number of parameters than k.
        """
        with translated(f"{file} cannot be read"), safetensors.safe_open(file, "pt") as content:
            selected = {name: content.get_tensor(name) for name in sorted(content.keys())}
            kept = content.metadata()["kept"]
        if (found := sum(map(len, selected.values()))) != k:
            raise UserError(f"{file} selects {found:,} parameters, not {k:,}; remove it to do phase 1 again")
        return Ticket(selected, kept)
