from __future__ import annotations

from dataclasses import replace

import pytest
from adapter_factories import tiny_spec

from lora_gen.errors import GeneratorError
from lora_gen.pipeline_checks import require_trained

SPEC = tiny_spec()


def test_trained_base_is_accepted_by_its_id():
    require_trained(SPEC, ["acme/other", SPEC.id])


def test_trained_base_is_accepted_by_its_config():
    spec = replace(tiny_spec(), id="a copy under another name")
    with pytest.raises(GeneratorError, match="trained for acme/other, not for `a copy under"):
        require_trained(spec, ["acme/other"])


def test_generator_that_names_no_base_is_refused():
    sentence = "trained for no base that it names, not for .* pass|ask .* `--allow-untrained`"
    with pytest.raises(GeneratorError, match=sentence):
        require_trained(SPEC, [])
