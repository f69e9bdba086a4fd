"""Small models, small data and lm-eval's command for the tests of evaluation.

Run as a module this is a server of `lm_eval` commands. Each runs in a fork of one process that has lm-eval
imported and its ten thousand task files indexed, which takes ten seconds otherwise, every time.
"""

import contextlib
import importlib.util
import json
import os
import random
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

from taxlt_mergekit.paper import catalog
from tests.helpers.hosts import Outcome

BUILT_IN = Path(importlib.util.find_spec("lm_eval").origin).parent / "tasks"
CLASSIFIER = ["--model", "hf-seq-cls", "--model_args"]
NLI_LABELS = ["Contradiction", "ENTAILMENT", "neutral"]  # neither the data's order nor its case
SENTIMENT_LABELS = ["POS", "NEU", "NEG"]
TEXTS = ["good bad food", "the cat sat on the mat", "a dog did not bark", "abcdefghijklmnopqrstuvwxyz,.?!'"]


def make_tokenizer(max_length=512, **options):
    """A byte-level tokenizer that knows pairs, as BERT's: [CLS] a [SEP] b [SEP]."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel()
    tokenizer.decoder = decoders.ByteLevel()
    special = ["[PAD]", "[CLS]", "[SEP]"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=special, initial_alphabet=alphabet)
    tokenizer.train_from_iterator(TEXTS, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 1), ("[SEP]", 2)],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        bos_token="[CLS]",
        eos_token="[SEP]",
        model_max_length=max_length,
        **options,
    )


def make_classifier(folder, labels=None, seed=0, max_length=512, **config):
    """A random BERT classifier, with weights wide enough that with seed 0 each class is some text's."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    torch.manual_seed(seed)
    tokenizer = make_tokenizer(max_length)
    if labels is not None:
        config |= {
            "id2label": dict(enumerate(labels)),
            "label2id": {name: i for i, name in enumerate(labels)},
        }
    model = BertForSequenceClassification(
        BertConfig(
            vocab_size=len(tokenizer),
            hidden_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=64,
            initializer_range=0.6,
            pad_token_id=0,
            **config,
        )
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


# Encoders and decoders that treat padding each in its own way: class, and settings beside the tiny sizes.
_SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
_DECODER = {"num_key_value_heads": 2, "bos_token_id": 1, "eos_token_id": 2}
KINDS = {
    "bert": ("Bert", {}),
    "roberta": ("Roberta", {"max_position_embeddings": 66, "type_vocab_size": 1}),
    "fnet": ("FNet", {}),
    "canine": ("Canine", {"max_position_embeddings": 512, "local_transformer_stride": 32}),
    "mobilebert": ("MobileBert", {"embedding_size": 16, "intra_bottleneck_size": 16}),
    "xlnet": ("XLNet", {"d_model": 32, "n_layer": 2, "n_head": 2, "d_inner": 64}),
    "llama": ("Llama", _DECODER),
}


def make_kind(folder, kind, labels=SENTIMENT_LABELS, padding_side="right", **config):
    """A random classifier of one of KINDS in folder, with `make_tokenizer`'s tokenizer; returns the folder.

    Its padding token is that of the tokenizer, 0, where `config` does not say otherwise.
    """
    import torch
    import transformers

    name, settings = KINDS[kind]
    torch.manual_seed(0)
    names = {"id2label": dict(enumerate(labels)), "label2id": {name: i for i, name in enumerate(labels)}}
    settings = _SIZES | {"vocab_size": 300, "pad_token_id": 0} | settings | names | config
    model = getattr(transformers, f"{name}ForSequenceClassification")(
        getattr(transformers, f"{name}Config")(**settings)
    )
    for parameter in model.parameters():
        if parameter.dim() > 1:
            parameter.data.normal_(0, 0.15)
    model.save_pretrained(folder)
    make_tokenizer(10**30, padding_side=padding_side).save_pretrained(folder)
    return folder


def head_scores(folder, texts, labels=SENTIMENT_LABELS, **options):
    """What hf-seq-cls makes of texts (or pairs), one lm-eval request a label: (documents, labels)."""
    import torch
    from lm_eval.api.instance import Instance

    from taxlt_mergekit.evaluate.classifier import SequenceClassifierLM

    model = SequenceClassifierLM(pretrained=str(folder), device="cpu", **options)
    task = SimpleNamespace(
        config=SimpleNamespace(num_fewshot=0, doc_to_target="label"),
        OUTPUT_TYPE="multiple_choice",
        doc_to_choice=lambda document: list(labels),
    )
    requests = []
    for number, text in enumerate(texts):
        document = (
            {"text": text}
            if isinstance(text, str)
            else dict(zip(("premise", "hypothesis"), text, strict=True))
        )
        for index, label in enumerate(labels):
            request = Instance("loglikelihood", document, ("", label), index, ("the task", number, 1))
            request.task = task
            requests.append(request)
    scores = [score for score, _ in model.loglikelihood(requests, disable_tqdm=True)]
    return torch.tensor(scores).reshape(len(texts), len(labels))


def write_table(path, rows):
    """Rows of strings as TSV, or as CSV where the name ends so."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".csv":
        import csv

        with path.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows(rows)
    else:
        path.write_text("".join("\t".join(row) + "\n" for row in rows), encoding="utf-8")


def write_rows(root, benchmark, code, split, rows):
    """Rows (the benchmark's input columns, `label`) as the benchmark's own files have them, below `root`."""
    entry = catalog.load().benchmarks[benchmark]
    path = root / entry.fill(entry.files[split][0], code)
    if benchmark == "marc":
        path.parent.mkdir(parents=True, exist_ok=True)
        stars = {"negative": "1", "positive": "5"}
        reviews = [
            {"stars": stars[row["label"]], "review_title": row["title"], "review_body": row["body"]}
            for row in rows
        ]
        path.write_text("".join(json.dumps(review) + "\n" for review in reviews))
        return
    more = {"xnli": [], "nusax": ["id"], "americas_nli": ["id", "language"]}[benchmark]
    header = [*more, *entry.inputs, "label"]
    table = [{"id": str(number), "language": code} | row for number, row in enumerate(rows)]
    write_table(path, [header, *([row[name] for name in header] for row in table)])


def random_rows(benchmark, count, seed):
    """Rows for `write_rows`: four to forty random words, and a random label."""
    entry, draw = catalog.load().benchmarks[benchmark], random.Random(seed)
    syllables = ["ka", "lu", "mi", "to", "ren", "sa", "po", "ni"]

    def text():
        return " ".join(
            "".join(draw.choices(syllables, k=draw.randint(1, 3))) for _ in range(draw.randint(4, 40))
        )

    return [
        {name: text() for name in entry.inputs} | {"label": draw.choice(entry.labels)} for _ in range(count)
    ]


def plain_scores(folder, texts, max_length=None):
    """Log-probabilities (documents, labels) from transformers alone, one document at a time."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    torch.set_num_threads(1)
    model = AutoModelForSequenceClassification.from_pretrained(folder, dtype="float32").eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    rows = []
    with torch.no_grad():
        for text in texts:
            batch = tokenizer(*text, truncation=True, max_length=max_length, return_tensors="pt")
            rows.append(torch.log_softmax(model(**batch).logits[0].float(), -1))
    return torch.stack(rows), model.config.id2label


class LmEval:
    """The `lm_eval` command, with no data but those that a call names; see this module's docstring."""

    def __init__(self):
        self._server = subprocess.Popen(
            [sys.executable, "-m", __name__],
            cwd=Path(__file__).parents[2],
            env={name: value for name, value in os.environ.items() if name != "TAXLT_DATA"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __call__(self, *arguments, cwd=None, **environment):
        """Run `lm_eval` with these arguments, and these additions to its environment."""
        order = {"argv": [str(argument) for argument in arguments], "cwd": str(cwd or os.getcwd())}
        order["environment"] = {name: str(value) for name, value in environment.items()}
        print(json.dumps(order), file=self._server.stdin, flush=True)
        return Outcome(**json.loads(self._server.stdout.readline()))

    def close(self):
        self._server.stdin.close()
        self._server.wait()


def results(folder):
    """lm-eval's results JSON under an --output_path."""
    (path,) = Path(folder).glob("**/results_*.json")
    return json.loads(path.read_text(encoding="utf-8"))


def samples(folder, task):
    """lm-eval's samples of a task under an --output_path, one a document."""
    (path,) = Path(folder).glob(f"**/samples_{task}_2*.jsonl")
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def log_probabilities(logged):
    """Those of samples (documents, choices); lm-eval writes them as strings."""
    import torch

    return torch.tensor([[float(score) for [[score, _]] in sample["resps"]] for sample in logged])


def _serve():
    import functools
    import gc
    import tempfile

    os.environ |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    import lm_eval.evaluator
    import lm_eval.models.huggingface  # noqa: F401
    from lm_eval.__main__ import cli_evaluate
    from lm_eval.tasks import TaskManager, _index

    read = functools.cache(_index.load_yaml)
    _index.load_yaml = lambda path, **options: dict(read(path, **options))
    TaskManager()
    gc.freeze()  # or each fork would look through it all for cycles
    for line in sys.stdin:
        order = json.loads(line)
        with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
            child = os.fork()
            if not child:
                os.dup2(out.fileno(), 1)
                os.dup2(err.fileno(), 2)
                os.chdir(order["cwd"])
                os.environ |= order["environment"]
                sys.argv = ["lm_eval", *order["argv"]]
                code = 0
                try:
                    cli_evaluate()
                except SystemExit as error:
                    code = error.code if isinstance(error.code, int) else int(error.code is not None)
                except BaseException:
                    sys.excepthook(*sys.exc_info())
                    code = 1
                with contextlib.suppress(Exception):
                    sys.stdout.flush()
                    sys.stderr.flush()
                os._exit(code)
            _, status = os.waitpid(child, 0)
            out.seek(0)
            err.seek(0)
            answer = {"code": os.waitstatus_to_exitcode(status), "stdout": out.read(), "stderr": err.read()}
            print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    _serve()
