"""The K that moved most, what holds the others, and Fisher information: against slow, obvious references."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from taxlt_mergekit.sparsity import NotFiniteError
from taxlt_mergekit.train.fisher.diagonal import empirical_fisher, label_fisher
from taxlt_mergekit.train.sparse import selection
from taxlt_mergekit.train.sparse.hold import HoldOthers, PullToStart

# Few different values, so that many movements are equal.
VALUES = st.sampled_from([-2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 3e-39, 7.25])
TENSORS = st.lists(st.lists(st.tuples(VALUES, VALUES), min_size=1, max_size=12), min_size=1, max_size=5)


def as_tensors(drawn: list) -> tuple[dict, dict]:
    both = [torch.tensor(pairs) for pairs in drawn]
    return tuple({f"t{n}": pairs[:, side].clone() for n, pairs in enumerate(both)} for side in (0, 1))


@given(TENSORS, st.data())
def test_most_moved_is_a_stable_sort(drawn, data):
    starts, ends = as_tensors(drawn)
    sizes = sum(map(len, drawn))
    k = data.draw(st.integers(1, sizes))
    order = [
        (-abs(float(ends[name][at] - starts[name][at])), number, at, name)
        for number, name in enumerate(starts)
        for at in range(len(starts[name]))
    ]
    wanted: dict[str, list[int]] = {}
    for _, _, at, name in sorted(order)[:k]:
        wanted.setdefault(name, []).append(at)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(selection, "CHUNK", data.draw(st.integers(1, 5)))
        found = selection.most_moved(starts, ends, k)
        moved = selection.count_moved(starts, ends)
    assert {name: positions.tolist() for name, positions in found.items()} == {
        name: sorted(positions) for name, positions in wanted.items()
    }
    assert moved == sum(change < 0 for change, *_ in order)


def test_what_is_no_number_is_not_selected():
    with pytest.raises(NotFiniteError):
        selection.most_moved({"a": torch.zeros(3)}, {"a": torch.tensor([1.0, float("nan"), 2.0])}, 1)


@given(st.lists(st.tuples(VALUES, VALUES, st.booleans()), min_size=1, max_size=12))
def test_selected_entries_are_made_to_differ(drawn):
    start, end = (torch.tensor([entry[side] for entry in drawn]) for side in (0, 1))
    mask = torch.tensor([entry[2] for entry in drawn])
    before = end.clone()
    number = selection.separate_(end, start, mask)
    assert number == sum(mask and one == two for one, two, mask in drawn)
    for at, (one, two, chosen) in enumerate(drawn):
        moved = np.nextafter(np.float32(one), np.float32(np.copysign(np.inf, one)))
        assert end[at] == (float(moved) if chosen and one == two else before[at])
        assert not chosen or end[at] != start[at]


OPTIMIZERS = {
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.1, weight_decay=0.5),
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.5, nesterov=True),
    "adafactor": lambda p: torch.optim.Adafactor(p, lr=0.1, weight_decay=0.5),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_no_other_entry_moves_whatever_the_optimizer(name):
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.Tanh(), torch.nn.Linear(6, 3))
    parameters = dict(model.named_parameters())
    starts = {at: parameter.detach().clone() for at, parameter in parameters.items()}
    selected = {"0.weight": torch.tensor([0, 7, 23]), "2.bias": torch.tensor([1])}
    hold = HoldOthers(parameters, selected)
    optimizer = OPTIMIZERS[name]([p for p in model.parameters() if p.requires_grad])
    for _ in range(5):
        for _ in range(2):  # accumulated
            model(torch.randn(8, 4)).square().sum().backward()
        assert int(parameters["0.weight"].grad.count_nonzero()) <= 3
        optimizer.step()
        hold.on_optimizer_step(None, None, None)
        optimizer.zero_grad()
    assert hold.release() == 0
    for at, parameter in parameters.items():
        changed = (parameter != starts[at]).view(-1).nonzero()[:, 0]
        assert changed.tolist() == selected.get(at, torch.tensor([])).tolist()
    model.requires_grad_(True)
    model(torch.randn(8, 4)).sum().backward()
    assert int(parameters["2.bias"].grad.count_nonzero()) == 3, "released"


def test_the_pull_is_the_gradient_of_the_l1_term():
    torch.manual_seed(1)
    parameters = {name: torch.nn.Parameter(torch.randn(3, 2)) for name in "ab"}
    starts = {name: torch.randn(3, 2) for name in parameters}
    starts["a"][0] = parameters["a"].detach()[0]  # no pull where nothing moved
    loss = sum(p.square().sum() for p in parameters.values())
    term = 0.3 / 12 * sum((parameters[name] - starts[name]).abs().sum() for name in parameters)
    wanted = torch.autograd.grad(loss + term, list(parameters.values()), retain_graph=True)
    loss.backward()
    PullToStart(parameters, starts, 0.3).on_pre_optimizer_step(None, None, None)
    for parameter, gradient in zip(parameters.values(), wanted, strict=True):
        torch.testing.assert_close(parameter.grad, gradient)


@pytest.mark.parametrize("classes", [1, 2, 4])
def test_label_fisher_is_the_expectation_over_labels(classes):
    torch.manual_seed(classes)
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, classes))
    rows = list(torch.randn(5, 1, 3))
    parameters = {**dict(model.named_parameters()), "unused": torch.nn.Parameter(torch.ones(2))}
    found = label_fisher(iter(rows), model, parameters)
    for name, parameter in model.named_parameters():
        total = torch.zeros_like(parameter)
        for row in rows:
            for label in range(classes):
                model.zero_grad()
                probability = model(row).softmax(-1)[0, label]
                probability.log().backward()
                total += probability.detach() * parameter.grad**2
        torch.testing.assert_close(found[name], total / len(rows))
        assert found[name].min() >= 0
    assert found["unused"].tolist() == [0, 0]


def test_empirical_fisher_squares_each_row_by_itself():
    weight = torch.nn.Parameter(torch.tensor([1.0, -2.0]))
    rows = [torch.tensor([1.0, 3.0]), torch.tensor([-1.0, 1.0])]
    found = empirical_fisher(rows, lambda row: (row * weight).sum(), {"w": weight})
    assert found["w"].tolist() == [1.0, 5.0]
