"""A Hugging Face folder as one GGUF file: which architectures, under which names, with which vocabulary."""
