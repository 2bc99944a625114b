"""`lora-gen apply`: what a base answers with an adapter, beside what it answers alone."""

from __future__ import annotations

from typing import Annotated

import typer

from lora_gen.cli import options
from lora_gen.cli.common import print_answers, print_json, quiet_libraries
from lora_gen.errors import BaseModelError

Inputs = Annotated[list[str], typer.Argument(metavar="INPUT...", help="Inputs to answer.")]


def apply(
    adapter: options.AdapterFolder,
    inputs: Inputs,
    *,
    base: options.Base = None,
    json_output: options.Json = False,
) -> None:
    """Answer inputs with an adapter, beside the base's own answers.

    \b
    lora-gen apply my-adapter "maria.lopez@acme.org" "j.doe@example.com"
    lora-gen apply my-adapter "maria.lopez@acme.org" --json
    lora-gen apply my-adapter -- "-5"          an input that begins with a dash
    """
    quiet_libraries()
    from lora_gen.adapter.io import load_adapter
    from lora_gen.adapter.named_base import resolve_named_base
    from lora_gen.cli.answers import Answerer

    loaded = load_adapter(adapter)
    if base is None and loaded.base is None:
        raise BaseModelError(f"`{adapter}` does not name its base. Pass it with `--base`.")
    folder = base or str(resolve_named_base(loaded.base or ""))
    answers = Answerer(folder, inputs).answers(loaded)
    if json_output:
        print_json(answers)
    else:
        print_answers(answers)
