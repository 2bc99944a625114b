"""English sentences that realize many criteria at once, from plain text tables and a seed."""
