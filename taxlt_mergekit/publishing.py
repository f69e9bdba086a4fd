"""Uploading a finished vector to the Hugging Face hub, once and at the end."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from taxlt_mergekit.errors import UserError
from taxlt_mergekit.training_console import is_main, say


def prepare(folder: Path, arguments: Mapping[str, Any]) -> str | None:
    """Create the repository before the work begins, so that a missing login costs nothing.

    Raises:
        UserError: the hub refuses.
    """
    if not arguments.get("push_to_hub"):
        return None
    name = arguments.get("hub_model_id") or folder.name
    if not is_main():
        return name
    import huggingface_hub

    try:
        created = huggingface_hub.create_repo(
            name, private=arguments.get("hub_private_repo"), token=arguments.get("hub_token"), exist_ok=True
        )
    except Exception as error:  # network, login, rights: the hub's own kinds
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"--push-to-hub: the hub did not create {name} ({reason})") from error
    return created.repo_id


def publish(folder: Path, repository: str, arguments: Mapping[str, Any]) -> None:
    """Upload the finished folder.

    Raises:
        UserError: the hub refuses; the folder is complete all the same.
    """
    if not is_main():
        return
    import huggingface_hub

    try:
        huggingface_hub.upload_folder(
            repo_id=repository,
            folder_path=folder,
            token=arguments.get("hub_token"),
            revision=arguments.get("hub_revision"),
            commit_message="Trained with taxlt-mergekit",
        )
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"{folder} is complete, but uploading it to {repository} failed ({reason})"
        ) from error
    say(f"pushed to https://huggingface.co/{repository}")
