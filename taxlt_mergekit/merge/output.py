"""The output folder: never an input, written beside its place, put there at once when it is whole.

Hidden names that a merge to OUT uses, all gone at its end; what a killed one left, the next one clears:

- `.OUT-lock` beside OUT, held while a merge to OUT runs;
- `.OUT-new` beside OUT, the new model while it is written. In OUT itself, as `.merge-new`, where OUT is the
  root of another file system or nothing may be written beside it;
- `.merge-old` in OUT, what was there, while files are replaced one by one.
"""

import contextlib
import ctypes
import errno
import logging
import os
import shutil
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass

from mergekit.common import ModelReference
from mergekit.config import MergeConfiguration
from mergekit.options import MergeOptions

from taxlt_mergekit.errors import UserError, one_line, translated
from taxlt_mergekit.model_files import model_entries

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

LOG = logging.getLogger(__name__)

_CONFIG = "config.json"  # a folder without it does not pass for a model
_NEW = ".merge-new"
# What was in OUT: while it is taken out, when OUT has no new file yet, and from then on, when all of a model
# that is in OUT is new.
_LEAVING, _OLD = ".merge-leaving", ".merge-old"
_Identity = tuple[int, int]  # device and number of a folder
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2  # Linux's fcntl.h and fs.h


@dataclass(frozen=True)
class _Place:
    """Where an output goes: its real path, and hidden paths on the way there."""

    out: str
    new: str
    lock: str


@contextlib.contextmanager
def staging(out_path: str, wait: bool = False) -> Iterator[str]:
    """An empty folder that takes the place of `out_path` when all went well, and vanishes otherwise.

    What belongs to a model in `out_path` (`model_files.model_entries`) is replaced, other files stay: in one
    step where nothing else is there and the system can, else file by file, and an error on the way brings all
    back. SIGTERM and SIGHUP end the block as Ctrl-C does.

    Args:
        wait: for another process that writes there, instead of refusing to.

    Raises:
        UserError: `out_path` cannot be written, or another process writes there.
    """
    cannot = f"{out_path}: cannot be written"
    with translated(cannot):
        place = _place(out_path)
    with _ended_by_signals(), _locked(place, out_path, wait):
        try:
            with translated(cannot):
                _clear(place)
                os.mkdir(place.new)
            yield place.new
            with translated(cannot):
                _put_in_place(place)
        finally:
            _remove(place.new)
            _remove(os.path.join(place.out, _NEW))


def refuse_inputs(out_path: str, config: MergeConfiguration, options: MergeOptions) -> None:
    """Refuse an output folder that is a model, an adapter or a cache of a merge, holds one, or lies in one.

    Folders are compared as the system knows them, through links and mounts, and so is where linked files lie.

    Raises:
        UserError: which it is; or `out_path` is no folder.
    """
    with translated(f"{out_path}: cannot be written"):
        out = _real_path(out_path)
        around = _identities(out)
    own = around[0] if os.path.isdir(out) else None
    for shown, path in _inputs(config, options):
        if not os.path.isdir(path):
            continue  # a model on the hub, or one that is not there, which is said later
        with translated(f"{shown}: cannot be read"):
            relation = _relation(own, around, path)
        if relation:
            raise UserError(
                f"{out_path}: {relation} {shown}, from which the merge reads; choose another output folder"
            )


def _relation(own: _Identity | None, around: list[_Identity], path: str) -> str:
    """What an output folder (itself, and with those above it) has to do with one that is read."""
    first, *above = _identities(os.path.realpath(path))
    if own == first:
        return "is"
    if first in around:
        return "lies in"
    # A model's files may be links to where they lie, as in the hub's cache.
    for entry in os.scandir(path):
        if entry.is_symlink():
            above += _identities(os.path.dirname(os.path.realpath(entry)))
    return "holds" if own in above else ""


def _inputs(config: MergeConfiguration, options: MergeOptions) -> Iterator[tuple[str, str]]:
    """What a merge reads from, as it is shown, and its path."""
    models = config.referenced_models()
    sources = [config.tokenizer_source]
    if config.tokenizer:
        sources += [config.tokenizer.source]
        sources += [token.source for token in (config.tokenizer.tokens or {}).values()]
    for source in sources:  # a model, an embedding of a model, or a word such as `union`
        source = getattr(source, "model", None) if hasattr(source, "token_id") else source
        models += [source] if isinstance(source, ModelReference) else []
    for model in models:
        for part in filter(None, (model.model, model.lora)):
            yield str(part), part.path
    for option in ("lora_merge_cache", "transformers_cache"):
        if path := getattr(options, option):
            yield f"--{option.replace('_', '-')} {path}", path


def _identities(path: str) -> list[_Identity]:
    """Of a folder, where it is there, and of those above it."""
    found = []
    while True:
        with contextlib.suppress(FileNotFoundError):
            status = os.stat(path)
            found.append((status.st_dev, status.st_ino))
        if path == os.path.dirname(path):
            return found
        path = os.path.dirname(path)


def _real_path(out_path: str) -> str:
    if not out_path:
        raise UserError("the output folder has no name; an empty one would be the current folder")
    out = os.path.realpath(out_path)
    if os.path.islink(out):
        raise UserError(f"{out_path}: is a link to itself; the output must be a folder")
    if os.path.exists(out) and not os.path.isdir(out):
        raise UserError(f"{out_path}: is a file; the output must be a folder")
    return out


