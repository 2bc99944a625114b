"""`python -m tests.corpus.guided_child TARGET [libFuzzer options]`: atheris on one reader."""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["lora_gen"]):
    from tests.corpus import targets


def main() -> None:
    name = sys.argv.pop(1)

    def target(data: bytes) -> None:
        targets.run(name, data)

    atheris.Setup(sys.argv, target)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
