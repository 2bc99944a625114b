"""Training with Accelerate: `accelerate launch -m training RECIPE.yaml [key=value ...]`.

A recipe names a task; the task owns model, data and loss; the loop owns steps, checkpoints and
hardware. The package runs from a checkout and is not part of the wheel.
"""