def _place(out_path: str) -> _Place:
    out = _real_path(out_path)
    parent, name = os.path.split(out)
    os.makedirs(parent, exist_ok=True)
    if os.path.isdir(out) and not os.access(out, os.W_OK | os.X_OK):
        raise PermissionError(
            errno.EACCES, os.strerror(errno.EACCES), out
        )  # found before the merge, not after
    inside = os.path.isdir(out) and (
        os.path.ismount(out)
        or os.stat(out).st_dev != os.stat(parent).st_dev
        or not os.access(parent, os.W_OK | os.X_OK)
    )
    new = os.path.join(out, _NEW) if inside else os.path.join(parent, f".{name}-new")
    return _Place(out, new, os.path.join(out if inside else parent, f".{name}-lock"))


@contextlib.contextmanager
def _locked(place: _Place, out_path: str, wait: bool) -> Iterator[None]:
    """Keep other merges to the same folder away. The lock goes with the process, however that ends."""
    with translated(f"{out_path}: cannot be written"):
        lock = _lock(place.lock, wait)
    try:
        if lock is None:
            raise UserError(
                f"{out_path}: another merge is writing there; wait for its end, or choose another folder"
            )
        yield
    finally:
        if lock is not None:
            with contextlib.suppress(OSError):
                os.unlink(place.lock)
            os.close(lock)


def _lock(path: str, wait: bool) -> int | None:
    """A descriptor that holds the lock, or None where another process does."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            if fcntl is not None:
                fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            # The last holder may have removed the file before we had it.
            if os.path.exists(path) and os.path.samestat(os.fstat(descriptor), os.stat(path)):
                return descriptor
        except BlockingIOError:
            os.close(descriptor)
            return None
        except OSError as error:
            if error.errno not in (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP):
                os.close(descriptor)
                raise
            return (
                descriptor  # this file system has no locks: merges to one folder are then the user's to order
            )
        os.close(descriptor)


@contextlib.contextmanager
def _ended_by_signals() -> Iterator[None]:
    """A job's time limit or a closed terminal ends the block by an exception: its files are cleared away."""

    def end(number: int, _frame: object) -> None:
        raise SystemExit(128 + number)

    ours = []
    if threading.current_thread() is threading.main_thread():
        numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
        ours = [number for number in numbers if signal.getsignal(number) is signal.SIG_DFL]
    try:
        for number in ours:
            signal.signal(number, end)
        yield
    finally:
        for number in ours:
            signal.signal(number, signal.SIG_DFL)


def _clear(place: _Place) -> None:
    """Take away what a killed merge left, and bring back what it was taking out of the folder."""
    if os.path.isdir(place.out):
        _bring_back(place.out)
    for path in (place.new, os.path.join(place.out, _NEW)):
        if os.path.lexists(path):
            shutil.rmtree(path)


def _put_in_place(place: _Place) -> None:
    out, inside = place.out, os.path.join(place.out, _NEW)
    if not os.path.exists(out):
        os.rename(place.new, out)
    elif place.new == inside:
        _replace_files(out, inside)
    elif not _exchanged(place.new, out):
        try:
            os.rename(place.new, inside)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            shutil.copytree(place.new, inside)  # a mount of the same file system
        _replace_files(out, inside)


def _exchanged(new: str, out: str) -> bool:
    """Swap two folders in one step. Not if `out` has files of others in it, or somebody's shell or rights."""
    function = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None) if os.name == "posix" else None
    here = os.path.realpath(os.getcwd())
    was, will = os.stat(out), os.stat(new)
    if (
        function is None
        or len(model_entries(out)) < len(os.listdir(out))
        or here == out
        or here.startswith(os.path.join(out, ""))
        or (was.st_uid, was.st_gid) != (will.st_uid, will.st_gid)
    ):
        return False
    with contextlib.suppress(OSError):
        shutil.copymode(out, new)
    paths = _AT_FDCWD, os.fsencode(new), _AT_FDCWD, os.fsencode(out)
    return function(*paths, ctypes.c_uint(_RENAME_EXCHANGE)) == 0


def _replace_files(out: str, new: str) -> None:
    """Replace a folder's model file by file; without config.json meanwhile, and back on an error."""
    leaving, old = os.path.join(out, _LEAVING), os.path.join(out, _OLD)
    try:
        coming = os.listdir(new)
        going = {*model_entries(out), *(name for name in coming if os.path.lexists(os.path.join(out, name)))}
        os.mkdir(leaving)
        _move(sorted(going, key=_config_first), out, leaving)
        os.rename(leaving, old)
        _move(sorted(coming, key=_config_first, reverse=True), new, out)
        # Under a name that says that nothing of it is to come back.
        os.rmdir(new)
        os.rename(old, new)
    except BaseException:
        _bring_back(out)
        raise


def _bring_back(out: str) -> None:
    """Undo `_replace_files`, wherever it or this was stopped."""
    leaving, old = os.path.join(out, _LEAVING), os.path.join(out, _OLD)
    if os.path.isdir(old):
        for name in sorted(model_entries(out), key=_config_first):
            path = os.path.join(out, name)
            shutil.rmtree(path) if os.path.isdir(path) and not os.path.islink(path) else os.unlink(path)
        os.rename(old, leaving)
    if os.path.isdir(leaving):
        _move(sorted(os.listdir(leaving), key=_config_first, reverse=True), leaving, out)
        os.rmdir(leaving)


def _move(names: list[str], source: str, target: str) -> None:
    for name in names:
        os.rename(os.path.join(source, name), os.path.join(target, name))


def _config_first(name: str) -> tuple[bool, str]:
    return name != _CONFIG, name


def _remove(path: str) -> None:
    """Remove a folder that nobody needs any more; if that fails, the next merge tries again."""
    try:
        if os.path.lexists(path):
            shutil.rmtree(path)
    except OSError as error:
        LOG.warning("%s: cannot be removed: %s", path, one_line(error))
