"""The class of the tasks in eval_tasks/: lm-eval's own task with rows from `paper.rows`.

lm-eval's YAML can't say two things that these tasks need: that rows come from `TAXLT_DATA` where it is set,
and that labels are matched by name.
"""

import logging
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

from lm_eval.api.task import ConfigurableTask

from taxlt_mergekit.errors import UserError
from taxlt_mergekit.paper import catalog
from taxlt_mergekit.paper.rows import benchmark_rows

# A child of lm-eval's own logger, so that its settings and its level hold.
LOG = logging.getLogger("lm_eval.tasks.taxlt")


class BenchmarkTask(ConfigurableTask):
    """One language of one of the paper's benchmarks; `metadata` in its YAML says which.

    Attributes:
        replaced: names of ours that lm-eval has tasks or groups for too → their files; `hosts` fills it in.
    """

    replaced: ClassVar[Mapping[str, Path | None]] = {}

    def download(self, dataset_kwargs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        """Fetch the evaluated split and, where it is there, the one that few-shot examples come from."""
        benchmark, language = self.config.metadata["benchmark"], self.config.metadata["language"]
        _tell_which_runs(catalog.load().benchmarks[benchmark].group)
        evaluated, examples = self.config.test_split, self.config.fewshot_split
        self.dataset = {evaluated: benchmark_rows(benchmark, language, evaluated)}
        self._no_examples: UserError | None = None
        if examples not in self.dataset:
            try:
                self.dataset[examples] = benchmark_rows(benchmark, language, examples)
            except UserError as error:  # matters to few-shot runs only
                self._no_examples = error

    def fewshot_docs(self) -> Any:
        return None if self._no_examples else super().fewshot_docs()

    def build_all_requests(self, **kwargs: Any) -> None:
        if self._no_examples and self.config.num_fewshot:
            raise self._no_examples
        super().build_all_requests(**kwargs)


@cache  # once a process
def _tell_which_runs(group: str) -> None:
    """Two tasks of one name are no accident that a user should have to find in the numbers."""
    both = {
        name: file
        for name, file in BenchmarkTask.replaced.items()
        if name == group or name.startswith(f"{group}_")
    }
    if not both:
        return
    names = ", ".join(sorted(both)[:3]) + (f" and {len(both) - 3} more" if len(both) > 3 else "")
    folder = next((file.parent for file in both.values() if file), "the folder of the others")
    LOG.warning(
        "%s: %s has tasks of these names too; taxlt-mergekit's run. To run the others: --include_path %s",
        names,
        folder,
        folder,
    )
