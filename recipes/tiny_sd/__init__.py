"""A tiny text-to-image base with styles to learn."""
