"""Zoos from the hub: listed by base, pinned, filtered, checked, described by their cards."""
