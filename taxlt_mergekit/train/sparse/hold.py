"""What keeps training to the selected parameters, and what pulls parameters back to θ₀."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from transformers import TrainerCallback

from taxlt_mergekit.train.sparse.selection import separate_


class HoldOthers(TrainerCallback):
    """Trains the selected entries of a model and leaves every other entry of the counted tensors at θ₀.

    Gradients of the others are zero before they are clipped, so the norm is that of what is trained. After
    each step the others get θ₀'s value again: weight decay moves an entry without a gradient too, and so may
    an optimizer that shares statistics among entries. Tensors without a selected entry are not trained at
    all, which saves their gradients and their part of the optimizer's state.
    """

    def __init__(self, parameters: Mapping[str, nn.Parameter], selected: Mapping[str, Tensor]) -> None:
        """
        Args:
            parameters: of the model, by name, still θ₀, on the device that they are trained on.
            selected: name → flat positions of the entries that are trained.
        """
        self._held: list[tuple[nn.Parameter, Tensor, Tensor]] = []
        self._hooks: list[Any] = []
        for name, parameter in parameters.items():
            if name not in selected:
                parameter.requires_grad_(False)
                continue
            mask = torch.zeros(parameter.numel(), dtype=torch.bool, device=parameter.device)
            mask[selected[name].to(parameter.device)] = True
            mask = mask.view(parameter.shape)
            self._hooks.append(parameter.register_hook(mask.mul))
            self._held.append((parameter, mask, parameter.detach().clone()))

    @torch.no_grad()
    def on_optimizer_step(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        for parameter, mask, start in self._held:
            torch.where(mask, parameter, start, out=parameter)

    @torch.no_grad()
    def release(self) -> int:
        """Let go of the trained model, once every selected entry differs from θ₀'s.

        Returns:
            How many had to be moved for that, by one unit in the last place.
        """
        for hook in self._hooks:
            hook.remove()
        return sum(separate_(parameter, start, mask) for parameter, mask, start in self._held)


class PullToStart(TrainerCallback):
    """The L1 term λ/N · Σ |θ − θ₀| of the loss (Ansell et al. 2022, section 3.2), by its gradient.

    It is added once a step, after the gradients of the batch were added up and clipped, so it does not depend
    on how a batch is spread.
    """

    def __init__(
        self, parameters: Mapping[str, nn.Parameter], starts: Mapping[str, Tensor], weight: float
    ) -> None:
        """
        Args:
            parameters: the counted tensors that are trained, N entries in all.
            starts: θ₀, by the same names.
            weight: λ.
        """
        self._strength = weight / sum(parameter.numel() for parameter in parameters.values())
        self._pairs = [
            (parameter, starts[name].detach().to(parameter.device, copy=True))
            for name, parameter in parameters.items()
        ]

    @torch.no_grad()
    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        for parameter, start in self._pairs:
            if parameter.grad is not None:
                parameter.grad.add_(torch.sign(parameter - start), alpha=self._strength)
