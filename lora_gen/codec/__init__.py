"""The one bridge between adapters (modules, factors) and tokens."""
