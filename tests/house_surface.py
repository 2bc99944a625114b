"""The public names and the commands, pinned: a change of either is a decision."""

PUBLIC = [
    "Adapter",
    "AdapterIndex",
    "BaseModelSpec",
    "Condition",
    "LoraGenError",
    "LoraGenPipeline",
    "LoraPair",
    "TokenLayout",
    "Zoo",
    "compress_adapter",
    "edit_adapter",
    "federate_adapters",
    "lineage",
    "load_adapter",
    "merge_adapters",
    "resolve_base",
    "save_adapter",
    "score_adapter",
]

VERBS = {
    "lora-gen": [
        *("apply", "audit", "bulk", "choose", "compress"),
        *("convert", "doctor", "edit", "embed", "evaluate"),
        *(
            "export",
            "federate",
            "generate",
            "inspect",
            "map",
            "merge",
            "nowcast",
            "refine",
            "score",
            "search",
            "similar",
            "zoo",
        ),
    ],
    "lora-gen bulk": ["encode", "evaluate", "generate"],
    "lora-gen zoo": [
        *("add", "block", "build", "duplicates", "forget", "list"),
        *("quarantine", "remove", "show", "suspects", "tree", "verify"),
    ],
}
