"""What every test needs: no network, no progress bars in the captured output, no wall-clock."""

import os

from hypothesis import settings

# huggingface_hub and transformers read these once, at import: set before the first import.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

# A busy machine is no failure of the code, and a deadline would say it is.
settings.register_profile("lora_gen", deadline=None)
settings.load_profile("lora_gen")
