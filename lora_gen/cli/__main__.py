"""`python -m lora_gen.cli`, the same as `lora-gen`."""

from lora_gen.cli.main import main

if __name__ == "__main__":
    main()
