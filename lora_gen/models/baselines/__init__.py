"""Published generators of weights, small and written from their mathematics, to compare with.

All write the tokens of one layout from the states of one text encoder, and share one method:
`write(condition, generator)` is the tokens of an adapter for each row.
"""
