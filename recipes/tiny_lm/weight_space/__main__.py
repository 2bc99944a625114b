"""Several measurements with one base loaded.

python -m recipes.tiny_lm.weight_space compress lineage edit federate paths merge
"""

from __future__ import annotations

import sys
from importlib import import_module

from recipes.tiny_lm.weight_space.bench import Bench

if __name__ == "__main__":
    bench = Bench()
    for name in sys.argv[1:]:
        bench.inputs = 16
        import_module(f"recipes.tiny_lm.weight_space.{name}").measure(bench)
