"""Checks this project against checkouts of lm-eval and mergekit: the patches, and our evaluation on theirs.

    python contrib/check_upstream.py --lm-eval DIR --mergekit DIR

The checkouts are not changed: patches go into clones in a temporary folder. Commands run with this
interpreter and the clone on PYTHONPATH before what is installed; data and models are made up, so that nothing
is downloaded. mergekit pins pydantic; where the installed one is another, put that one on PYTHONPATH. Prints
a line for each check and exits with 1 if one failed. A formatter that is not installed is said, and no
failure.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import click

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
CONTRIB = ROOT / "contrib"
GROUPS = ("americas_nli", "nusax_senti", "nusax_senti_all", "xnli_xlt", "xnli_xlt_all")
CHANGED = (
    ".github/outputs/tasks_all_changed_and_modified_files.txt"  # where lm-eval's tests look for new tasks
)
# One line a check: what, whether it held (None: could not be tried), and what was printed.
Check = tuple[str, bool | None, str]


@click.command()
@click.option("--lm-eval", "lm_eval", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--mergekit", type=click.Path(exists=True, file_okay=False, path_type=Path))
def main(lm_eval: Path | None, mergekit: Path | None) -> None:
    """Check the patches, and our evaluation, against checkouts of the hosts."""
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        for checkout, checks in ((lm_eval, check_lm_eval), (mergekit, check_mergekit)):
            if checkout is None:
                continue
            commit = _run("git", "-C", checkout, "log", "-1", "--format=%H of %cs").stdout.strip()
            print(f"{checkout.name} at {commit}")
            for what, held, said in checks(checkout, Path(folder)):
                mark = {True: "ok", False: "FAILED", None: "not tried"}[held]
                print(f"  {mark:9} {what}: {said}", flush=True)
                failed += held is False
    raise SystemExit(bool(failed))


def check_lm_eval(checkout: Path, folder: Path) -> Iterator[Check]:
    """The exported tasks in a clone, by lm-eval's own checks; then our evaluation under the checkout."""
    clone = folder / "lm-eval"
    yield _applies(checkout, clone, "lm-eval-tasks.patch")
    new = [
        str(path.relative_to(clone))
        for group in GROUPS
        for path in (clone / "lm_eval/tasks" / group).glob("*")
    ]
    python = [path for path in new if path.endswith(".py")]
    yield _check("ruff check, its configuration", "ruff", "check", *python, cwd=clone)
    yield _check("ruff format", "ruff", "format", "--check", *python, cwd=clone)
    off = {"TAXLT_NO_AUTOLOAD": "1"}
    yield _check(
        "lm_eval validate",
        "-m",
        "lm_eval",
        "validate",
        "--tasks",
        ",".join(GROUPS),
        cwd=clone,
        path=clone,
        **off,
    )
    (clone / CHANGED).parent.mkdir(parents=True, exist_ok=True)
    # Without the groups' files: given a group and its members, these tests stop at "Duplicate task".
    tasks = [path for path in new if path.endswith(".yaml") and "/_" not in path]
    (clone / CHANGED).write_text("\n".join(tasks))
    data, plugin = _made_up_data(folder / "data"), folder / "plugin"
    plugin.mkdir()
    (plugin / "made_up_data.py").write_text(
        f"import sys\nfrom pathlib import Path\nsys.path.append({str(ROOT / 'tests/helpers')!r})\n"
        f"import plain_lm_eval\nplain_lm_eval.read_files_in_place_of_the_hub(Path({str(data)!r}))\n"
    )
    tests = ["-m", "pytest", "-q", "-p", "made_up_data", "tests/test_tasks.py", "-k", "TestNewTasks"]
    yield _check(
        "its unit tests of new tasks, made-up rows", *tests, cwd=clone, path=f"{plugin}:{clone}", **off
    )
    yield from _same_scores(checkout, data, folder)


