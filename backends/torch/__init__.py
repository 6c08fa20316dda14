"""PyTorch behind the neutral layer."""
