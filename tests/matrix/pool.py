"""Runs cases in forked processes, one for each model type, so that a crash costs one case alone."""

import multiprocessing
import resource
import signal
import time
from collections.abc import Iterator
from itertools import groupby
from multiprocessing.connection import Connection, wait
from typing import Any

import torch

from tests.matrix import merging
from tests.matrix.cases import Case
from tests.matrix.merging import Result

LIMIT = 180.0  # seconds a case
MEMORY = 4 << 30  # bytes of addresses a process; what does not shrink fails at once


def results(cases: list[Case], workers: int) -> Iterator[Result]:
    """Each case's result as it comes, in no fixed order; all processes have ended when this ends."""
    context = multiprocessing.get_context("fork")
    waiting = [list(group) for _, group in groupby(cases, key=lambda case: case.model_type)][::-1]
    running: dict[Connection, tuple[Any, list[Case], float]] = {}

    def start(group: list[Case]) -> None:
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(target=_work, args=(group, theirs), daemon=True)
        process.start()
        theirs.close()
        running[ours] = (process, group, time.monotonic())

    try:
        while waiting or running:
            while waiting and len(running) < workers:
                start(waiting.pop())
            for connection in wait(list(running), timeout=1):
                process, group, _ = running.pop(connection)
                try:
                    result = connection.recv()
                except EOFError:
                    process.join()
                    if group:
                        yield Result(group[0].name, "traceback", f"its process ended with {process.exitcode}")
                        waiting.append(group[1:])
                    continue
                running[connection] = (process, group[1:], time.monotonic())
                yield result
            for connection, (process, group, since) in list(running.items()):
                if time.monotonic() - since > LIMIT:
                    process.kill()  # seen above, as a process that ended
                    running[connection] = (process, group, time.monotonic())
    finally:
        for process, _, _ in running.values():
            process.kill()
            process.join()


def _work(cases: list[Case], connection: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends its processes
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    torch.set_num_threads(1)
    for case in cases:
        connection.send(merging.run(case))
