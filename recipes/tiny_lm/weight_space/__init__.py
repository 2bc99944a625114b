"""What merging, compressing, editing and the rest do to behavior in the world of `tiny_lm`."""
