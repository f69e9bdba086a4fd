"""The paper's recipes, merge_configs/, written from the catalog and table 9."""

from collections.abc import Iterator

from taxlt_mergekit.paper import catalog
from taxlt_mergekit.paper.catalog import Benchmark, Model, Size, recipe_path, vector_folder
from taxlt_mergekit.paper.tables import printed_factor
from taxlt_mergekit.paper.variants import VARIANTS, Variant


def recipe_files(
    other: Model | None = None, only: str | None = None, root: str = "merge_configs"
) -> Iterator[tuple[str, str]]:
    """Every recipe of the paper as (path below the folder of recipes, text).

    Languages are those of tables 5 and 6, scaling factors those of table 9. XLM-R base stands at the top,
    XLM-R large in a folder of its own; +SRC has no target language, hence one recipe a benchmark.

    Args:
        other: write XLM-R base's recipes for this model in its place.
        only: a benchmark's key.
        root: the folder of recipes, for the commands in their comments.
    """
    models: dict[Size, Model] = {"base": other} if other else catalog.load().models
    for key, benchmark in catalog.load().benchmarks.items():
        if only not in (None, key):
            continue
        for size, model in models.items():
            for variant in VARIANTS.values():
                factor = printed_factor(key, size, variant.key)
                if factor is None:
                    continue
                languages = benchmark.languages if "target" in variant.signs else [None]
                for language in languages:
                    path = recipe_path(key, size, variant.key, language)
                    yield path, _recipe(f"{root}/{path}", benchmark, model, variant, factor.value, language)


def chat_recipe(model: Model, chat: str, language: str, root: str) -> tuple[str, str]:
    """A chat vector, as (path below the folder of recipes, text).

    Huang et al. 2024 (Chat Vector) add what instruction tuning made of a decoder to the same decoder trained
    further on a language: θ' = θ_lang + (θ_chat − θ₀). That is +TGT with the chat model in the task's place.

    Args:
        model: θ₀, the decoder that both started from.
        chat: the instruction-tuned one.
        language: the code that its vector has.
        root: the folder of recipes, for the command in the comment.
    """
    path = f"{language}_chat_vector.yml"
    lines = [
        f"# {language}, chat vector, {chat} on {model.id}",
        f"# θ' = θ₀ + τ_chat + 1 τ_{language}    (Huang et al. 2024, Chat Vector; λ = 1 is theirs)",
        "#",
        "# base_model: θ₀, the decoder that both started from",
        "# task:       instruction-tuned from it; head, tokenizer and chat template are its own",
        f"# target:     {language}, θ₀ trained further on raw text, with θ₀'s vocabulary:",
        f"#             taxlt train language {model.id} --corpus {language}.txt --lang {language}",
        "#",
        f"# mergekit-yaml {root}/{path} out/",
        "merge_method: xlt_additive",
        f"base_model: {model.id}",
        "models:",
        *_model_entry(chat, "role: task"),
        *_model_entry(vector_folder(model.folder, "lang", language), "role: target, weight: 1"),
        "dtype: bfloat16",
    ]
    return path, "\n".join(lines) + "\n"


def _recipe(
    path: str, benchmark: Benchmark, model: Model, variant: Variant, weight: float, language: str | None
) -> str:
    codes = {"source": benchmark.source, "target": language or ""}
    languages = {
        "source": catalog.load().sources[benchmark.source],
        "target": benchmark.languages.get(language or ""),
    }
    subject = f"{languages['target']} ({language})" if language else f"all languages of {benchmark.title}"
    task_vector = vector_folder(model.folder, "task", benchmark.task_vector)
    formula = " ".join(
        ["θ' = θ₀ + τ_task", *(f"{sign} {weight:g} τ_{codes[role]}" for role, sign in variant.signs.items())]
    )
    whose, where = ("", ", from the hub") if model in catalog.load().models.values() else (", XLM-R base", "")
    task_name = f"{benchmark.group}_{language}" if language else benchmark.group
    comment = [
        f"{subject}, {benchmark.title}, {variant.name}, {model.id}",
        f"{formula}    (Parović et al. 2024, section 2.1; λ from table 9{whose})",
        "",
        f"base_model: θ₀, the pre-trained model{where}",
        f"task:       {benchmark.task_vector}, trained in {languages['source']}:",
        f"            taxlt train task {model.id} --task {benchmark.task_vector}",
    ]
    for role in variant.signs:
        comment += [
            f"{role + ':':<11} {languages[role]}, trained on raw text:",
            f"            taxlt train language {model.id} --corpus {codes[role]}.txt --lang {codes[role]}",
        ]
    comment += [
        "",
        f"mergekit-yaml {path} out/",
        f"lm_eval --model hf-seq-cls --model_args pretrained=out/ --tasks {task_name}",
    ]
    body = [
        f"merge_method: {variant.merge_method}",
        f"base_model: {model.id}",
        "models:",
        *_model_entry(task_vector, "role: task"),
    ]
    for role in variant.signs:
        body += _model_entry(
            vector_folder(model.folder, "lang", codes[role]), f"role: {role}, weight: {weight:g}"
        )
    body.append("dtype: float32")
    return "\n".join([*(f"# {line}".rstrip() for line in comment), *body]) + "\n"


def _model_entry(folder: str, parameters: str) -> list[str]:
    return [f"  - model: {folder}", f"    parameters: {{{parameters}}}"]
