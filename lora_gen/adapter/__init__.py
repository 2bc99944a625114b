"""Adapters in memory and on disk."""
