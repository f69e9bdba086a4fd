"""A sweep spread over a Ray cluster: a recipe goes to a worker, its cells come back one by one.

Cells are written by the command alone, so the results file is the same as without Ray. A worker that is lost
takes no finished cell with it: its recipe goes to another worker, which is told what is done.
"""

import os
from collections.abc import Iterable, Iterator
from typing import Any

from taxlt_mergekit.errors import UserError, first_line, one_line, translated
from taxlt_mergekit.sweep.jobs import Job
from taxlt_mergekit.sweep.run import Kept, Run, run_jobs

# Losses of one recipe's worker in a row, without a cell in between, after which it is given up.
ATTEMPTS = 3

# Prefixes of what workers need of the command's environment, beside its working folder.
_ENVIRONMENT = ("TAXLT_DATA", "HF_")


def run_jobs_on_ray(
    jobs: Iterable[Job], run: Run, done: dict[str, Kept], address: str
) -> Iterator[tuple[Kept, bool]]:
    """As `run.run_jobs`, on the workers of a Ray cluster; cells come in the order they are ready.

    A worker takes one CPU, and one GPU where the cluster has any.

    Args:
        address: of a running cluster; `auto` joins the one that Ray finds, or starts Ray on this machine.

    Raises:
        UserError: Ray is not installed or not there, what `run_jobs` raises, or a recipe lost its worker
            `ATTEMPTS` times; the other recipes are then finished first.
    """
    ray = _join(address)
    gpus = int(ray.cluster_resources().get("GPU", 0) > 0)
    if gpus and run.device and ":" in run.device:
        raise UserError(f"--device {run.device}: with --ray, Ray says which GPU a worker has; leave it out")
    remote = ray.remote(_cells).options(
        num_cpus=1, num_gpus=gpus, num_returns="streaming", max_retries=0, name="taxlt sweep"
    )

    waiting: dict[Any, str] = {}  # a worker's stream of cells → its recipe
    by_recipe: dict[str, list[Job]] = {}
    for job in jobs:
        by_recipe.setdefault(job.recipe.path, []).append(job)
    given: set[tuple[str, str, str]] = set()  # what came back before a loss comes again after it
    losses = dict.fromkeys(by_recipe, 0)
    gone: dict[str, str] = {}

    def submit(path: str) -> None:
        tasks = {task for job in by_recipe[path] for task in job.tasks}
        tasks |= {job.text.name for job in by_recipe[path] if job.text}
        known = {key: cell for key, cell in done.items() if cell.task in tasks}
        waiting[remote.remote(by_recipe[path], run, known, os.getcwd())] = path

    for path in by_recipe:
        submit(path)
    while waiting:
        (stream,), _ = ray.wait(list(waiting), num_returns=1)
        path = waiting[stream]
        try:
            cell, is_new = ray.get(next(stream))
        except StopIteration:
            del waiting[stream]
        except ray.exceptions.RayTaskError as error:
            for other in waiting:
                ray.cancel(other, force=True)
            cause = error.cause
            if isinstance(cause, UserError):
                raise UserError(cause.message) from None
            raise UserError(f"{path}: a Ray worker failed: {one_line(cause)}") from error
        except ray.exceptions.RayError as error:  # the worker or its node was lost
            del waiting[stream]
            losses[path] += 1
            if losses[path] < ATTEMPTS:
                submit(path)
            else:
                gone[path] = first_line(error)
        else:
            losses[path] = 0
            if cell.status == "ok":
                done[cell.key] = cell
            if (path, cell.key, cell.status) not in given:
                given.add((path, cell.key, cell.status))
                yield cell, is_new
    if gone:
        path, reason = next(iter(gone.items()))
        raise UserError(
            f"{path}: its Ray worker was lost {ATTEMPTS} times in a row ({reason}); the same command runs "
            f"what is missing of it{f' and of {len(gone) - 1} other recipes' if len(gone) > 1 else ''}"
        )


def _join(address: str) -> Any:
    try:
        import ray
    except ImportError:
        raise UserError("--ray needs Ray: pip install 'taxlt-mergekit[ray]'") from None
    if ray.is_initialized():  # by the validation part of the same sweep
        return ray
    variables = {name: value for name, value in os.environ.items() if name.startswith(_ENVIRONMENT)}
    options: dict[str, Any] = {
        "runtime_env": {"env_vars": variables},
        "log_to_driver": False,
        "logging_level": "ERROR",
    }
    try:
        ray.init(address=address, **options)
    except (ConnectionError, ValueError) as error:
        if address != "auto":
            raise UserError(
                f"--ray {address}: no Ray cluster can be joined there ({one_line(error)})"
            ) from None
        with translated("--ray: Ray cannot be started on this machine"):
            ray.init(include_dashboard=False, **options)
    return ray


def _cells(jobs: list[Job], run: Run, done: dict[str, Kept], folder: str) -> Iterator[tuple[Kept, bool]]:
    """What a worker runs."""
    try:
        os.chdir(folder)
    except OSError as error:
        raise UserError(
            f"{folder}: {error.strerror} on node {os.uname().nodename}; the nodes of a cluster must share "
            "the folder that the sweep runs in"
        ) from None
    yield from run_jobs(jobs, run, done)
