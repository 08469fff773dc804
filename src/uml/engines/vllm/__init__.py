"""vLLM: safetensors on GPUs, for many requests at once, by its own server `vllm serve`."""
