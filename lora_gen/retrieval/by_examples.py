"""Search by solved examples: the base reads them once, and no adapter is run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lora_gen.errors import GeneratorError
from lora_gen.retrieval.shown import Examples
from lora_gen.retrieval.table import Filters

if TYPE_CHECKING:
    from lora_gen.retrieval.search import AdapterIndex, Hit

_NO_FILTERS = Filters()


def search_by_examples(
    index: AdapterIndex,
    examples: Examples,
    *,
    text: str | None = None,
    top: int = 10,
    filters: Filters = _NO_FILTERS,
) -> list[Hit]:
    """The adapters of the encoder's base that do what examples show, the best first.

    Args:
        index: With a trained encoder.
        examples: Input-output pairs, three at least; six are better.
        text: What the adapter should do, if it can be said as well.
        top: At most so many.
        filters: Which adapters may be found.

    Raises:
        ConditionError: There are too few examples, or the text is unusable.
        GeneratorError: The encoder never learned from examples, or from several bases.
        MissingDependencyError: There is no trained encoder.
    """
    from lora_gen.conditioning.chat import load_causal_lm

    encoder = index.vectorizer.require_encoder()
    if len(encoder.trained_bases) != 1:
        raise GeneratorError(
            f"The adapter encoder learned from {len(encoder.trained_bases)} bases, but examples "
            "are shown to one. Search by description."
        )
    said = None
    if text is not None:
        reader = index.vectorizer.text_encoder
        said = encoder.embed_texts(reader.encode([text]), reader)[0]
    base, chat = load_causal_lm(encoder.trained_bases[0])
    return index.nearest(
        encoder.embed_examples(base, chat, examples, said), top=top, filters=filters
    )
