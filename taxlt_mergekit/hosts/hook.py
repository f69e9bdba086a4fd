"""Hooks this package into its two hosts without importing them. Standard library only.

Neither mergekit 0.1.5 nor lm-eval 0.4.13 looks for plugins. So an installed ``.pth`` file (and, from
Python 3.15 on, the ``.start`` file of the same name, PEP 829) calls `install`, which adds one import
finder. The finder lets every module load as it would, and after one of `HOSTS` has run, calls the function
that completes it. A process that never imports a host pays for one failed dictionary look-up an import.
A host that reads our entry points has the same by then, and is left as it is.
"""

import os
import sys

# Host module -> our function that is called with that module once it has run. Every change to a host is one
# of these functions; docs/plugging-in.md lists them.
HOSTS = {
    "mergekit.merge_methods.registry": "taxlt_mergekit.hosts.mergekit:add_merge_methods",
    "mergekit.merge": "taxlt_mergekit.hosts.mergekit:complete_run_merge",
    "mergekit.evo.actors": "taxlt_mergekit.hosts.mergekit:refuse_merges_in_memory",
    "mergekit.scripts.run_yaml": "taxlt_mergekit.hosts.mergekit:complete_command",
    "lm_eval.models": "taxlt_mergekit.hosts.lm_eval:add_model",
    "lm_eval.tasks.manager": "taxlt_mergekit.hosts.lm_eval:add_task_folder",
    "lm_eval.api.task": "taxlt_mergekit.hosts.lm_eval:name_the_task_of_requests",
    "lm_eval._cli.harness": "taxlt_mergekit.hosts.lm_eval:end_in_one_line",
}


class _HostFinder:
    """Finds the modules of `HOSTS` through the other finders and lets their loaders call us back."""

    def find_spec(self, name, path=None, target=None):
        if name not in HOSTS:
            return None
        for finder in sys.meta_path:
            if finder is self or not hasattr(finder, "find_spec"):
                continue
            spec = finder.find_spec(name, path, target)
            if spec is not None:
                if hasattr(spec.loader, "exec_module"):
                    spec.loader = _CallbackLoader(spec.loader)  # type: ignore[assignment]
                return spec
        return None


class _CallbackLoader:
    """A module's own loader, plus one call after the module has run."""

    def __init__(self, loader):
        self._loader = loader

    def __getattr__(self, name):
        return getattr(self._loader, name)

    def create_module(self, spec):
        return self._loader.create_module(spec)

    def exec_module(self, module):
        # The module keeps its own loader, so that nothing after this sees ours.
        module.__loader__ = module.__spec__.loader = self._loader
        _run(self._loader.exec_module, module)
        _complete(module)


def _run(exec_module, module):
    """Run a module; the imports of a process of ours, `mergekit-yaml` with a recipe of ours, cost less."""
    if module.__name__ == "mergekit.scripts.run_yaml":
        from taxlt_mergekit import process

        if process.is_merge_of_ours(sys.argv[1:]):
            with process.imports_stay():
                return exec_module(module)
    return exec_module(module)


def _complete(module):
    from importlib import import_module  # not at every interpreter start

    try:
        ours, _, function = HOSTS[module.__name__].partition(":")
        getattr(import_module(ours), function)(module)
    except Exception as error:  # a host must stay usable whatever happens to its plugin
        print(f"taxlt-mergekit: could not extend {module.__name__}: {error!r}", file=sys.stderr)


def install():
    """The automatic road, called at interpreter start; ``TAXLT_NO_AUTOLOAD=1`` turns it off."""
    if os.environ.get("TAXLT_NO_AUTOLOAD", "0") in ("", "0"):
        register_now()


def register_now():
    """The explicit road: completes the hosts that are imported already, and those that will be, once."""
    if any(type(finder).__name__ == _HostFinder.__name__ for finder in sys.meta_path):
        return
    present = [sys.modules[name] for name in HOSTS if name in sys.modules]
    sys.meta_path.insert(0, _HostFinder())
    for module in present:
        _complete(module)
