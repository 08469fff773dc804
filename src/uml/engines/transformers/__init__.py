"""Hugging Face Transformers: models of safetensors and PyTorch files, many answers at once.

Parent's side: `engine`, `spec`. Child's side: `host`, and everything that imports torch.
"""
