"""The README.md of a checkpoint that was made of a sparse fine-tuning: where it comes from."""

from collections.abc import Sequence

from taxlt_mergekit import __version__, markdown

CITATION = (
    "Alan Ansell, Edoardo Maria Ponti, Anna Korhonen, Ivan Vulić. 2022. *Composable Sparse Fine-Tuning for "
    "Cross-Lingual Transfer*. ACL 2022. https://aclanthology.org/2022.acl-long.125"
)


def write(
    name: str, source: str, base: str, entries: int, total: int, left_out: Sequence[str], lang: str | None
) -> str:
    """Markdown with Hugging Face metadata.

    Args:
        name: of the folder.
        source: where the fine-tuning was read, as the user named it.
        base: θ₀.
        entries: parameters that it changes, of `total`.
        left_out: tensors of the file that are not in the checkpoint.
        lang: the language's code, for a language.
    """
    kind = "language" if lang else "task"
    rest = f" Left out of it: {', '.join(left_out)}." if left_out else ""
    return "\n\n".join(
        [
            markdown.metadata(
                base_model=base,
                library_name="transformers",
                tags=["taxlt-mergekit", "task-arithmetic", "sparse-fine-tuning", f"{kind}-vector"],
                language=lang,
            ),
            f"# {name}",
            f"θ for a {kind} vector, τ = θ − θ₀: the sparse fine-tuning `{source}` added to θ₀ by "
            f"taxlt-mergekit {__version__}. It was not trained here. This folder holds a whole checkpoint, "
            "from which mergekit subtracts the base model.",
            f"- **Origin**: {source}\n- **Base model (θ₀)**: {base}\n"
            f"- **Changed**: {entries:,} of {total:,} parameters.{rest}\n- **Format**: {CITATION}\n",
        ]
    )
