"""lm-eval 0.4.13, and versions that read entry points: one model, one set of tasks, and no complaint."""

import json
from pathlib import Path
from typing import Any

import pytest
from lm_eval.tasks._index import TaskIndex

from taxlt_mergekit.hosts.lm_eval import index_with
from taxlt_mergekit.paper.tasks import task_folder
from tests.helpers.doors import installed
from tests.helpers.evaluation import random_rows, write_rows
from tests.helpers.hosts import Outcome, console

ROOT = Path(__file__).parents[2]
PACKAGE = "taxlt_mergekit.hosts.folders.eval_tasks"
MODEL = {"hf_seq_cls": "taxlt_mergekit.evaluate.classifier:SequenceClassifierLM"}
START = "from importlib.metadata import entry_points\nfrom tests.helpers.doors import after\n"
# Pull request 4013: at the end of lm_eval.models, or when a name is first looked up.
AT_IMPORT = """
def read_entry_points(_module):
    from lm_eval.api.registry import model_registry
    for point in {point.name: point for point in entry_points(group="lm_eval.models")}.values():
        model_registry.register(point.name, target=point)
after("lm_eval.models", read_entry_points)
"""
AT_LOOK_UP = """
def read_entry_points(registry):
    def load_plugins(group, components):
        for point in entry_points(group=group):
            assert point.name not in components or components._objs[point.name] == point, "registered twice"
            components._objs[point.name] = point
    registry.load_plugins = load_plugins
after("lm_eval.api.registry", read_entry_points)
"""
LOOK_UP = """
import lm_eval.models
from lm_eval.api import registry
if hasattr(registry, "load_plugins"):
    registry.load_plugins("lm_eval.models", registry.model_registry)
known = dict(registry.model_registry.items())
print("FOUND", getattr(known.get("hf-seq-cls"), "value", known.get("hf-seq-cls")), "hf" in known)
"""


def run(script: str, *arguments: object, path: Path | None = None, **env: str) -> Outcome:
    return console(
        *["python", "-c", START + script, *arguments],
        cwd=ROOT,
        **env | ({"PYTHONPATH": str(path)} if path else {}),
    )


@pytest.mark.parametrize("door", ["", AT_IMPORT, AT_LOOK_UP], ids=["0.4.13", "at import", "at look-up"])
@pytest.mark.parametrize("off", ["0", "1"])
def test_the_model_is_there_once_whoever_came_first(tmp_path, door, off):
    path = installed(tmp_path, "lm_eval.models", **MODEL) if door else None
    done = run(door + LOOK_UP, path=path, TAXLT_NO_AUTOLOAD=off)
    assert done.stderr == ""
    nobody = off == "1" and not door
    assert done.stdout.strip() == f"FOUND {None if nobody else MODEL['hf_seq_cls']} True"


