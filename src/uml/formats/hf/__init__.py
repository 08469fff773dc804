"""Folders as Hugging Face keeps them: configuration, weights, quantization."""
