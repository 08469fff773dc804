"""ExLlamaV3 and ExLlamaV2: EXL3, EXL2 and plain floats on GPUs, hosted by our worker."""
