"""lm-eval's Python call on the task folders, with this package or as if it were not installed.

Run as a script: ``python plain_lm_eval.py with|without TASK_FOLDER DATA GROUP…``. The last line on standard
output is the results as JSON. Without the package there is no `TAXLT_DATA`, so `datasets.load_dataset` gives
the same files in place of the hub's. The likelihood of an answer depends on each letter of the request.
"""

import csv
import json
import os
import sys
import zlib
from pathlib import Path

NLI = ["entailment", "neutral", "contradiction"]
SENTIMENT = ["negative", "neutral", "positive"]
NLI_FILES = {"facebook/xnli": "xnli/{}-{}.tsv", "nala-cub/americas_nli": "americasnli/{}/{}.tsv"}


def read_files_in_place_of_the_hub(root):
    """Make `datasets.load_dataset` read the layout of TAXLT_DATA below `root`."""
    import datasets

    def read(path):
        with path.open(encoding="utf-8", newline="") as file:
            if path.suffix == ".json":
                return datasets.Dataset.from_list([json.loads(line) for line in file])
            style = {} if path.suffix == ".csv" else {"delimiter": "\t", "quoting": csv.QUOTE_NONE}
            return datasets.Dataset.from_list(list(csv.DictReader(file, **style)))

    def load_dataset(path, name=None, data_files=None, revision=None):
        if path in NLI_FILES:  # the hub numbers their labels
            files = {
                split: root / NLI_FILES[path].format(part, name)
                for split, part in (("validation", "dev"), ("test", "test"))
            }
            labels = datasets.ClassLabel(names=NLI)
            return {split: read(file).cast_column("label", labels) for split, file in files.items()}
        if path == "csv":  # the authors' files of NusaX, by their addresses
            return {
                split: read(root / "nusax" / address.partition("/sentiment/")[2])
                for split, address in data_files.items()
            }
        if path == "parquet":  # the hub's conversion of them
            names = {"validation": "valid", "test": "test"}
            labels = datasets.ClassLabel(names=SENTIMENT)
            return {
                split: read(root / "nusax" / address.split("/")[-2] / f"{names[split]}.csv").cast_column(
                    "label", labels
                )
                for split, address in data_files.items()
            }
        return {split: read(Path(file)) for split, file in data_files.items()}

    datasets.load_dataset = load_dataset


def main(mode, folder, data, *groups):
    if mode == "without":
        sys.modules["taxlt_mergekit"] = None
        read_files_in_place_of_the_hub(Path(data))
        os.chdir(data)
    else:
        os.environ["TAXLT_DATA"] = data
    from lm_eval import simple_evaluate
    from lm_eval.models.dummy import DummyLM
    from lm_eval.tasks import TaskManager

    class Letters(DummyLM):
        def loglikelihood(self, requests, disable_tqdm=False):
            return [(-zlib.crc32("".join(request.args).encode()) / 2**32, False) for request in requests]

    tasks = TaskManager(include_path=folder, include_defaults=False)
    found = simple_evaluate(Letters(), tasks=list(groups), task_manager=tasks)
    print("\n" + json.dumps([found["results"], found["groups"]]))


if __name__ == "__main__":
    main(*sys.argv[1:])
