"""The class of the tasks in eval_tasks/: lm-eval's own task with rows from `paper.rows`.

lm-eval's YAML can't say two things that these tasks need: that rows come from `TAXLT_DATA` where it is set,
and that labels are matched by name.
"""

from typing import Any

from lm_eval.api.task import ConfigurableTask

from taxlt_mergekit.errors import UserError
from taxlt_mergekit.paper.rows import benchmark_rows


class BenchmarkTask(ConfigurableTask):
    """One language of one of the paper's benchmarks; `metadata` in its YAML says which."""

    def download(self, dataset_kwargs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        """Fetch the evaluated split and, where it is there, the one that few-shot examples come from."""
        benchmark, language = self.config.metadata["benchmark"], self.config.metadata["language"]
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
