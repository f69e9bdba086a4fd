"""Versions, the hook at interpreter start, and devices, as an issue report needs them."""

import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from packaging.requirements import Requirement

import taxlt_mergekit

DISTRIBUTION = "taxlt-mergekit"
# Asked of a fresh interpreter, since `taxlt` itself turns the hook on whatever the environment says.
_IS_HOOKED = (
    "import sys; print(any(type(f).__module__ == 'taxlt_mergekit.hosts.hook' for f in sys.meta_path))"
)


def versions() -> Iterator[tuple[str, str, str]]:
    """Library, installed version and what this package asks for; a version that does not fit is marked."""
    yield DISTRIBUTION, taxlt_mergekit.__version__, str(Path(taxlt_mergekit.__file__).parent)
    yield "Python", platform.python_version(), sys.executable
    for line in requires(DISTRIBUTION) or []:
        wanted = Requirement(line)
        if wanted.marker is not None and not wanted.marker.evaluate({"extra": ""}):
            continue
        try:
            found = version(wanted.name)
        except PackageNotFoundError:
            found = "not installed"
        fits = wanted.specifier.contains(found, prereleases=True) if found != "not installed" else False
        yield wanted.name, found if fits else f"{found} (!)", str(wanted.specifier)


def hook() -> str:
    """Whether mergekit-yaml and lm_eval know this package as they start."""
    done = subprocess.run([sys.executable, "-c", _IS_HOOKED], capture_output=True, text=True, timeout=60)
    if done.stdout.strip() == "True":
        return "on: mergekit-yaml and lm_eval know this package"
    if os.environ.get("TAXLT_NO_AUTOLOAD", "0") not in ("", "0"):
        return f"off: TAXLT_NO_AUTOLOAD={os.environ['TAXLT_NO_AUTOLOAD']}; unset it, or call register()"
    return "off: the start-up file taxlt_mergekit.pth is not installed; pip install taxlt-mergekit again"


def devices() -> Iterator[str]:
    """Processors and memory, and each accelerator that torch can use."""
    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory = ""
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        size = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        memory = f", {size / 1e9:.0f} GB of memory"
    yield f"{platform.system()} {platform.machine()}, {cores} processors{memory}"
    for index in range(torch.cuda.device_count()):
        found = torch.cuda.get_device_properties(index)
        yield f"cuda:{index} {found.name}, {found.total_memory / 1e9:.0f} GB"
    if torch.backends.mps.is_available():
        yield "mps"
    if not torch.cuda.is_available():
        yield f"no GPU that torch {torch.__version__} can use"
