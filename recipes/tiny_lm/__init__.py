"""Everyday text clean-up by a tiny causal LM."""
