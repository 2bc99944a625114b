"""Worlds: one folder each, with its data, recipes and log."""
