"""`lm_eval` as users run it, on the tasks of eval_tasks/ and with the model hf-seq-cls."""

import json
import re
import shutil
from pathlib import Path

import datasets
import lm_eval
import pytest
import torch
from sklearn.metrics import accuracy_score, f1_score

from taxlt_mergekit.paper import catalog
from taxlt_mergekit.paper.rows import benchmark_rows
from taxlt_mergekit.paper.tasks import task_files, task_folder
from tests.helpers.evaluation import (
    NLI_LABELS,
    SENTIMENT_LABELS,
    LmEval,
    make_classifier,
    make_tokenizer,
    plain_scores,
    results,
    write_table,
)
from tests.helpers.hosts import console

BUILT_IN = Path(lm_eval.__file__).parent / "tasks"
CLASSIFIER = ["--model", "hf-seq-cls", "--model_args"]


@pytest.fixture(scope="module")
def command():
    server = LmEval()
    yield server
    server.close()


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Folders of small random classifiers by name."""
    folder = tmp_path_factory.mktemp("models")
    make_classifier(folder / "nli", NLI_LABELS)
    make_classifier(folder / "sentiment", SENTIMENT_LABELS)
    make_classifier(folder / "two", ["neg", "pos"])
    make_classifier(folder / "unrelated", ["sport", "politics", "arts"])
    make_classifier(folder / "nameless", num_labels=3)
    return folder


@pytest.fixture(scope="module")
def small_data(tmp_path_factory):
    """Made-up rows of every benchmark, in the layout of TAXLT_DATA; languages differ in size and labels."""
    root = tmp_path_factory.mktemp("data")
    for name, benchmark in catalog.load().benchmarks.items():
        for number, code in enumerate(benchmark.tasks):
            for split in ("validation", "test"):
                path = root / benchmark.fill(benchmark.files[split][0], code)
                count = 5 + number % 3
                labels = [
                    benchmark.labels[(row * row + number) % len(benchmark.labels)] for row in range(count)
                ]
                if name == "marc":
                    path.parent.mkdir(exist_ok=True)
                    stars = {"negative": "1", "positive": "5"}
                    reviews = [
                        {"stars": stars[label], "review_title": f"{split} {row}", "review_body": f"{code} b"}
                        for row, label in enumerate(labels)
                    ]
                    path.write_text("".join(json.dumps(review) + "\n" for review in reviews))
                else:
                    rows = [
                        [*(f"{split} {code} {column} {row}" for column in benchmark.inputs), label]
                        for row, label in enumerate(labels)
                    ]
                    write_table(path, [[*benchmark.inputs, "label"], *rows])
    return root


def samples(folder, task):
    (path,) = Path(folder).glob(f"**/samples_{task}_2*.jsonl")
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def log_probabilities(logged):
    """Those of samples (documents, choices); lm-eval writes them as strings."""
    return torch.tensor([[float(score) for [[score, _]] in sample["resps"]] for sample in logged])


def test_scores_equal_a_plain_loop_on_real_files(command, models, real_data, tmp_path, monkeypatch):
    tasks = {
        "americas_nli_quy": ("americas_nli", "quy", "nli"),
        "nusax_senti_jav": ("nusax", "jav", "sentiment"),
    }
    monkeypatch.setenv("TAXLT_DATA", str(real_data))
    for task, (benchmark, language, model) in tasks.items():
        done = command(
            *[
                *CLASSIFIER,
                f"pretrained={models / model}",
                "--tasks",
                task,
                "--batch_size",
                "32",
                "--log_samples",
            ],
            *["--output_path", tmp_path / task],
            TAXLT_DATA=real_data,
        )
        assert done.code == 0, done.stderr
        rows = benchmark_rows(benchmark, language, "test")
        inputs = catalog.load().benchmarks[benchmark].inputs
        scores, id2label = plain_scores(
            models / model, list(zip(*(rows[name] for name in inputs), strict=True))
        )
        names = {"pos": "positive", "neu": "neutral", "neg": "negative"}
        columns = {names.get(name.lower(), name.lower()): column for column, name in id2label.items()}
        labels = rows.features["label"].names
        scores = scores[:, [columns[label] for label in labels]]
        predicted = scores.argmax(dim=1).tolist()
        assert len(set(predicted)) == 3

        scored = results(tmp_path / task)["results"][task]
        assert scored["acc,none"] == accuracy_score(rows["label"], predicted)
        if benchmark == "nusax":
            assert scored["f1_macro,none"] == f1_score(rows["label"], predicted, average="macro")
            assert 0.005 < scored["f1_macro_stderr,none"] < 0.05
        logged = samples(tmp_path / task, task)
        torch.testing.assert_close(log_probabilities(logged), scores, atol=1e-5, rtol=1e-5)
        assert [[best for [[_, best]] in sample["resps"]].index("True") for sample in logged] == predicted


@pytest.mark.parametrize("name", list(catalog.load().benchmarks))
def test_a_group_runs_every_language_and_averages_the_papers(command, models, small_data, tmp_path, name):
    benchmark = catalog.load().benchmarks[name]
    model = {"nusax": "sentiment", "marc": "two"}.get(name, "nli")
    done = command(
        *[*CLASSIFIER, f"pretrained={models / model}", "--tasks", f"{benchmark.group},{benchmark.group}_dev"],
        *["--output_path", tmp_path, "--batch_size", "auto"],
        TAXLT_DATA=small_data,
    )
    assert done.code == 0, done.stderr
    assert "WARNING" not in done.stderr
    found = results(tmp_path)
    for group in (benchmark.group, f"{benchmark.group}_dev"):
        assert set(found["group_subtasks"][group]) == {f"{group}_{code}" for code in benchmark.tasks}
        for metric in {"acc", benchmark.metric}:
            scores = [found["results"][f"{group}_{code}"][f"{metric},none"] for code in benchmark.languages]
            assert found["groups"][group][f"{metric},none"] == pytest.approx(sum(scores) / len(scores))
            assert found["groups"][group][f"{metric}_stderr,none"] > 0
        for code in benchmark.tasks:
            assert f"{group}_{code}" in done.stdout
    effective = found["n-samples"][f"{benchmark.group}_{next(iter(benchmark.tasks))}"]
    assert effective == {"original": 5, "effective": 5}


def test_a_document_is_one_forward_pass_and_batches_are_of_like_length(models, small_data, monkeypatch):
    from lm_eval.tasks import TaskManager

    from taxlt_mergekit.evaluate.classifier import SequenceClassifierLM

    monkeypatch.setenv("TAXLT_DATA", str(small_data))
    model = SequenceClassifierLM(pretrained=str(models / "nli"), device="cpu", batch_size=4)
    shapes = []
    model.model.register_forward_pre_hook(
        lambda _module, _args, inputs: shapes.append(tuple(inputs["input_ids"].shape)), with_kwargs=True
    )
    tasks = TaskManager(include_path=str(task_folder()), include_defaults=False)
    found = lm_eval.simple_evaluate(model, tasks=["americas_nli"], task_manager=tasks, bootstrap_iters=0)
    documents = sum(count["effective"] for count in found["n-samples"].values())
    assert sum(rows for rows, _ in shapes) == documents
    assert len(shapes) == -(-documents // 4)
    assert [length for _, length in shapes] == sorted((length for _, length in shapes), reverse=True)


def test_the_usual_options(command, models, real_data, tmp_path):
    run = [*CLASSIFIER, f"pretrained={models / 'nli'}", "--tasks", "americas_nli_quy", "--device", "cpu"]
    run += ["--limit", "21", "--use_cache", tmp_path / "cache"]
    first = command(*run, "--batch_size", "auto:3", "--output_path", tmp_path / "1", TAXLT_DATA=real_data)
    again = command(*run, "--batch_size", "7", "--output_path", tmp_path / "2", TAXLT_DATA=real_data)
    assert (first.code, again.code) == (0, 0), again.stderr
    assert "Requests remaining: 63" in first.stderr
    assert "Cached requests: 63, Requests remaining: 0" in again.stderr
    one, two = (results(tmp_path / run)["results"]["americas_nli_quy"] for run in "12")
    assert one == two
    assert one["sample_len"] == 21


def test_half_precision_and_adapters(command, models, real_data, tmp_path, monkeypatch):
    from peft import LoraConfig, TaskType, get_peft_model
    from transformers import AutoModelForSequenceClassification, BertModel

    torch.manual_seed(1)
    model = AutoModelForSequenceClassification.from_pretrained(models / "nli")
    config = LoraConfig(
        task_type=TaskType.SEQ_CLS, target_modules=["query", "value"], init_lora_weights=False
    )
    adapted = get_peft_model(model, config)
    adapted.save_pretrained(tmp_path / "adapter")
    adapted.merge_and_unload().save_pretrained(tmp_path / "merged")
    make_tokenizer().save_pretrained(tmp_path / "merged")
    # An adapter brings its head with it, so it may stand on a checkpoint that has none.
    BertModel.from_pretrained(models / "nli").save_pretrained(tmp_path / "headless")
    make_tokenizer().save_pretrained(tmp_path / "headless")

    def evaluate(arguments):
        out = tmp_path / f"out-{hash(arguments)}"
        run = [*CLASSIFIER, arguments, "--tasks", "americas_nli_quy", "--limit", "60", "--batch_size", "8"]
        done = command(*run, "--log_samples", "--output_path", out, TAXLT_DATA=real_data)
        assert done.code == 0, done.stderr
        return log_probabilities(samples(out, "americas_nli_quy"))

    merged = evaluate(f"pretrained={tmp_path / 'merged'}")
    plain = evaluate(f"pretrained={models / 'nli'}")
    assert (merged - plain).abs().max() > 0.01
    close = {"atol": 1e-4, "rtol": 1e-4}
    with_adapter = evaluate(f"pretrained={models / 'nli'},peft={tmp_path / 'adapter'}")
    torch.testing.assert_close(with_adapter, merged, **close)
    names = {name: i for i, name in enumerate(NLI_LABELS)}
    id2label = {i: name for name, i in names.items()}
    arguments = {
        "pretrained": str(tmp_path / "headless"),
        "peft": str(tmp_path / "adapter"),
        "id2label": id2label,
    }
    torch.testing.assert_close(evaluate(json.dumps(arguments | {"label2id": names})), merged, **close)
    half = evaluate(f"pretrained={models / 'nli'},dtype=bfloat16")
    assert 1e-4 < (half - plain).abs().max() < 0.5


def test_two_processes_share_the_documents(models, small_data, tmp_path, command):
    run = [
        *CLASSIFIER,
        f"pretrained={models / 'sentiment'}",
        "--tasks",
        "nusax_senti",
        "--batch_size",
        "auto",
    ]
    alone = command(*run, "--output_path", tmp_path / "1", TAXLT_DATA=small_data)
    assert alone.code == 0, alone.stderr
    launch = ["torchrun", "--standalone", "--nproc_per_node", "2", "-m", "lm_eval", *run]
    environment = {"TAXLT_DATA": str(small_data), "ACCELERATE_USE_CPU": "1", "OMP_NUM_THREADS": "1"}
    both = console(*launch, "--output_path", tmp_path / "2", "--log_samples", **environment)
    assert both.code == 0, both.stderr
    assert "nusax_senti_ace on rank 1" in both.stderr
    assert results(tmp_path / "1")["results"] == results(tmp_path / "2")["results"]
    assert len(samples(tmp_path / "2", "nusax_senti_ace")) == 5


def test_too_long_documents_are_truncated_counted_and_reported(command, real_data, tmp_path):
    make_classifier(tmp_path / "short", NLI_LABELS, max_length=48)
    run = [*CLASSIFIER, f"pretrained={tmp_path / 'short'}", "--tasks", "americas_nli_quy", "--limit", "30"]
    done = command(*run, "--output_path", tmp_path / "out", TAXLT_DATA=real_data)
    assert done.code == 0, done.stderr
    rows = [
        line.split("\t") for line in (real_data / "americasnli/test/quy.tsv").read_text().splitlines()[1:31]
    ]
    tokenizer = make_tokenizer()
    expected = sum(len(tokenizer(row[2], row[3])["input_ids"]) > 48 for row in rows)
    assert expected > 0
    assert f"{expected} of 30 documents are longer than 48 tokens and were truncated" in done.stderr
    assert results(tmp_path / "out")["config"]["truncated_documents"] == {"americas_nli_quy": expected}


def test_roberta_positions_hold_two_tokens_fewer_than_they_say(tmp_path):
    from transformers import XLMRobertaConfig, XLMRobertaForSequenceClassification

    from taxlt_mergekit.evaluate.classifier import SequenceClassifierLM

    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = XLMRobertaConfig(vocab_size=300, max_position_embeddings=66, pad_token_id=1, **sizes)
    XLMRobertaForSequenceClassification(config).save_pretrained(tmp_path)
    make_tokenizer(max_length=10**30).save_pretrained(tmp_path)
    assert SequenceClassifierLM(pretrained=str(tmp_path), device="cpu").max_length == 64


@pytest.fixture(scope="module")
def built_in_tasks(tmp_path_factory):
    """lm-eval's own NLI tasks, as they are but for the data, which this machine may not have."""
    folder = tmp_path_factory.mktemp("tasks")
    rows = [{"premise": f"the cat {i}", "hypothesis": f"a dog {i * i}", "label": i % 3} for i in range(40)]
    named = datasets.Features(
        {name: datasets.Value("string") for name in ("premise", "hypothesis")}
        | {"label": datasets.ClassLabel(names=["entailment", "neutral", "contradiction"])}
    )
    datasets.Dataset.from_list(rows, features=named).to_parquet(folder / "named.parquet")
    datasets.Dataset.from_list(rows).to_parquet(folder / "numbered.parquet")
    pair = [
        {"sentence1": row["premise"], "sentence2": row["hypothesis"], "label": row["label"] % 2}
        for row in rows
    ]
    datasets.Dataset.from_list(pair).to_parquet(folder / "pair.parquet")
    sources = {
        "xnli_en": ("xnli/xnli_en.yaml", "named"),
        "xnli_eu": ("xnli_eu/xnli_eu.yaml", "numbered"),
        "afrixnli_answers": ("afrixnli/direct/prompt_2/afrixnli_swa.yaml", "numbered"),
        "afrixnli_names": ("afrixnli/direct/prompt_1/afrixnli_swa.yaml", "numbered"),
        "mrpc": ("glue/mrpc/default.yaml", "pair"),
    }
    for name, (path, data) in sources.items():
        files = {split: str(folder / f"{data}.parquet") for split in ("train", "validation", "test")}
        task = f"include: {BUILT_IN / path}\ntask: copy_{name}\ntag: null\ndataset_path: parquet\n"
        task += f"dataset_name: null\ndataset_kwargs: {json.dumps({'data_files': files})}\n"
        (folder / f"{name}.yaml").write_text(task)
    test = f"dataset_path: parquet\ndataset_kwargs: {json.dumps({'data_files': files})}\n"
    test += "test_split: test\ndoc_to_text: '{{sentence1}}'\ndoc_to_target: '{{sentence2}}'\n"
    (folder / "write.yaml").write_text(test + "task: copy_write\noutput_type: generate_until\n")
    (folder / "read.yaml").write_text(test + "task: copy_read\noutput_type: loglikelihood_rolling\n")
    return folder


