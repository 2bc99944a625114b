"""Networks: they map tensors to tensors and decide nothing."""
