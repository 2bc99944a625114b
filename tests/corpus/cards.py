"""U03, U04 and P03: what a stranger writes into a card, a name or a tag."""

from __future__ import annotations

import json
from pathlib import Path

from tests.corpus.build import CONFIG, MODULES, adapter, config, header_of, lora, plain, raw
from tests.corpus.case import OK, Build, add

BENIGN = ("load", "inspect", "doctor", "zoo_add", "archive_of", "upload")
READERS = ("load", "inspect", "doctor", "upload")
HOSTILE = (
    "<script>document.title='owned'</script>",
    "<img src=x onerror=\"document.title='owned'\">",
    "[a](javascript:document.title='owned')",
    "<a href=\"javascript:document.title='owned'\">a</a>",
    "<iframe srcdoc=\"<script>parent.document.title='owned'</script>\"></iframe>",
    "<svg onload=\"document.title='owned'\">",
    "<style>@import url(http://outside.example/a.css)</style>"
    "<link rel=stylesheet href=//outside.example>",
    "![a](http://outside.example/a.png) <img src=http://outside.example/b.png>",
    "<object data='data:text/html,<script>1</script>'></object>",
    "${document.title='owned'} {{ 7*7 }} `x` {% raw %}",
    "--><!-- ]]> <![CDATA[ <?x ?>",
    "</td></tr></table><form action=//outside.example>"
    "<input autofocus onfocus=\"document.title='owned'\">",
    "\u202etxt.exe\u0000\x1b[2J",
    "| a |\n|---|\n" + "| b |\n" * 1000,
)


def card(text: str) -> Build:
    def build(folder: Path) -> Path:
        adapter(folder)
        (folder / "README.md").write_text(text, "utf-8")
        return folder

    return build


def named(text: str) -> Build:
    """The text wherever a name is kept: config fields of free text, and metadata."""

    def build(folder: Path) -> Path:
        metadata = {"format": "pt", "name": text, "tags": text}
        fields = config(revision=text, future_field=text, layer_names=[text])
        adapter(folder, data=raw(*header_of(plain(), __metadata__=metadata)))
        (folder / CONFIG).write_text(json.dumps(fields))
        return folder

    return build


def aliases() -> str:
    lines = ["---", 'a: &a ["x","x","x","x","x","x","x","x","x"]']
    for old, new in zip("abcdefgh", "bcdefghi", strict=True):
        lines.append(f"{new}: &{new} [{','.join([f'*{old}'] * 9)}]")
    return "\n".join([*lines, "---", "# card"])


for number, text in enumerate(HOSTILE):
    add("U03", f"card-{number}", card(text), OK, entrances=BENIGN)
    add(
        "U03", f"names-{number}", named(text), (OK, "CONFIG", "FORMAT", "REFUSED"), entrances=BENIGN
    )
    module = f"{MODULES[0]}.{text}"
    tensors = lora(module) if "\0" not in text else lora(module.replace("\0", ""))
    add(
        "U03",
        f"module-{number}",
        lambda folder, tensors=tensors: adapter(folder, tensors=tensors),
        ("FORMAT", "MISMATCH", "LIMIT"),
        entrances=BENIGN,
    )
    add(
        "U03",
        f"base-{number}",
        lambda folder, text=text: adapter(folder, base_model_name_or_path=text),
        (OK, "BASE", "CONFIG", "STORE", "MISMATCH", "REFUSED"),
        entrances=READERS,
    )
for name, text in (
    ("alias-bomb", aliases()),
    ("tag-runs-code", "---\na: !!python/object/apply:os.system ['touch owned']\n---\n"),
    ("tag-imports", "---\na: !!python/module:antigravity\n---\n"),
    ("many-keys", "---\n" + "".join(f"k{i}: {i}\n" for i in range(10**6)) + "---\n"),
    ("deep", "---\na: " + "[" * 100_000 + "\n---\n"),
    ("merge-keys", "---\n<<: [" + "{a: 1}, " * 10_000 + "]\n---\n"),
    ("not-text", "---\na: \ud7ff\ufffe\n---\n"),
):
    allowed = (OK, "LIMIT") if len(text) > 1_000_000 else OK
    add("U04", name, card(text), allowed, entrances=BENIGN)
