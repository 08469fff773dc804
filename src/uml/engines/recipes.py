"""What the environment of each engine is made of. Data: `uml engine install`, the documentation and the tests read it.

Pins are what was tried together; `uml engine install NAME==VERSION` takes another version of the engine itself and
leaves the rest to the installer. PyTorch comes first and alone, for otherwise some other package's wish decides which
one it is. On a machine with a GPU its build is left to the installer: the one of the public index is for CUDA.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from uml.core.install import Recipe
from uml.engines.llamacpp.native import RECIPE as LLAMACPP

_MIB: Final = 1 << 20
_GIB: Final = 1 << 30

WORKER: Final = (
    "uvicorn>=0.40,<1",
    "uvloop>=0.21,<1; sys_platform != 'win32'",
    "httptools>=0.7,<1",
    "orjson>=3.11,<4",
)
"""What `uml.worker` imports beside the standard library: of this package's own dependencies, the same bounds."""

TORCH: Final = ("torch==2.13.0",)
_TORCH_CUDA_DISK: Final = 6 * _GIB
"""With the libraries of CUDA that its wheel requires; not measured here. Without: 757 MiB, measured."""
_TORCH_CUDA_FETCH: Final = 3 * _GIB

TORCH_CPU: Final = "https://download.pytorch.org/whl/cpu"
"""PyTorch's own index of builds without CUDA, five times smaller. (That of Macs and Windows is small anyway.)"""

CUDA: Final = frozenset({"cuda"})

