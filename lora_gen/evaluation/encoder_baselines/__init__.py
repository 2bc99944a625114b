"""What others read adapters with, re-implemented small, to be beaten on the same data."""
