"""`taxlt sweep --ray`: the same results, also when a worker is killed."""

import os
import signal
import subprocess

import pytest

from taxlt_mergekit.cells.choices import read_choices
from taxlt_mergekit.cells.unlabelled import read_unlabelled
from taxlt_mergekit.criteria.names import NAMES, OTHERS
from tests.helpers.sweeping import scores, started, sweep, wait_for_lines


def test_ray_gives_the_same_also_when_a_worker_is_killed(project):
    pytest.importorskip("ray", reason="needs Ray: pip install 'taxlt-mergekit[ray]'")
    recipes = ["recipes/mad_plus_tgt.yml", "recipes/sun_plus_tgt.yml", "recipes/mad_plus_src_plus_tgt.yml"]
    (project / "words.txt").write_text("".join(f"satu {i} dua tiga\n" for i in range(9)))
    arguments = [*recipes, "--weight", "0.05:1.0:0.05", "--batch-size", 8, "--text", "words.txt"]
    assert sweep(project, *arguments, "--output", "serial").code == 0
    process = started(project, *arguments, "--output", "ray", "--ray")
    wait_for_lines(project / "ray" / "cells.jsonl", 2)
    workers = [pid for pid, command in descendants(process.pid) if "taxlt sweep" in command]
    assert workers
    os.kill(workers[0], signal.SIGKILL)
    assert process.wait(timeout=240) == 0
    assert scores(project / "ray") == scores(project / "serial")
    predicted = [{line.key: line for line in read_unlabelled(project / name)} for name in ("ray", "serial")]
    assert len(predicted[0]) == 3 * 20 and predicted[0] == predicted[1]
    made = {(choice.recipe, choice.criterion) for choice in read_choices(project / "serial")}
    assert made == {(recipe, name) for recipe in recipes for name in NAMES} - {(recipes[2], OTHERS)}
    assert read_choices(project / "ray") == read_choices(project / "serial")


def descendants(ancestor: int) -> list[tuple[int, str]]:
    """Processes that a process started, directly or not, with their command lines."""
    lines = subprocess.check_output(["ps", "-eo", "pid=,ppid=,args="], text=True).splitlines()
    rows = [(int(pid), int(parent), args) for pid, parent, args in (line.split(None, 2) for line in lines)]
    found, result = {ancestor}, []
    for pid, parent, args in sorted(rows):
        if parent in found:
            found.add(pid)
            result.append((pid, args))
    return result
