"""The tasks of the tiny_lm world: inputs, primitives, compositions, wordings and splits."""
