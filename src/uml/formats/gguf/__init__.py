"""GGUF: headers read, and heads written."""