def test_built_in_tasks_of_the_usual_columns(command, models, built_in_tasks, tmp_path):
    names = ["xnli_en", "xnli_eu", "afrixnli_answers", "afrixnli_names"]
    run = [*CLASSIFIER, f"pretrained={models / 'nli'}", "--tasks", ",".join(f"copy_{name}" for name in names)]
    done = command(*run, "--include_path", built_in_tasks, "--output_path", tmp_path, "--batch_size", "8")
    assert done.code == 0, done.stderr
    assert "copy_xnli_eu: its labels have no names; taken as XNLI numbers them" in done.stderr
    rows = datasets.Dataset.from_parquet(str(built_in_tasks / "numbered.parquet"))
    scores, _ = plain_scores(models / "nli", list(zip(rows["premise"], rows["hypothesis"], strict=True)))
    order = [1, 2, 0]  # of NLI_LABELS
    expected = accuracy_score(rows["label"], scores[:, order].argmax(dim=1))
    assert {scored["acc,none"] for scored in results(tmp_path)["results"].values()} == {expected}


REFUSALS = {
    "another number of labels": (
        ["two"],
        ["americas_nli_quy"],
        "the head has 2 labels (neg, pos), the task 3",
    ),
    "unrelated names": (["unrelated"], ["americas_nli_quy"], "(sport, politics, arts) are not the task's"),
    "few-shot": (["nli"], ["americas_nli_quy", "--num_fewshot", "2"], "run with --num_fewshot 0"),
    "chat template": (
        ["nli"],
        ["americas_nli_quy", "--apply_chat_template"],
        "run without --apply_chat_template",
    ),
    "generation": (["nli"], ["copy_write"], "copy_write: asks for generated text"),
    "rolling likelihood": (["nli"], ["copy_read"], "copy_read: asks for the likelihood of a text"),
    "no head": (["headless"], ["americas_nli_quy"], "has no weights for bert.pooler.dense.bias"),
    "choices that say nothing": (
        ["two"],
        ["copy_mrpc"],
        "can't tell which label each choice stands for (no, yes)",
    ),
    "no such folder": (["nowhere/"], ["americas_nli_quy"], "no such folder"),
    "not a checkpoint": ([""], ["americas_nli_quy"], "can't load"),
    "a misspelt argument": (
        ["nli,dtpye=float32"],
        ["americas_nli_quy"],
        "unexpected keyword argument 'dtpye'",
    ),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_refusals_are_one_line(command, models, built_in_tasks, small_data, tmp_path, case):
    from transformers import BertConfig, BertForMaskedLM

    (model,), (task, *options), message = REFUSALS[case]
    if model == "headless":
        BertForMaskedLM(BertConfig(vocab_size=300, hidden_size=12, num_hidden_layers=1)).save_pretrained(
            models / model
        )
        make_tokenizer().save_pretrained(models / model)
    run = [
        *CLASSIFIER,
        f"pretrained={models}/{model}",
        "--tasks",
        task,
        "--include_path",
        built_in_tasks,
        *options,
    ]
    done = command(*run, "--output_path", tmp_path / "out", TAXLT_DATA=small_data)
    assert done.code == 1
    assert done.last_line.startswith("Error: ")
    assert message in done.last_line
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


def test_missing_data_is_one_line(command, models, small_data, tmp_path):
    broken = tmp_path / "data"
    shutil.copytree(small_data, broken)
    (broken / "americasnli/dev/quy.tsv").unlink()
    (broken / "americasnli/test/aym.tsv").unlink()
    run = [*CLASSIFIER, f"pretrained={models / 'nli'}", "--tasks"]
    done = command(*run, "americas_nli", TAXLT_DATA=broken)
    assert (done.code, "Traceback" in done.stderr) == (1, False)
    expected = f"Error: AmericasNLI, Aymara, test: TAXLT_DATA={broken} has no americasnli/test/aym.tsv"
    assert done.last_line.startswith(expected)
    done = command(*run, "marc_de")
    assert done.last_line.startswith(
        "Error: MARC, German, test: set TAXLT_DATA=DIR, with marc/dataset_de_test.json"
    )
    done = command(*run, "xnli_xlt_de")  # the server of the test is offline
    assert (done.code, "Traceback" in done.stderr) == (1, False)
    assert re.search(
        r"Error: XNLI, German, test: the hub did not give it .*; go online, or set TAXLT_DATA=DIR",
        done.last_line,
    )
    # Examples come from the validation split, so a run without examples does without it.
    done = command(*run, "americas_nli_quy", TAXLT_DATA=broken)
    assert done.code == 0, done.stderr


def test_generative_models_take_the_same_tasks(command, small_data, tmp_path):
    from transformers import GPT2Config, GPT2LMHeadModel, MT5Config, MT5ForConditionalGeneration

    tokenizer = make_tokenizer()
    sizes = {"vocab_size": len(tokenizer)}
    decoder = GPT2LMHeadModel(GPT2Config(n_embd=16, n_layer=1, n_head=2, **sizes))
    mt5 = MT5Config(d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2, decoder_start_token_id=0, **sizes)
    for name, model in (("decoder", decoder), ("mt5", MT5ForConditionalGeneration(mt5))):
        model.save_pretrained(tmp_path / name)
        tokenizer.save_pretrained(tmp_path / name)
        tasks = "americas_nli_quy,americas_nli_dev_quy,nusax_senti_jav,marc_de,xnli_xlt_de"
        run = ["--model", "hf", "--model_args", f"pretrained={tmp_path / name}", "--tasks", tasks]
        run += ["--num_fewshot", "2", "--log_samples", "--output_path", tmp_path / f"{name}-out"]
        done = command(*run, "--batch_size", "8", TAXLT_DATA=small_data)
        assert done.code == 0, done.stderr
        found = results(tmp_path / f"{name}-out")["results"]
        assert set(found) == set(tasks.split(","))
        assert isinstance(found["nusax_senti_jav"]["f1_macro_stderr,none"], float)
        prompt = samples(tmp_path / f"{name}-out", "americas_nli_quy")[0]["arguments"]["gen_args_0"]["arg_0"]
        assert (
            prompt.count(
                "test quy premise 0\nQuestion: test quy hypothesis 0 True, False, or Neither?\nAnswer:"
            )
            == 1
        )
        assert (
            len(
                re.findall(r"validation quy premise \d\nQuestion: .*\nAnswer: (True|Neither|False)\n", prompt)
            )
            == 2
        )
        for sample in samples(tmp_path / f"{name}-out", "americas_nli_dev_quy"):
            prompt = sample["arguments"]["gen_args_0"]["arg_0"]
            assert prompt.count(sample["doc"]["premise"]) == 1  # never its own example


def test_the_task_files_are_what_the_catalog_says(command):
    groups = ",".join(
        f"{benchmark.group},{benchmark.group}_dev" for benchmark in catalog.load().benchmarks.values()
    )
    assert "All tasks found and valid" in command("validate", "--tasks", groups).stdout
    folder = task_folder()
    generated = task_files()
    assert {name: (folder / name).read_text(encoding="utf-8") for name in generated} == generated
    present = {str(path.relative_to(folder)) for path in folder.glob("**/*yaml")}
    assert present == {name for name in generated if name.endswith("yaml")}
    for benchmark in catalog.load().benchmarks.values():
        readme = (folder / benchmark.group / "README.md").read_text(encoding="utf-8")
        assert all(f"`{benchmark.group}_{code}`" in readme for code in benchmark.tasks)


def test_lm_eval_lists_the_tasks_and_keeps_its_own(tmp_path):
    from lm_eval.tasks.manager import TaskIndex

    listed = console("lm_eval", "ls", "tasks", cwd=tmp_path)
    rows = [line.split("|") for line in listed.stdout.splitlines() if line.startswith("|")]
    names = {row[1].strip() for row in rows if not row[1].startswith("--")} - {"Group", "Tag", "Task"}
    prefixes = {
        f"{benchmark.group}{infix}": benchmark.tasks
        for benchmark in catalog.load().benchmarks.values()
        for infix in ("", "_dev")
    }
    ours = {f"{prefix}_{code}" for prefix, codes in prefixes.items() for code in codes} | set(prefixes)
    stock = TaskIndex.build.__wrapped__([BUILT_IN])
    assert not ours & set(stock)
    assert names == ours | set(stock)


def test_the_explicit_road(models, small_data, tmp_path):
    """Without the start-up file: `--include_path` for the tasks, `register()` for all."""
    environment = {"TAXLT_DATA": str(small_data), "TAXLT_NO_AUTOLOAD": "1", "OMP_NUM_THREADS": "1"}
    run = ["--tasks", "nusax_senti", "--limit", "4", "--output_path", tmp_path / "1"]
    copy = tmp_path / "copy"
    shutil.copytree(task_folder(), copy)
    dummy = console("lm_eval", "--model", "dummy", *run, "--include_path", copy, **environment)
    assert dummy.code == 0, dummy.stderr
    scores = results(tmp_path / "1")
    nine = [
        scores["results"][f"nusax_senti_{code}"]["acc,none"]
        for code in catalog.load().benchmarks["nusax"].languages
    ]
    assert scores["groups"]["nusax_senti"]["acc,none"] == pytest.approx(sum(nine) / 9)
    main = "import taxlt_mergekit as t, lm_eval.__main__ as m; t.register(); m.cli_evaluate()"
    run = [*CLASSIFIER, f"pretrained={models / 'sentiment'}", "--tasks", "nusax_senti_ace"]
    registered = console("python", "-c", main, *run, **environment)
    assert registered.code == 0, registered.stderr
    assert "nusax_senti_ace" in registered.stdout


def test_a_copy_of_the_tasks_replaces_them_without_a_warning(command, models, small_data, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(task_folder() / "americas_nli", copy)
    run = [
        *CLASSIFIER,
        f"pretrained={models / 'nli'}",
        "--tasks",
        "americas_nli_quy",
        "--output_path",
        tmp_path / "1",
    ]
    done = command(*run, "--include_path", copy, TAXLT_DATA=small_data)
    assert done.code == 0, done.stderr
    assert "WARNING" not in done.stderr
    source = results(tmp_path / "1")["configs"]["americas_nli_quy"]["metadata"]["config_source"]
    assert source == str(copy / "americas_nli_quy.yaml")