RECIPES: Final[Mapping[str, Recipe]] = {
    recipe.engine: recipe
    for recipe in (
        LLAMACPP,
        Recipe(
            engine="transformers",
            title="Hugging Face Transformers",
            distribution="transformers",
            version="5.23.0",
            module="transformers",
            steps=(
                TORCH,
                (
                    "transformers=={version}",
                    "accelerate>=1.10,<2",
                    "peft==0.21.2",
                    "llguidance==1.9.1",
                    "jinja2>=3.1,<4",
                    "bitsandbytes==0.50.2",
                    "torchao==0.18.0",
                    "compressed-tensors>=0.20,<0.21",
                    "sentencepiece>=0.2,<1",
                    "pillow>=11",
                    # What prepares images for SmolVLM writes their places in words.
                    "num2words>=0.5.14,<1",
                    *WORKER,
                ),
            ),
            disk_bytes={"cpu": 1400 * _MIB, "cuda": _TORCH_CUDA_DISK + 700 * _MIB},
            download_bytes={"cpu": 500 * _MIB, "cuda": _TORCH_CUDA_FETCH + 300 * _MIB},
            cpu_index=TORCH_CPU,
        ),
        Recipe(
            engine="gptqmodel",
            title="Transformers with GPTQModel, for GPTQ and AWQ",
            distribution="gptqmodel",
            version="7.7.0",
            module="gptqmodel",
            steps=(
                TORCH,
                (
                    "transformers==5.23.0",
                    "accelerate>=1.10,<2",
                    "peft==0.21.2",
                    "llguidance==1.9.1",
                    "jinja2>=3.1,<4",
                    "sentencepiece>=0.2,<1",
                    *WORKER,
                ),
                # What it asks for itself, but for PyTorch >= 2.14.1, which it does not need.
                (
                    "optimum>=2.3,<3",
                    "pypcre>=0.6.4",
                    "tokenicer>=0.0.14",
                    "logbar>=0.4.15",
                    "device-smi>=0.5.7",
                    "defuser>=0.0.28",
                    "threadpoolctl>=3.7",
                    "requests>=2.34",
                    "protobuf>=7.36",
                    "dill>=0.4.1",
                    "maturin>=1.15",
                    "torchao==0.18.0",
                    "datasets>=5.1",
                    "pillow>=13",
                    "ninja",
                    "setuptools",
                    "wheel",
                ),
                ("--no-deps", "--no-build-isolation", "gptqmodel=={version}"),
            ),
            disk_bytes={"cpu": 1400 * _MIB, "cuda": _TORCH_CUDA_DISK + 700 * _MIB},
            download_bytes={"cpu": 500 * _MIB, "cuda": _TORCH_CUDA_FETCH + 300 * _MIB},
            cpu_index=TORCH_CPU,
            note="it changes Transformers when it is imported, and so has an environment of its own",
        ),
        Recipe(
            engine="onnx",
            title="ONNX Runtime GenAI",
            distribution="onnxruntime-genai",
            version="0.18.0",
            module="onnxruntime_genai",
            steps=(
                (
                    "onnxruntime==1.31.1",
                    "onnxruntime-genai=={version}",
                    "tokenizers>=0.22,<1",
                    "llguidance==1.9.1",
                    "jinja2>=3.1,<4",
                    *WORKER,
                ),
            ),
            disk_bytes={"cpu": 300 * _MIB},
            download_bytes={"cpu": 100 * _MIB},
        ),
        Recipe(
            engine="onnx-builder",
            title="The builder of ONNX Runtime GenAI, for `uml convert --to onnx`",
            distribution="onnxruntime-genai",
            version="0.18.0",
            module="onnxruntime_genai.models.builder",
            steps=(
                TORCH,
                (
                    "onnxruntime==1.31.1",
                    "onnxruntime-genai=={version}",
                    "onnx==1.23.2",
                    "onnx-ir==1.1.0",
                    "transformers==5.23.0",
                    "peft==0.21.2",
                    "sentencepiece>=0.2,<1",
                ),
            ),
            disk_bytes={"cpu": 1500 * _MIB, "cuda": _TORCH_CUDA_DISK + 700 * _MIB},
            download_bytes={"cpu": 500 * _MIB, "cuda": _TORCH_CUDA_FETCH + 300 * _MIB},
            cpu_index=TORCH_CPU,
            hosted=False,
            note="it makes models and runs none: the engine onnx does that",
        ),
        Recipe(
            engine="exllamav3",
            title="ExLlamaV3",
            distribution="exllamav3",
            version="1.6.5",
            module="exllamav3",
            steps=(TORCH, ("exllamav3=={version}", "ninja", "llguidance==1.9.1", "jinja2>=3.1,<4", *WORKER)),
            disk_bytes={"cpu": _TORCH_CUDA_DISK + _GIB},
            download_bytes={"cpu": _TORCH_CUDA_FETCH + _GIB // 4},
            needs=CUDA,
            note="it compiles its kernels at the first load, for minutes, and needs nvcc and a C++ compiler for it",
        ),
        Recipe(
            engine="exllamav2",
            title="ExLlamaV2",
            distribution="exllamav2",
            version="0.3.2",
            module="exllamav2",
            steps=(TORCH, ("exllamav2=={version}", "ninja", "llguidance==1.9.1", "jinja2>=3.1,<4", *WORKER)),
            disk_bytes={"cpu": _TORCH_CUDA_DISK + _GIB},
            download_bytes={"cpu": _TORCH_CUDA_FETCH + _GIB // 4},
            needs=CUDA,
            note="it compiles its kernels at the first load, for minutes, and needs nvcc and a C++ compiler for it",
        ),
        Recipe(
            engine="vllm",
            title="vLLM",
            distribution="vllm",
            # The last for the PyTorch of the other recipes, which a cache of the installer then has already.
            version="0.32.0",
            module="vllm",
            steps=(("vllm=={version}",),),
            disk_bytes={"cpu": _TORCH_CUDA_DISK + 4 * _GIB},
            download_bytes={"cpu": _TORCH_CUDA_FETCH + 2 * _GIB},
            needs=CUDA,
            hosted=False,
        ),
        Recipe(
            engine="tensorrt-llm",
            title="TensorRT-LLM",
            distribution="tensorrt-llm",
            version="1.2.1",
            module="tensorrt_llm",
            steps=(("tensorrt-llm=={version}",),),
            disk_bytes={"cpu": _TORCH_CUDA_DISK + 12 * _GIB},
            download_bytes={"cpu": _TORCH_CUDA_FETCH + 5 * _GIB},
            needs=CUDA,
            hosted=False,
            pythons=((3, 12), (3, 10)),
            note="its package fetches the library from NVIDIA's index; it needs the CUDA toolkit 13 and Open MPI",
        ),
    )
}
