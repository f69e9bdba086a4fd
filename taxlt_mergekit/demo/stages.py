"""The whole method from nothing: the demo's stages, each of them a command that a user could type."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from taxlt_mergekit.demo import files, world
from taxlt_mergekit.demo.files import SOURCE, TARGETS
from taxlt_mergekit.paper.variants import MODEL, VARIANTS

# The first line of `files.COMMANDS`, which tells a folder of the demo from others.
MARK = "# Written by taxlt demo"
WEIGHTS = "0.1:1.0:0.1"
NAMES = {plan.code: plan.name for plan in (world.SOURCE, *world.TARGETS)}
# One thread a process, no network, no GPU: what makes two runs the same, on any machine of one kind.
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_OFFLINE": "1",
    "CUDA_VISIBLE_DEVICES": "",
}


@dataclass(frozen=True)
class Stage:
    """One command, and what it is for."""

    title: str
    command: tuple[str, ...]

    def __str__(self) -> str:
        return shlex.join(self.command)


def stages(seed: int) -> list[list[Stage]]:
    """All commands, in groups: those of one group need only what earlier groups made."""
    return [[_pretraining(seed)], _vectors(seed), _sweeps(seed), _merges(), _evaluations()]


def training(seed: int, name: str) -> Stage:
    """The stage that trains the vector of a language's code, or of `files.TASK`."""
    flags = f" --name {name} " if name == files.TASK else f" --lang {name} "
    [found] = [stage for stage in _vectors(seed) if flags in str(stage)]
    return found


def commands_script(seed: int, groups: Sequence[Sequence[Stage]]) -> str:
    """What was run, as a shell script for the demo's folder."""
    lines = [f"{MARK}, seed {seed}: what it ran, in this folder, with these settings:", ""]
    lines += [f"export {name}={value}" for name, value in ENVIRONMENT.items()]
    for stage in (stage for group in groups for stage in group):
        lines += ["", f"# {stage.title}", str(stage)]
    return "\n".join(lines) + "\n"


def _pretraining(seed: int) -> Stage:
    texts = [files.text_file("pretraining", code) for code in files.PRETRAINED]
    return Stage(
        f"θ₀: pre-train on {len(texts)} languages, the targets not among them",
        _command(
            f"taxlt train language {files.UNTRAINED} --corpus {' '.join(texts)}",
            f"--output {files.BASE} --max-steps 2000 --batch-size 48 --block-size 32",
            "--mlm-probability 0.25 --learning-rate 3e-3 --warmup-steps 100 --eval-steps 500",
            f"--seed {seed}",
        ),
    )


def _vectors(seed: int) -> list[Stage]:
    task = Stage(
        f"task vector: {files.TASK}, labelled in {NAMES[SOURCE]} alone",
        _command(
            f"taxlt train task {files.BASE} --train {files.rows_file(SOURCE, 'train')}",
            f"--validation {files.rows_file(SOURCE, 'validation')} --columns text",
            f"--labels {','.join(world.LABELS)} --name {files.TASK} --max-steps 400 --batch-size 32",
            "--learning-rate 5e-4 --eval-steps 100 --metric-for-best-model loss --max-length 64",
            f"--seed {seed}",
        ),
    )
    languages = [
        Stage(
            f"language vector: {NAMES[code]}, from raw text",
            _command(
                f"taxlt train language {files.BASE} --corpus {files.text_file('text', code)} --lang {code}",
                "--max-steps 500 --batch-size 48 --block-size 32 --mlm-probability 0.25",
                f"--learning-rate 2e-3 --eval-steps 250 --seed {seed}",
            ),
        )
        for code in NAMES
    ]
    return [task, *languages]


def _sweeps(seed: int) -> list[Stage]:
    recipes = [files.recipe_file(variant, code) for variant in VARIANTS for code in TARGETS]
    control = [files.recipe_file("plus_tgt", code, control=True) for code in TARGETS]
    return [
        Stage(
            "λ of every variant, chosen on validation data, then tested once",
            _sweep(recipes, files.SWEEP, seed),
        ),
        Stage(
            "control: the same with the other target's vector",
            _sweep(control, files.CONTROL_SWEEP, seed),
        ),
    ]


def _sweep(recipes: Sequence[str], output: str, seed: int) -> tuple[str, ...]:
    return _command(
        f"taxlt sweep {' '.join(recipes)} --weight {WEIGHTS} --select-per language --test",
        f"--tasks {files.task('{language}', 'dev')} --test-tasks {files.task('{language}')}",
        f"--include_path {files.TASKS} --output {output} --seed {seed}",
    )


def _merges() -> list[Stage]:
    return [
        Stage(
            f"merge the chosen recipe of {NAMES[code]}",
            _command(f"mergekit-yaml {files.SWEEP}/best/{code}_plus_tgt.yml {files.MERGED}/{code}"),
        )
        for code in TARGETS
    ]


def _evaluations() -> list[Stage]:
    model = _lm_eval(files.vector("task", files.TASK), [SOURCE, *TARGETS], MODEL)
    merged = [
        Stage(f"score the merged model of {NAMES[code]}", _lm_eval(f"{files.MERGED}/{code}", [code], code))
        for code in TARGETS
    ]
    return [Stage("score MODEL on all languages", model), *merged]


def _lm_eval(model: str, codes: Sequence[str], name: str) -> tuple[str, ...]:
    return _command(
        f"lm_eval --model hf-seq-cls --model_args pretrained={model}",
        f"--tasks {','.join(map(files.task, codes))} --include_path {files.TASKS} --batch_size 32",
        f"--output_path {files.SCORES}/{name} --log_samples",
    )


def _command(*parts: str) -> tuple[str, ...]:
    return tuple(shlex.split(" ".join(parts)))
