"""What the generator is asked: text, prompts, examples and base, encoded."""