def _same_scores(checkout: Path, data: Path, folder: Path) -> Iterator[Check]:
    """hf-seq-cls on our tasks, with the installed lm-eval and with the checkout's."""
    from tests.helpers.evaluation import NLI_LABELS, SENTIMENT_LABELS, make_classifier, results

    for group, labels in (("americas_nli", NLI_LABELS), ("nusax_senti", SENTIMENT_LABELS)):
        model = make_classifier(folder / group, labels)
        command = [
            "-m",
            "lm_eval",
            "--model",
            "hf-seq-cls",
            "--model_args",
            f"pretrained={model}",
            "--device",
            "cpu",
        ]
        command += ["--tasks", group, "--batch_size", "16", "--output_path"]
        scores = []
        for name, path in (("installed", None), ("checkout", checkout)):
            done = _run(sys.executable, *command, folder / group / name, path=path, TAXLT_DATA=str(data))
            complaints = [
                line
                for line in done.stderr.splitlines()
                if line.startswith("taxlt-mergekit:") or ("WARNING" in line and "taxlt" in line)
            ]
            if done.returncode or complaints:
                yield f"{group} with the {name} lm-eval", False, "; ".join(complaints) or _last(done)
                return
            found = results(folder / group / name)
            scores.append(
                {
                    (task, metric): value
                    for task, values in found["results"].items()
                    for metric, value in values.items()
                    # How errors of groups are pooled is lm-eval's own matter and differs between versions.
                    if "," in metric and not (task in found["groups"] and "_stderr" in metric)
                }
            )
        same = scores[0] == scores[1]
        yield (
            f"{group}: scores as under the installed lm-eval",
            same,
            f"{len(scores[0])} figures, no complaint",
        )


def check_mergekit(checkout: Path, folder: Path) -> Iterator[Check]:
    """The examples and definitions in a clone, by mergekit's own checks."""
    clone = folder / "mergekit"
    yield _applies(checkout, clone, "mergekit-examples.patch", "mergekit-encoder-architectures.patch")
    new = clone / "tests/test_encoder_architectures.py"
    for tool in ("black", "isort"):
        if shutil.which(tool, path=_tools()):
            yield _check(tool, tool, "--check", new, cwd=clone)
        else:
            yield tool, None, "not installed"
    files = [new, "tests/test_architecture_conversion.py", "tests/test_basic_merges.py"]
    tests = ["-m", "pytest", "-q", "-p", "no:cacheprovider", *files]
    yield _check("tests of architectures and merges", *tests, cwd=clone, path=clone, TAXLT_NO_AUTOLOAD="1")


def _applies(checkout: Path, clone: Path, *patches: str) -> Check:
    """git apply --check on the checkout; then the patches in a clone of it."""
    files = [CONTRIB / patch for patch in patches]
    done = _run("git", "-C", checkout, "apply", "--check", *files)
    if done.returncode == 0:
        _run("git", "clone", "--quiet", "--shared", checkout, clone)
        done = _run("git", "-C", clone, "apply", *files)
    return f"git apply {' '.join(patches)}", done.returncode == 0, _last(done) or "applies"


def _made_up_data(root: Path) -> Path:
    """Rows of every task, as many as lm-eval's tests look at, in the layout of TAXLT_DATA."""
    from taxlt_mergekit.paper import catalog
    from tests.helpers.evaluation import random_rows, write_rows

    for name, benchmark in catalog.load().benchmarks.items():
        for code in benchmark.tasks:
            for split in ("validation", "test"):
                write_rows(root, name, code, split, random_rows(name, 12, f"{name} {code} {split}"))
            if name == "nusax":
                (root / "nusax" / code).symlink_to(benchmark.fill("{folder}", code))
    return root


def _check(what: str, program: object, *arguments: object, **options: object) -> Check:
    command = [sys.executable, program, *arguments] if str(program).startswith("-") else [program, *arguments]
    done = _run(*command, **options)
    return what, done.returncode == 0, _last(done)


def _run(
    *command: object, cwd: Path | None = None, path: object = None, **environment: str
) -> subprocess.CompletedProcess:
    paths = [str(path)] if path else []
    paths = [os.environ["PYTHONPATH"], *paths] if os.environ.get("PYTHONPATH") else paths
    settings = {"HF_HUB_OFFLINE": "1", "PATH": _tools(), "PYTHONPATH": os.pathsep.join(paths)}
    return subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=os.environ | settings | environment,
        capture_output=True,
        text=True,
    )


def _tools() -> str:
    return os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])


def _last(done: subprocess.CompletedProcess) -> str:
    lines = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    return lines[-1].strip() if lines else ""


if __name__ == "__main__":
    main()
