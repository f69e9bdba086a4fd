"""Hooks this package into its two hosts without importing them. Standard library only.

Neither mergekit 0.1.5 nor lm-eval 0.4.13 looks for plugins. So an installed ``.pth`` file (and, from
Python 3.15 on, the ``.start`` file of the same name, PEP 829) calls `install`, which adds one import
finder. The finder lets every module load as it would, and after one of `HOSTS` has run, calls the function
of `taxlt_mergekit.plugin` that completes it. A process that never imports a host pays for one failed
dictionary look-up an import.
"""

import gc
import os
import sys

# Host module -> function in taxlt_mergekit.plugin that is called with that module once it has run.
HOSTS = {
    "mergekit.merge_methods.registry": "add_merge_methods",
    "mergekit.merge": "wrap_run_merge",
    "mergekit.plan": "wrap_planner",
    "mergekit.scripts.run_yaml": "complete_command",
    "lm_eval.models": "add_models",
    "lm_eval.tasks.manager": "add_tasks",
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
        with ImportsStay():
            self._loader.exec_module(module)
        _complete(module)


class ImportsStay:
    """No garbage collection meanwhile: what an import makes stays, and looking through it takes a second.

    Collections afterwards find it among the old objects, which they seldom go through.
    """

    def __enter__(self):
        self._collects = gc.isenabled()
        gc.disable()

    def __exit__(self, *_):
        if not self._collects:
            return
        if not gc.get_freeze_count():  # what somebody else froze stays so
            gc.freeze()
            gc.unfreeze()
        gc.enable()


def _complete(module):
    try:
        from taxlt_mergekit import plugin

        getattr(plugin, HOSTS[module.__name__])(module)
    except Exception as error:  # a host must stay usable whatever happens to its plugin
        print(f"taxlt-mergekit: could not extend {module.__name__}: {error!r}", file=sys.stderr)


def is_installed():
    """Whether hosts that are imported from now on are completed."""
    return any(type(finder).__name__ == _HostFinder.__name__ for finder in sys.meta_path)


def _add_finder():
    """Add the finder once; False where it was there already."""
    if is_installed():
        return False
    sys.meta_path.insert(0, _HostFinder())
    return True


def install():
    """The automatic road, called at interpreter start; ``TAXLT_NO_AUTOLOAD=1`` turns it off."""
    if os.environ.get("TAXLT_NO_AUTOLOAD", "0") in ("", "0"):
        _add_finder()


def register_now():
    """The explicit road: as `install`, and completes the hosts that are imported already."""
    if _add_finder():
        for name in HOSTS:
            if name in sys.modules:
                _complete(sys.modules[name])