# Pull request 4015: folders of the group's packages, after the built-in one and before --include_path.
TASKS_DOOR = """
import sys
from importlib.util import find_spec
from pathlib import Path
import lm_eval.tasks.manager as manager
manager.__file__ = sys.argv.pop(1)  # a small host, whose tasks are beside this path
stock = manager.TaskManager.__init__
def init(self, verbosity=None, include_path=None, include_defaults=True, metadata=None):
    folders = []
    for point in entry_points(group="lm_eval.tasks"):
        (folder,) = find_spec(point.value).submodule_search_locations
        folders.append(Path(folder).resolve())
    more = include_path if isinstance(include_path, list) else [include_path] if include_path else []
    stock(self, None, [*dict.fromkeys(folders), *more] or None, include_defaults, metadata)
if sys.argv.pop(1) == "with a door":
    manager.TaskManager.__init__ = init
"""
# What `lm_eval --tasks T,T --include_path DIR` loads, and from which files.
LOAD = """
import json
from lm_eval.utils import setup_logging
setup_logging("INFO")
names, *more = sys.argv[1:]
tasks = manager.TaskManager(include_path=more or None).load(names.split(","))["tasks"]
print(json.dumps({name: task.config.metadata["config_source"] for name, task in tasks.items()}))
"""
RUN = """
from lm_eval.__main__ import cli_evaluate
sys.argv[0] = "lm_eval"
cli_evaluate()
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """A few test rows of AmericasNLI, as TAXLT_DATA."""
    root = tmp_path_factory.mktemp("data")
    for code in ("quy", "gn"):
        write_rows(root, "americas_nli", code, "test", random_rows("americas_nli", 4, code))
    return root


@pytest.fixture
def host(tmp_path) -> Path:
    """The tasks folder of an lm-eval that has one of its own besides: `other`, on two rows."""
    folder = tmp_path / "host"
    write_task(folder, "other")
    return folder


def write_task(folder: Path, name: str, group: str = "") -> None:
    (folder / "data").mkdir(parents=True, exist_ok=True)
    rows = [{"text": f"{name} {number}", "label": number} for number in range(2)]
    file = folder / "data" / f"{name}.json"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    task = {
        "task": name,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(file)}},
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "{{text}}",
        "doc_to_choice": ["no", "yes"],
        "doc_to_target": "label",
    }
    (folder / f"{name}.yaml").write_text(json.dumps(task))
    if group:
        mean = {"metric": "acc", "aggregation": "mean"}
        entry = {"group": group, "task": [name], "aggregate_metric_list": [mean]}
        (folder / f"{group}.yaml").write_text(json.dumps(entry))


def later(host: Path, door: str, script: str, *arguments: object, path: Path, **env: str) -> Outcome:
    env = {"HF_DATASETS_CACHE": str(host.parent / "cache")} | env
    done = run(TASKS_DOOR + script, host / "manager.py", door, *arguments, path=path, **env)
    assert done.code == 0, done.stderr
    assert "could not extend" not in done.stderr
    return done


@pytest.mark.parametrize("door", ["without a door", "with a door"])
def test_our_tasks_are_there_once_and_of_two_of_a_name_the_user_is_told_which_runs(
    host, data, tmp_path, door
):
    path = installed(tmp_path / "site", "lm_eval.tasks", taxlt=PACKAGE)
    done = later(host, door, LOAD, "americas_nli_quy,other", path=path, TAXLT_DATA=str(data))
    ours = str(task_folder() / "americas_nli" / "americas_nli_quy.yaml")
    assert json.loads(done.stdout) == {"americas_nli_quy": ours, "other": str(host / "other.yaml")}
    assert "WARNING" not in done.stderr

    theirs = host / "theirs"
    write_task(theirs, "americas_nli_quy", group="americas_nli")
    done = later(host, door, LOAD, "other", path=path)
    assert "WARNING" not in done.stderr
    done = later(host, door, LOAD, "americas_nli_quy,americas_nli_gn", path=path, TAXLT_DATA=str(data))
    assert json.loads(done.stdout)["americas_nli_quy"] == ours
    (said,) = (line for line in done.stderr.splitlines() if "WARNING" in line)
    assert (
        f"americas_nli, americas_nli_quy: {theirs} has tasks of these names too; taxlt-mergekit's run. "
        f"To run the others: --include_path {theirs}" in said
    )
    done = later(host, door, LOAD, "americas_nli", theirs, path=path)  # needs no data of ours
    assert json.loads(done.stdout) == {"americas_nli_quy": str(theirs / "americas_nli_quy.yaml")}
    assert "taxlt-mergekit" not in done.stderr


def test_the_command_runs_the_one_that_was_chosen(host, tmp_path):
    theirs = host / "theirs"
    write_task(theirs, "americas_nli_quy", group="americas_nli")
    path = installed(tmp_path / "site", "lm_eval.tasks", taxlt=PACKAGE)
    arguments = ["--model", "dummy", "--tasks", "americas_nli", "--output_path", tmp_path / "out"]
    done = later(host, "without a door", RUN, *arguments, "--include_path", theirs, path=path)
    assert "taxlt-mergekit" not in done.stderr
    (file,) = (tmp_path / "out").glob("**/results_*.json")
    assert json.loads(file.read_text())["n-samples"]["americas_nli_quy"]["original"] == 2


def entries(folder: Path, **names: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, tag in names.items():
        (folder / f"{name}.yaml").write_text(json.dumps({"task": name} | ({"tag": tag} if tag else {})))
    return folder


def test_the_last_folder_with_a_name_has_it(tmp_path):
    built_in = entries(tmp_path / "lm_eval" / "tasks", a="", b="", tagged="c")
    ours = entries(tmp_path / "ours", a="", b="", c="")
    user = entries(tmp_path / "user", b="")

    def winners(*paths: Path) -> dict[str, str]:
        index: dict[str, Any] = index_with(ours, paths, built_in, TaskIndex.build)
        return {name: Path(entry.yaml_path or "tag").parent.name for name, entry in index.items()}

    rest = {"tagged": "tasks"}
    assert winners(built_in) == {"a": "ours", "b": "ours", "c": "ours"} | rest
    assert winners(built_in, user) == {"a": "ours", "b": "user", "c": "ours"} | rest
    assert winners(built_in, ours, user) == {"a": "ours", "b": "user", "c": "ours"} | rest
    assert winners(built_in, user, ours) == {"a": "ours", "b": "ours", "c": "ours"} | rest
    assert winners(built_in, built_in / ".." / "tasks") == {"a": "tasks", "b": "tasks", "c": ""} | rest
    assert winners(user) == {"b": "user"}
    assert winners(ours) == {"a": "ours", "b": "ours", "c": "ours"}
