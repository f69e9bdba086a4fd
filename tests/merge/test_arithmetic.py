"""Equations 1 to 3 and the selection by magnitude, against slow and obvious float64 references."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from taxlt_mergekit import sparsity
from taxlt_mergekit.merge import arithmetic
from taxlt_mergekit.merge.arithmetic import Term, combine, vector_chunks
from taxlt_mergekit.merge.cutoffs import global_cutoffs
from taxlt_mergekit.sparsity import (
    Cutoff,
    Kth,
    NotFiniteError,
    Sample,
    count_within,
    find_bracket,
    find_kth,
    keep_,
    kept_entries,
    kth_within,
    position_after,
)

values = st.one_of(
    st.floats(-4, 4, width=32),
    st.sampled_from([0.0, -0.0, 0.5, -0.5, 1.0, -1.0]),  # many ties, many zeros
)
vectors = st.lists(values, min_size=1, max_size=60)
selects = st.sampled_from(["top", "bottom"])
dtypes = st.sampled_from([torch.float32, torch.float64])


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    """Chunks of 7 entries, so that small tensors have several."""
    monkeypatch.setattr(arithmetic, "_CPU_CHUNK", 7)
    monkeypatch.setattr(arithmetic, "_UNDIVIDED", 7)
    monkeypatch.setattr(sparsity, "_BATCH", 5)


def kept_by_sorting(vector: torch.Tensor, k: int, select: str) -> torch.Tensor:
    """The reference: sort all magnitudes, equal ones in order of position, and keep k."""
    order = sorted(
        range(len(vector)), key=lambda i: ((-1 if select == "top" else 1) * abs(vector[i].item()), i)
    )
    kept = torch.zeros_like(vector)
    for i in order[:k]:
        kept[i] = vector[i]
    return kept


def keep_in_pieces(vector: torch.Tensor, cutoff: Cutoff, size: int) -> torch.Tensor:
    kept = vector.clone()
    for start in range(0, len(vector), size):
        keep_(kept[start : start + size], cutoff, start)
    return kept


def cutoff_of(vector: torch.Tensor, kth: Kth, select: str) -> Cutoff:
    exactly = count_within([vector.clone()], (kth.key, kth.key), vector.dtype)
    assert 0 < kth.ties <= exactly.entries(kth.key) == (keys_of(vector) == kth.key).sum()
    until = position_after([piece.clone() for piece in vector.split(7)], kth.key, vector.dtype, kth.ties)
    return Cutoff(select, kth.key, until, vector.dtype)


def select_in_pieces(vector: torch.Tensor, k: int, select: str, size: int) -> torch.Tensor:
    kth = find_kth(lambda: (p.clone() for p in vector.split(size)), k, select, vector.dtype)
    return keep_in_pieces(vector, cutoff_of(vector, kth, select), size)


@given(vectors, st.data(), selects, st.integers(1, 20), dtypes)
@settings(max_examples=400, deadline=None)
def test_selection_keeps_exactly_k_and_breaks_ties_by_position(entries, data, select, size, dtype):
    vector = torch.tensor(entries, dtype=dtype)
    k = data.draw(st.integers(1, len(vector)))
    assert torch.equal(select_in_pieces(vector, k, select, size), kept_by_sorting(vector, k, select))


@given(vectors, st.data(), selects, dtypes)
@settings(max_examples=300, deadline=None)
def test_a_sample_changes_nothing_even_a_wrong_one(entries, data, select, dtype):
    vector = torch.tensor(entries, dtype=dtype)
    k = data.draw(st.integers(1, len(vector)))
    sampled = torch.tensor(data.draw(vectors), dtype=dtype)
    for values in (sampled, vector[::3].clone()):
        bracket = find_bracket(Sample(values, len(vector)), k, select, dtype)
        seen = [count_within([piece.clone()], bracket, dtype) for piece in vector.split(7)]
        kth = kth_within(seen, k, select)
        assert kth is None or kth == find_kth(lambda: [vector.clone()], k, select, dtype)


@pytest.mark.parametrize("select", ["top", "bottom"])
def test_a_large_vector_is_settled_within_its_bracket(select):
    torch.manual_seed(3)
    vector = torch.randn(400_000).mul_(0.01)
    k = 80_000
    bracket = find_bracket(Sample(vector[::101].clone(), len(vector)), k, select, torch.float32)
    seen = count_within([vector.clone()], bracket, torch.float32)
    assert 0 < len(seen.keys) < 0.2 * len(vector)
    kth = kth_within([seen], k, select)
    assert kth is not None
    kept = keep_in_pieces(vector, cutoff_of(vector, kth, select), 100_000)
    order = vector.abs().argsort(descending=select == "top", stable=True)
    assert torch.equal(kept, torch.zeros_like(vector).index_copy_(0, order[:k], vector[order[:k]]))


def test_equal_entries_take_no_memory_of_their_own():
    """Differences of bfloat16 weights have few magnitudes; each is counted, whatever lies in the bracket."""
    torch.manual_seed(4)
    vector = torch.randn(200_000).mul_(8).round_()
    bracket = find_bracket(Sample(vector[::101].clone(), len(vector)), 40_000, "top", torch.float32)
    seen = count_within([piece.clone() for piece in vector.split(1000)], bracket, torch.float32)
    inside = vector.abs()[(seen.keys[0] <= keys_of(vector)) & (keys_of(vector) <= seen.keys[-1])]
    assert len(seen.keys) < 10 < 1000 < len(inside) == seen.counts.sum()


def keys_of(vector: torch.Tensor) -> torch.Tensor:
    return sparsity.magnitude_keys_(vector.clone(), vector.dtype)


def test_selection_of_a_vector_that_is_mostly_zero():
    vector = torch.zeros(1000)
    vector[::100] = torch.arange(1.0, 11.0)
    assert torch.equal(select_in_pieces(vector, 200, "top", 64), vector)
    assert select_in_pieces(vector, 4, "top", 64).nonzero().flatten().tolist() == [600, 700, 800, 900]
    assert not select_in_pieces(vector, 200, "bottom", 64).any()


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_selection_refuses_what_has_no_order(bad):
    with pytest.raises(NotFiniteError):
        find_kth(lambda: [torch.tensor([1.0, bad, 2.0])], 1, "top")


@given(st.floats(0.001, 1.0), st.integers(0, 10**9))
def test_kept_entries_is_the_floor(density, n):
    assert kept_entries(density, n) == math.floor(density * n)


@given(st.lists(vectors, min_size=1, max_size=4), selects, st.floats(0.01, 1))
@settings(max_examples=150, deadline=None)
def test_a_global_cutoff_is_that_of_the_joined_vector(parts, select, density):
    tensors = {f"t{i}": torch.tensor(part) for i, part in enumerate(parts)}
    joined = torch.cat(list(tensors.values()))
    cutoffs = global_cutoffs(
        lambda: ((name, torch.zeros_like(t), t) for name, t in tensors.items()), density, select
    )
    kept = []
    for name, tensor in tensors.items():
        kept.append(keep_in_pieces(tensor, cutoffs[name], 7))
    assert torch.equal(torch.cat(kept), kept_by_sorting(joined, kept_entries(density, len(joined)), select))


@given(st.data(), st.integers(1, 40), st.integers(1, 3))
@settings(max_examples=200, deadline=None)
def test_combine_is_equation_2(data, n, terms):
    draw = lambda: torch.tensor(data.draw(st.lists(st.floats(-2, 2, width=32), min_size=n, max_size=n)))  # noqa: E731
    base, checkpoints = draw(), [draw() for _ in range(terms)]
    weights = [data.draw(st.floats(-1.5, 1.5)) for _ in checkpoints]
    result, squares = combine(base, [Term(c, w) for c, w in zip(checkpoints, weights, strict=True)])
    expected = base.double()
    for checkpoint, weight in zip(checkpoints, weights, strict=True):
        expected = expected + weight * (checkpoint.double() - base.double())
    torch.testing.assert_close(result.double(), expected, atol=3e-6, rtol=0)
    assert squares[0] == pytest.approx(base.double().square().sum().item(), rel=1e-5)
    for checkpoint, square in zip(checkpoints, squares[1:], strict=True):
        assert square == pytest.approx((checkpoint - base).double().square().sum().item(), rel=1e-5)


def test_the_task_model_alone_is_returned_bit_for_bit():
    base, task = torch.randn(100), torch.randn(100)
    assert torch.equal(combine(base, [Term(task, 1.0)])[0], task)
    assert torch.equal(combine(base, [Term(task, 1.0), Term(base, 0.7)])[0], task)


def test_the_number_of_threads_changes_no_bit(monkeypatch):
    monkeypatch.undo()  # chunks as users have them
    torch.manual_seed(3)
    base, task, target = (torch.randn(700_003) for _ in range(3))
    threads = torch.get_num_threads()
    results = []
    try:
        for number in (1, 2, 3, 5):
            torch.set_num_threads(number)
            results.append(combine(base, [Term(task, 0.7), Term(target, -0.3)])[0])
    finally:
        torch.set_num_threads(threads)
    assert all(result.equal(results[0]) for result in results)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_summed_in_float32_and_rounded_once(dtype):
    torch.manual_seed(1)
    base, task, target = (torch.randn(5, 11).to(dtype) for _ in range(3))
    exact = task.float() + 0.3 * (target.float() - base.float())
    result, _ = combine(base, [Term(task, 1.0), Term(target, 0.3)])
    assert result.dtype == dtype and torch.equal(result, exact.to(dtype))
    wide, _ = combine(base, [Term(task, 1.0), Term(target, 0.3)], dtype=torch.float32)
    torch.testing.assert_close(wide, exact, atol=1e-6, rtol=1e-6)


def test_float64_stays_float64():
    base, target = torch.randn(9, dtype=torch.float64), torch.randn(9, dtype=torch.float64)
    result, _ = combine(base, [Term(target, 0.1)])
    torch.testing.assert_close(result, base + 0.1 * (target - base), atol=1e-15, rtol=1e-15)


def test_combine_writes_in_place():
    base, target, out = torch.zeros(4, 5), torch.ones(4, 5), torch.empty(4, 5)
    result, _ = combine(base, [Term(target, 0.5)], out=out)
    assert result is out and torch.equal(out, torch.full((4, 5), 0.5))


def test_norms_tell_of_values_that_are_not_finite():
    base = torch.ones(20)
    for position in (0, 13):
        bad = torch.ones(20)
        bad[position] = math.nan
        _, squares = combine(base, [Term(torch.ones(20), 1.0), Term(bad, 0.0)])
        assert math.isfinite(squares[0]) and math.isfinite(squares[1]) and not math.isfinite(squares[2])


@given(st.data(), st.integers(1, 40), st.sampled_from([1.0, 0.7]))
@settings(max_examples=100, deadline=None)
def test_without_norms_the_result_is_the_same_bit_for_bit(data, n, weight):
    base, task, target = (torch.tensor(data.draw(st.lists(values, min_size=n, max_size=n))) for _ in range(3))
    terms = [Term(task, weight), Term(target, -0.3)]
    result, squares = combine(base, terms, norms=False)
    assert torch.equal(result, combine(base, terms)[0]) and squares == [0, 0, 0]


def test_empty_and_scalar_tensors():
    assert combine(torch.empty(0, 3), [Term(torch.empty(0, 3), 1.0)])[0].shape == (0, 3)
    assert combine(torch.tensor(1.0), [Term(torch.tensor(3.0), 0.5)])[0].item() == 2.0
    assert list(vector_chunks(torch.empty(0), torch.empty(0))) == []
