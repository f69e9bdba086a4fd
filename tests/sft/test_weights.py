"""Differences are added in pieces, whatever their size."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from taxlt_mergekit.sft.file import Difference
from taxlt_mergekit.sft.weights import changed


@given(st.integers(1, 40), st.integers(1, 50), st.data())
def test_pieces_are_the_changed_tensor(count, size, data):
    chosen = data.draw(st.permutations(data.draw(st.sets(st.integers(0, count - 1)).map(sorted))))
    tensor = torch.arange(count, dtype=torch.float32)
    values = np.linspace(1, 2, len(chosen), dtype=np.float32)
    wanted = tensor.clone()
    for position, value in zip(chosen, values, strict=True):
        wanted[position] += float(value)
    change = Difference((count,), np.array(chosen, np.int64), values)
    pieces = list(changed(tensor, change, size))
    assert torch.equal(torch.cat(pieces), wanted)
    assert max(map(len, pieces)) <= size
    assert tensor.tolist() == list(range(count))
