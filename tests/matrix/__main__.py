"""Merge over every model type of the installed transformers, and say which come out right.

python -m tests.matrix                       everything, in minutes
python -m tests.matrix --only bert,t5        these model types
python -m tests.matrix --only bert:BertForMaskedLM>BertForQuestionAnswering --details
python -m tests.matrix --write docs/families.md
"""

import argparse
import contextlib
import json
import os
import sys
from collections import Counter
from collections.abc import Generator
from dataclasses import asdict
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

import tqdm
import transformers

import taxlt_mergekit
from tests.matrix.cases import Case, all_cases
from tests.matrix.merging import VERDICTS, Result, run
from tests.matrix.pool import results
from tests.matrix.table import page


def main() -> int:
    """Run the command; returns its exit code: 1 where anything is wrong, moved or a traceback."""
    arguments = _parser().parse_args()
    taxlt_mergekit.register()
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    cases = _chosen(all_cases(), arguments.only)
    if not cases:
        print(f"no case is called {arguments.only}", file=sys.stderr)
        return 2
    if arguments.write and arguments.only:
        print("--write is for all cases, without --only", file=sys.stderr)
        return 2
    found: list[Result] = []
    try:
        with contextlib.closing(_results(cases, arguments)) as coming:
            found.extend(tqdm.tqdm(coming, total=len(cases), unit="merge"))
    except KeyboardInterrupt:
        _report(found, arguments.details)
        return 130
    found.sort(key=lambda result: result.case)
    if arguments.json:
        arguments.json.write_text(
            json.dumps([asdict(result) for result in found], indent=1), encoding="utf-8"
        )
    if arguments.write:
        arguments.write.write_text(page(cases, found), encoding="utf-8")
    _report(found, arguments.details)
    counts = Counter(result.verdict for result in found)
    return int(any(counts[verdict] for verdict in ("wrong", "drift", "traceback")))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "tests.matrix", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--only", default="", help="model types or names of cases, separated by commas")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--json", type=Path, help="write each case's result there")
    parser.add_argument("--details", action="store_true", help="print everything that is known of each case")
    parser.add_argument("--keep", type=Path, help="run one after another, and keep the checkpoints there")
    parser.add_argument("--write", type=Path, help="write the table there, docs/families.md say")
    return parser


def _chosen(cases: list[Case], only: str) -> list[Case]:
    words = [word for word in only.split(",") if word]
    return [c for c in cases if not words or c.model_type in words or c.name in words]


def _results(cases: list[Case], arguments: argparse.Namespace) -> Generator[Result, None, None]:
    if not arguments.keep:
        yield from results(cases, arguments.workers)
        return
    for number, case in enumerate(cases):
        yield run(case, arguments.keep / str(number))


def _report(found: list[Result], details: bool) -> None:
    for result in found:
        if details or result.verdict not in ("right", "unbuildable"):
            print(f"{result.verdict:11} {result.case}  {result.reason}")
        if details:
            for key, value in result.details.items():
                print(f"    {key}: {value}")
    counts = Counter(result.verdict for result in found)
    print(", ".join(f"{counts[verdict]} {verdict}" for verdict in VERDICTS), f"of {len(found)}")


if __name__ == "__main__":
    sys.exit(main())
