"""The hook at interpreter start: from a wheel in an environment of its own, on and off, whole and broken."""

import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

from tests.helpers.hosts import console

ROOT = Path(__file__).parents[2]
IS_HOOKED = "import sys; print(any(type(f).__name__ == '_HostFinder' for f in sys.meta_path))"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-w", folder, ROOT)
    return next(folder.glob("*.whl"))


@pytest.fixture
def environment(wheel, tmp_path) -> Path:
    """A new environment with nothing but our wheel in it."""
    venv.create(tmp_path / "env", with_pip=False)
    python = tmp_path / "env" / "bin" / "python"
    run(sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index", wheel)
    return tmp_path / "env"


def run(*command: object, **env: str) -> str:
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, env=env or None)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def site_packages(environment: Path) -> Path:
    return next(environment.glob("lib/python*/site-packages"))


def test_a_wheel_hooks_every_start(environment):
    python = environment / "bin" / "python"
    assert run(python, "-c", IS_HOOKED) == "True"
    assert run(python, "-I", "-c", IS_HOOKED) == "True"
    assert run(python, "-S", "-c", IS_HOOKED) == "False"
    assert run(python, "-c", IS_HOOKED, TAXLT_NO_AUTOLOAD="1") == "False"
    assert run(python, "-c", IS_HOOKED, TAXLT_NO_AUTOLOAD="0") == "True"


def test_nothing_heavy_is_imported_at_start(environment):
    loaded = run(environment / "bin" / "python", "-c", "import sys; print(*sorted(sys.modules))").split()
    bare = run(environment / "bin" / "python", "-S", "-c", "import sys; print(*sorted(sys.modules))").split()
    ours = [name for name in loaded if name.startswith("taxlt_mergekit")]
    assert ours == ["taxlt_mergekit", "taxlt_mergekit.hosts", "taxlt_mergekit.hosts.hook"]
    standard = set(sys.stdlib_module_names)
    assert {name.partition(".")[0] for name in set(loaded) - set(bare)} - standard <= {
        "taxlt_mergekit",
        "sitecustomize",
    }


def test_a_wheel_extends_mergekit_and_lm_eval(environment):
    """The hosts are borrowed from this environment, whose own start-up files are not read there."""
    (site_packages(environment) / "hosts.pth").write_text(sysconfig.get_path("purelib") + "\n")
    script = (
        "import taxlt_mergekit, mergekit.merge_methods as m, lm_eval.models\n"
        "from lm_eval.api.registry import model_registry as r\n"
        "print(taxlt_mergekit.__file__, m.get('xlt_additive').spec.name, 'hf-seq-cls' in r, 'hf' in r)"
    )
    out = run(environment / "bin" / "python", "-c", script).split()
    assert str(environment) in out[0] and out[1:] == ["xlt_additive", "True", "True"]


def test_a_wheels_entry_points_are_those_that_later_hosts_read(environment):
    (site_packages(environment) / "hosts.pth").write_text(sysconfig.get_path("purelib") + "\n")
    script = (
        "from importlib.metadata import distribution\n"
        "from importlib.util import find_spec\n"
        "points = {(p.group, p.name): p for p in distribution('taxlt-mergekit').entry_points}\n"
        "(folder,) = find_spec(points['lm_eval.tasks', 'taxlt-mergekit'].value).submodule_search_locations\n"
        "print(folder, points['lm_eval.models', 'hf-seq-cls'].value, sep='\\n')\n"
        "print(*(p.load().spec.name == n for (g, n), p in points.items() if g == 'mergekit.merge_methods'))"
    )
    folder, model, methods = run(environment / "bin" / "python", "-c", script).splitlines()
    assert (site_packages(environment) / "taxlt_mergekit" / "eval_tasks").samefile(folder)
    assert (Path(folder) / "americas_nli" / "americas_nli.yaml").is_file()
    assert model == "taxlt_mergekit.evaluate.classifier:SequenceClassifierLM"
    assert methods == "True True"


def test_uninstalling_leaves_nothing(environment):
    before = {p.name for p in site_packages(environment).iterdir()}
    assert {"taxlt_mergekit", "taxlt_mergekit.pth", "taxlt_mergekit.start"} <= before
    python = environment / "bin" / "python"
    run(sys.executable, "-m", "pip", "--python", python, "uninstall", "-y", "taxlt-mergekit")
    assert not [path for path in environment.rglob("*") if "taxlt" in path.name]
    assert run(python, "-c", IS_HOOKED) == "False"


def test_a_broken_install_does_not_break_python(environment):
    package = site_packages(environment) / "taxlt_mergekit"
    (package / "hosts" / "hook.py").write_text("raise RuntimeError('broken')")
    python = environment / "bin" / "python"
    done = subprocess.run([str(python), "-c", "print('fine')"], capture_output=True, text=True)
    assert (done.stdout.strip(), done.stderr, done.returncode) == ("fine", "", 0)
    shutil.rmtree(package)
    done = subprocess.run([str(python), "-c", "print('fine')"], capture_output=True, text=True)
    assert (done.stdout.strip(), done.stderr, done.returncode) == ("fine", "", 0)


def test_a_broken_plugin_does_not_break_a_host(environment):
    (site_packages(environment) / "hosts.pth").write_text(sysconfig.get_path("purelib") + "\n")
    (site_packages(environment) / "taxlt_mergekit" / "hosts" / "mergekit.py").write_text(
        "raise RuntimeError('broken')"
    )
    done = subprocess.run(
        [str(environment / "bin" / "python"), "-c", "import mergekit.merge; print('fine')"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0 and "fine" in done.stdout
    assert "could not extend mergekit.merge" in done.stderr


def test_the_explicit_road():
    """Where the automatic road is off, register() does the same, before or after the hosts are imported."""
    for order in (
        "import taxlt_mergekit; taxlt_mergekit.register(); import mergekit.scripts.run_yaml as run",
        "import mergekit.scripts.run_yaml as run; import taxlt_mergekit; taxlt_mergekit.register()",
    ):
        script = (
            f"{order}\nimport taxlt_mergekit; taxlt_mergekit.register()\n"
            "from mergekit import merge_methods\n"
            "print(merge_methods.get('xlt_analogy').spec.name, hasattr(run.run_merge, '__wrapped__'))"
        )
        outcome = console("python", "-c", script, TAXLT_NO_AUTOLOAD="1")
        assert outcome.stdout.split() == ["xlt_analogy", "True"], outcome.stderr
    off = console(
        "python",
        "-c",
        "from mergekit import merge_methods as m; m.get('xlt_additive')",
        TAXLT_NO_AUTOLOAD="1",
    )
    assert off.code != 0 and "Unimplemented merge method" in off.stderr


@pytest.mark.parametrize("module", ["methods.table", "methods.base", "recipe"])
def test_importing_our_modules_before_the_host(module):
    script = (
        f"import taxlt_mergekit.merge.{module}\n"
        "from mergekit import merge_methods\n"
        "print(merge_methods.get('xlt_additive').spec.name)"
    )
    outcome = console("python", "-c", script)
    assert outcome.stdout.strip() == "xlt_additive" and "could not extend" not in outcome.stderr
