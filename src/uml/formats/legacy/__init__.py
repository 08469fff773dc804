"""Files from before GGUF: GGML, GGMF, GGJT."""
