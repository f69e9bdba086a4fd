"""The tasks of eval_tasks/ beside lm-eval's own: what runs, what is averaged, for which models."""

import re
import shutil

import datasets
import pytest
from sklearn.metrics import accuracy_score

from taxlt_mergekit.paper import catalog
from taxlt_mergekit.paper.tasks import task_files, task_folder
from tests.helpers.evaluation import BUILT_IN, CLASSIFIER, make_tokenizer, plain_scores, results, samples
from tests.helpers.hosts import console


@pytest.mark.parametrize("name", list(catalog.load().benchmarks))
def test_a_group_is_the_mean_of_its_members_and_another_runs_every_language(
    command, models, small_data, tmp_path, name
):
    benchmark = catalog.load().benchmarks[name]
    model = {"nusax": "sentiment", "marc": "two"}.get(name, "nli")
    groups = (benchmark.group, f"{benchmark.group}_dev")
    asked = [f"{group}_all" for group in groups] if benchmark.outside_mean else groups
    done = command(
        *[*CLASSIFIER, f"pretrained={models / model}", "--tasks", ",".join(asked)],
        *["--output_path", tmp_path, "--batch_size", "auto"],
        TAXLT_DATA=small_data,
    )
    assert done.code == 0, done.stderr
    assert "WARNING" not in done.stderr
    found = results(tmp_path)
    for group in groups:
        assert set(found["group_subtasks"][group]) == {f"{group}_{code}" for code in benchmark.languages}
        if benchmark.outside_mean:
            outside = {f"{group}_{code}" for code in benchmark.outside_mean}
            assert set(found["group_subtasks"][f"{group}_all"]) == {group} | outside
            assert f"{group}_all" not in found["groups"]  # no other mean under a like name
        for metric in {"acc", benchmark.metric}:
            scores = [found["results"][f"{group}_{code}"][f"{metric},none"] for code in benchmark.languages]
            assert found["groups"][group][f"{metric},none"] == pytest.approx(sum(scores) / len(scores))
            assert found["groups"][group][f"{metric}_stderr,none"] > 0
        for code in benchmark.tasks:
            assert f"{group}_{code}" in done.stdout
    effective = found["n-samples"][f"{benchmark.group}_{next(iter(benchmark.tasks))}"]
    assert effective == {"original": 5, "effective": 5}


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


def test_lm_eval_lists_the_tasks_and_keeps_its_own(command):
    from lm_eval.tasks.manager import TaskIndex

    listed = command("ls", "tasks")
    rows = [line.split("|") for line in listed.stdout.splitlines() if line.startswith("|")]
    names = {row[1].strip() for row in rows if not row[1].startswith("--")} - {"Group", "Tag", "Task"}
    ours = {name.rpartition("/")[2].removesuffix(".yaml") for name in task_files() if name.endswith(".yaml")}
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
    nine = {f"nusax_senti_{code}" for code in catalog.load().benchmarks["nusax"].languages}
    assert set(scores["results"]) == nine | {"nusax_senti"}
    main = "import taxlt_mergekit as t, lm_eval.__main__ as m; t.register(); m.cli_evaluate()"
    run = [*CLASSIFIER, f"pretrained={models / 'sentiment'}", "--tasks", "nusax_senti_ace"]
    registered = console("python", "-c", main, *run, **environment)
    assert registered.code == 0, registered.stderr
    assert "nusax_senti_ace" in registered.stdout


def test_a_copy_of_the_tasks_replaces_them_without_a_warning(command, models, small_data, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(task_folder() / "americas_nli", copy)
    run = [*CLASSIFIER, f"pretrained={models / 'nli'}", "--tasks", "americas_nli_quy"]
    run += ["--output_path", tmp_path / "1"]
    done = command(*run, "--include_path", copy, TAXLT_DATA=small_data)
    assert done.code == 0, done.stderr
    assert "WARNING" not in done.stderr
    source = results(tmp_path / "1")["configs"]["americas_nli_quy"]["metadata"]["config_source"]
    assert source == str(copy / "americas_nli_quy.yaml")
