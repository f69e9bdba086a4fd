"""The class of these tasks: taxlt-mergekit's where it is installed, lm-eval's own elsewhere."""

try:
    from taxlt_mergekit.benchmark_task import BenchmarkTask as Base
except ImportError:
    from lm_eval.api.task import ConfigurableTask as Base


class Task(Base):
    def __init__(self, config):
        # lm-eval leaves this key in the configuration, where its own class does not take it.
        super().__init__(config={key: value for key, value in config.items() if key != "class"})
