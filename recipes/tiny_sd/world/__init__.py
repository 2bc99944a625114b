"""Captioned scenes, styles that change them, and their words."""
