"""TensorRT-LLM: built engines, and safetensors on GPUs of NVIDIA, by its own server `trtllm-serve`."""
