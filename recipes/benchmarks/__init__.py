"""Speed and memory of generators, each measured in a process of its own."""
