"""What each lever of a masked-LM training step is worth at XLM-R base's width and 250,002 pieces; one core.

    python benchmarks/train_step.py --layers 12 --batch 8 --steps 1 bare whole rows "cut rows"

Each set of levers runs in a process of its own, in the order given; name one several times to see how much
the machine varies. Weights are noise, blocks are random tokens of 256. Printed are the median seconds of a
step by the clock and by the processor (in the program, in the system), new pages of memory, the loss, and the
largest resident size. `bare` scores every token, as a bare Trainer does; all others the masked ones alone.

    rows     the gradient of shared embeddings row by row in place (`add_touched_rows`)
    cut      30,000 pieces (`--cut-vocabulary`); another loss
    eager    attention without scaled_dot_product_attention
    unfused  AdamW parameter by parameter
    last     the last layer after its attention at masked tokens alone (no option; by a hook inside the layer)
    malloc   glibc keeps large blocks (no option; MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=-1)
"""

import contextlib
import os
import resource
import statistics
import subprocess
import sys
import time

import click

LENGTH, PIECES, CUT = 256, 250_002, 30_000
KEPT = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "-1"}


def make_model(layers: int, levers: set[str]):
    """An XLM-R of noise, the same numbers each time."""
    import torch
    from transformers import XLMRobertaConfig, XLMRobertaForMaskedLM

    config = XLMRobertaConfig(
        vocab_size=CUT if "cut" in levers else PIECES,
        num_hidden_layers=layers,
        max_position_embeddings=514,
        type_vocab_size=1,
        pad_token_id=1,
        attn_implementation="eager" if "eager" in levers else "sdpa",
    )
    with torch.device("meta"):
        model = XLMRobertaForMaskedLM(config)
    model = model.to_empty(device="cpu").train()
    model.tie_weights()
    noise = torch.randn(1 << 20, generator=torch.Generator().manual_seed(0)) * 0.02
    for parameter in model.parameters():
        for piece in parameter.data.view(-1).split(len(noise)):
            piece.copy_(noise[: len(piece)])
    for name, buffer in model.named_buffers():
        buffer.copy_(torch.arange(buffer.numel())[None]) if "position" in name else buffer.zero_()
    return model


def measure(layers: int, batch: int, steps: int, levers: set[str]) -> None:
    """Train in this process and print a line."""
    import torch

    from taxlt_mergekit.train.trainer import (
        MaskedHead,
        add_touched_rows,
        head_positions,
        loss_of_whole_batch,
    )

    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = make_model(layers, levers)
    if "rows" in levers:
        add_touched_rows(model)
    head = MaskedHead(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-5, fused="unfused" not in levers)
    ids = torch.randint(5, model.config.vocab_size, (batch, LENGTH))
    labels = ids.masked_fill(torch.rand(ids.shape) >= 0.15, -100)
    positions = head_positions(labels)

    def cut(given):
        return tuple(one[positions][None] for one in given)

    if "last" in levers:
        after_attention = model.roberta.encoder.layer[-1].attention.output
        after_attention.register_forward_pre_hook(lambda _, given: cut(given))
    rows = []
    for _ in range(steps + 1):
        clock, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF)
        with contextlib.nullcontext() if "bare" in levers else head.at(positions):
            outputs = model(input_ids=ids, attention_mask=torch.ones_like(ids))
        loss = loss_of_whole_batch(outputs, labels, None, 0.0)
        value = loss.item()
        del outputs
        loss.backward()
        del loss
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        model.zero_grad()
        after = resource.getrusage(resource.RUSAGE_SELF)
        user, system = after.ru_utime - before.ru_utime, after.ru_stime - before.ru_stime
        faults = (after.ru_minflt - before.ru_minflt) / 1000
        rows.append((time.perf_counter() - clock, user, system, faults, value))
    wall, user, system, faults, _ = (statistics.median(column) for column in zip(*rows[1:], strict=True))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    click.echo(
        f"{wall:7.2f} s  {user:6.2f} + {system:5.2f} CPU s  {faults:6.0f} thousand pages  "
        f"loss {rows[-1][4]:.6f}  {peak:5.2f} GB"
    )


@click.command(help=__doc__)
@click.option("--layers", default=4, show_default=True)
@click.option("--batch", default=8, show_default=True)
@click.option("--steps", default=3, show_default=True, help="Measured, after one that is not.")
@click.option("--here", is_flag=True, hidden=True)
@click.argument("sets", nargs=-1, required=True)
def main(layers: int, batch: int, steps: int, here: bool, sets: tuple[str, ...]) -> None:
    for levers in sets:
        if here:
            measure(layers, batch, steps, set(levers.split()))
            continue
        click.echo(f"{levers:<14} ", nl=False)
        environment = os.environ | {"OMP_NUM_THREADS": "1"} | (KEPT if "malloc" in levers.split() else {})
        sizes = ("--layers", layers, "--batch", batch, "--steps", steps)
        command = [sys.executable, __file__, *map(str, sizes), "--here", levers]
        if subprocess.run(command, env=environment).returncode:
            raise click.ClickException(f"{levers}: failed")


if __name__ == "__main__":
    main()
