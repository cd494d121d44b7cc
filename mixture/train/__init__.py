"""The trainer: a thin loop on PyTorch's own parts and Hugging Face models."""
