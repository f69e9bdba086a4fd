"""Where lm-eval's entry-point group `lm_eval.tasks` finds our task files.

An entry point names a package, and lm-eval scans the package's folder. eval_tasks/ lies inside this package
in a wheel and beside it in a checkout; as a submodule of this module, which
`taxlt_mergekit.hosts.folders.eval_tasks` is, it is found in both.
"""

from taxlt_mergekit.paper.tasks import task_folder

__path__ = [str(task_folder().parent)]
