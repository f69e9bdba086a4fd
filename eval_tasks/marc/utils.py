"""The class of these tasks: taxlt-mergekit's where it is installed, lm-eval's own elsewhere."""

try:
    import taxlt_mergekit
    from taxlt_mergekit.evaluate.task import BenchmarkTask as Base

    taxlt_mergekit.register()  # where TAXLT_NO_AUTOLOAD keeps it from doing so by itself
except ImportError:
    from lm_eval.api.task import ConfigurableTask as Base


class Task(Base):
    def __init__(self, config):
        # lm-eval leaves this key in the configuration, where its own class does not take it.
        super().__init__(config={key: value for key, value in config.items() if key != "class"})
