"""The command `lora-gen`: one file a verb, thin."""
