"""Drawings for the page, built as element trees: a text in them can never become markup."""
