"""Every change to lm-eval, each a function that gets a module of it (`hook.HOSTS`) and changes it.

Where lm-eval reads our entry points itself (its pull requests 4013 to 4015), model and task folder are there
already, and stay as it put them.
"""

import functools
from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

MODEL, CLASSIFIER = "hf-seq-cls", "taxlt_mergekit.evaluate.classifier:SequenceClassifierLM"


def add_model(_models: Any) -> None:
    """lm_eval.models: the model `hf-seq-cls`, imported by lm-eval when it is asked for."""
    import lm_eval.api.registry as registry

    # An lm-eval that reads entry points does so here, or when a name is first looked up.
    found_later = hasattr(registry, "load_plugins") and entry_points(group="lm_eval.models", name=MODEL)
    if MODEL not in registry.model_registry and not found_later:
        registry.model_registry.register(MODEL, target=CLASSIFIER)


def add_task_folder(manager: Any) -> None:
    """lm_eval.tasks.manager: our task folder, after the built-in ones and before the user's."""
    stock = manager.TaskIndex.build

    @functools.wraps(stock)
    def build(paths: Iterable[Path], **options: Any) -> dict[str, Any]:
        from taxlt_mergekit.paper.tasks import task_folder

        built_in = Path(str(manager.__file__)).parent
        return index_with(task_folder(), paths, built_in, functools.partial(stock, **options))

    manager.TaskIndex.build = staticmethod(build)


def index_with(
    ours: Path, paths: Iterable[Path], built_in: Path, build: Callable[[Sequence[Path]], dict[str, Any]]
) -> dict[str, Any]:
    """lm-eval's index of task names, with our folder where the paths have it, else after the built-in tasks.

    Args:
        paths: folders of tasks; of one name the last one's counts.
        built_in: lm-eval's own folder. Without it, nobody asked for more than `paths`.
        build: lm-eval's function from paths to an index. It warns of each name that a folder replaces, which
            is why our folder does not go through it with the others.
    """
    folders = [Path(path) for path in paths]
    given = [number for number, path in enumerate(folders) if path.resolve() == ours.resolve()]
    others = [path for path in folders if path.resolve() != ours.resolve()]
    index = build(others)
    if not given and built_in not in folders:
        return index
    later = folders[(given[0] if given else folders.index(built_in)) + 1 :]
    files = {name: _file_of(entry, index) for name, entry in index.items()}
    new = {name: entry for name, entry in build([ours]).items() if not _is_below(files.get(name), later)}
    if replaced := {name: files[name] for name in new if name in index}:
        from taxlt_mergekit.evaluate.task import BenchmarkTask

        BenchmarkTask.replaced = replaced
    return index | new


def _file_of(entry: Any, index: dict[str, Any]) -> Path | None:
    """An entry's YAML file; a tag has none, so that of a task with the tag."""
    if entry.yaml_path is not None:
        return Path(entry.yaml_path)
    return next((index[name].yaml_path for name in sorted(entry.tags) if name in index), None)


def _is_below(file: Path | None, folders: Sequence[Path]) -> bool:
    return file is not None and any(folder.resolve() in file.resolve().parents for folder in folders)


def name_the_task_of_requests(api: Any) -> None:
    """lm_eval.api.task: each request knows its task, whose labels a classification head needs."""
    stock = api.Task.build_all_requests

    @functools.wraps(stock)
    def build_all_requests(self: Any, **options: Any) -> None:
        stock(self, **options)
        for request in self.instances:
            request.task = self

    api.Task.build_all_requests = build_all_requests


def end_in_one_line(harness: Any) -> None:
    """lm_eval._cli.harness: a mistake that we name ends `lm_eval` in one line, not in a traceback."""
    stock = harness.HarnessCLI.execute

    @functools.wraps(stock)
    def execute(self: Any, args: Any) -> None:
        from taxlt_mergekit.errors import UserError

        try:
            stock(self, args)
        except UserError as error:
            error.show()
            raise SystemExit(error.exit_code) from error

    harness.HarnessCLI.execute = execute
