"""A small language model that scores conversations: found, copied into the quality model's folder, loaded from there."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from ground.errors import UserError

if TYPE_CHECKING:
    from pipelines.quality.ifd import IfdScorer

_FIELD = "curation.quality.ifd.model"
_PATTERNS = ("*.json", "*.safetensors", "*.txt", "*.model")  # weights as safetensors alone, no code, no pickles


def language_model_files(path_or_name: str) -> list[Path]:
    """The files of a causal language model in a folder or, by name, on the Hugging Face hub or in its cache.

    Raises:
        UserError: there is no such model, or it has no safetensors weights.
    """
    folder = Path(path_or_name).expanduser()
    if not folder.is_dir():
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

        try:
            folder = Path(snapshot_download(path_or_name, allow_patterns=[*_PATTERNS], ignore_patterns=["*/*"]))
        except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError):
            problem = f"{path_or_name!r} is neither a folder nor a model that the Hugging Face hub gives"
            raise UserError(_FIELD, problem, "give a folder, or check the name and HF_TOKEN") from None
    files = sorted(file for pattern in _PATTERNS for file in folder.glob(pattern))
    if not any(file.suffix == ".safetensors" for file in files):
        raise UserError(_FIELD, f"{path_or_name!r} has no *.safetensors", "convert it, or give another model")
    return files


def take_language_model(path_or_name: str, folder: Path) -> None:
    """Copy a model's files into ``folder``, from where workers of any node load it.

    Raises:
        UserError: as for ``language_model_files``, or it is no causal language model.
    """
    folder.mkdir(parents=True)
    for file in language_model_files(path_or_name):
        shutil.copyfile(file, folder / file.name)
    load_ifd_scorer(folder, 2)  # says at once if it cannot serve


def load_ifd_scorer(folder: Path, max_tokens: int) -> IfdScorer:
    """The scorer of a copied model, in single precision on the CPU.

    Raises:
        UserError: the folder holds no causal language model that `transformers` knows.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer  # these take seconds to import

    from pipelines.quality.ifd import IfdScorer

    try:
        model = AutoModelForCausalLM.from_pretrained(
            folder, dtype="float32", trust_remote_code=False, use_safetensors=True, local_files_only=True
        )
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(_FIELD, f"is no causal language model ({reason})", "give another one, such as GPT-2") from None
    longest = getattr(model.config, "max_position_embeddings", None) or max_tokens
    model.train(False)
    return IfdScorer(model, tokenizer, min(max_tokens, longest))
