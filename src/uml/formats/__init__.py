"""Readers of model files: headers only, never weights."""
