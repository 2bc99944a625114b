"""Simpler ways from a zoo and a text to an adapter; a generator must be told apart from them."""
