"""Operations on files that fail, or kill their process, at the n-th of them below a folder."""

import builtins
import errno
import functools
import io
import itertools
import os
import signal
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# In turn: no room, no rights, a broken disk, and another file system.
ERRORS = (errno.ENOSPC, errno.EACCES, errno.EIO, errno.EXDEV)
_FUNCTIONS = (
    "chmod",
    "link",
    "mkdir",
    "remove",
    "rename",
    "replace",
    "rmdir",
    "sendfile",
    "symlink",
    "unlink",
)


@dataclass(frozen=True)
class Fault:
    """What happens at the n-th operation: an `OSError` of this number, or the end by SIGKILL (None)."""

    at: int
    error: int | None


@dataclass(frozen=True)
class Ended:
    """How a forked process ended: its exit code (minus the signal that killed it), and what it wrote.

    Attributes:
        met: it came as far as the fault.
    """

    code: int
    stderr: str
    met: bool

    @property
    def last_line(self) -> str:
        return self.stderr.strip().splitlines()[-1] if self.stderr.strip() else ""


def run_forked(action: Callable[[], object], folder: Path, fault: Fault | None) -> Ended:
    """Run an action in a fork of this process, with a fault below `folder`.

    `UserError` and other exceptions end it as click's commands end: with 1 and one line, or a traceback.
    """
    log, met = (folder.parent / f"{folder.name}.{name}" for name in ("stderr", "met"))
    met.unlink(missing_ok=True)
    child = os.fork()
    if not child:
        code = 1
        try:
            descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(descriptor, 1)
            os.dup2(descriptor, 2)
            sys.stdout = sys.stderr = os.fdopen(2, "w", closefd=False)
            if fault is not None:
                _install(folder, fault, met)
            action()
            code = 0
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else 1
        except BaseException as error:
            if hasattr(error, "format_message"):
                print(f"Error: {error.format_message()}", file=sys.stderr)
            else:
                traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
    _, status = os.waitpid(child, 0)
    return Ended(os.waitstatus_to_exitcode(status), log.read_text(encoding="utf-8"), met.exists())


def _install(folder: Path, fault: Fault, met: Path) -> None:
    """Count this process's operations on files below a folder, and let one of them fail."""
    root, count = os.fspath(folder), 0

    def operation(name: str, paths: tuple[Any, ...], is_below: bool = False) -> None:
        nonlocal count
        if not is_below and not any(
            isinstance(p, str | os.PathLike) and os.fspath(p).startswith(root) for p in paths
        ):
            return
        count += 1
        if count == fault.at:
            os.close(stock_os_open(met, os.O_CREAT))
            if fault.error is None:
                os.kill(os.getpid(), signal.SIGKILL)
            raise OSError(fault.error, os.strerror(fault.error), next(map(str, paths), name))

    def wrapped(name: str) -> Callable[..., Any]:
        function = getattr(os, name)

        def call(*paths: Any, **options: Any) -> Any:
            # By a folder's descriptor, as shutil.rmtree removes; nothing else is removed or sent here.
            operation(name, paths, is_below=options.get("dir_fd") is not None or name == "sendfile")
            return function(*paths, **options)

        return call

    for name in _FUNCTIONS:
        setattr(os, name, wrapped(name))
    stock_open, stock_os_open = builtins.open, os.open

    def os_open(path: Any, flags: int, *rest: Any, **options: Any) -> int:
        if flags & (os.O_WRONLY | os.O_RDWR):
            operation("open", (path,))
        return stock_os_open(path, flags, *rest, **options)

    def open_file(path: Any, mode: str = "r", *rest: Any, **options: Any) -> Any:
        if set(mode).isdisjoint("wax+"):
            return stock_open(path, mode, *rest, **options)
        operation("open", (path,))
        file = stock_open(path, mode, *rest, **options)
        if isinstance(path, str | os.PathLike) and os.fspath(path).startswith(root):
            for name in ("write", "close"):
                setattr(file, name, _first(getattr(file, name), functools.partial(operation, name, (path,))))
        return file

    os.open = os_open
    builtins.open = io.open = open_file


def _first(function: Callable[..., Any], before: Callable[[], None]) -> Callable[..., Any]:
    """A function before whose first call another is called."""
    calls = itertools.count()

    def call(*arguments: Any) -> Any:
        if next(calls) == 0:
            before()
        return function(*arguments)

    return call
