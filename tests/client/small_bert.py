"""A tiny random BERT model with a head for classification."""

from __future__ import annotations

from typing import Any

CLASSES = 3


def small_bert(kind: str = "Sequence", **options: Any) -> Any:
    """A model with random weights.

    Args:
        kind: `Sequence` or `Token`.
        options: Further members of its configuration.
    """
    import transformers

    config = transformers.BertConfig(
        vocab_size=50,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=8,
        num_labels=CLASSES,
        **options,
    )
    return getattr(transformers, f"BertFor{kind}Classification")(config)
