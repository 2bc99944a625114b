"""Adapters found by what their weights say: features, vectors, index and search."""
