"""`python -m tests.corpus.child SANDBOX [PART...]`: judge the corpus; one JSON line a finding.

Run apart from the tests, under a limit on address space, so that a case that eats memory, hangs
or kills its process cannot take the tests with it.
"""

from __future__ import annotations

import json
import resource
import sys
from dataclasses import asdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the factories of the tests

import tests.corpus.acts_of_disk
import tests.corpus.acts_of_flooding
import tests.corpus.acts_of_training
import tests.corpus.acts_of_words
import tests.corpus.archives
import tests.corpus.cards
import tests.corpus.configs
import tests.corpus.prompts
import tests.corpus.runs
import tests.corpus.stores
import tests.corpus.weights  # noqa: F401
from tests.corpus.case import CASES
from tests.corpus.guard import address_space
from tests.corpus.oracle import Oracle

HEADROOM = 1_500_000_000
"""Address space beyond what the imported libraries have reserved."""


def main() -> None:
    sandbox, parts = Path(sys.argv[1]).resolve(), sys.argv[2:]
    oracle = Oracle(sandbox)
    limit = address_space() + HEADROOM
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    for case in CASES.values():
        if parts and not any(part in case.id for part in parts):
            continue
        for finding in oracle.judge(case):
            print(json.dumps(asdict(finding)), flush=True)


if __name__ == "__main__":
    main()
