"""Lenses: LoRA adapters that turn the similarity of all-MiniLM-L6-v2 to a criterion in words."""
