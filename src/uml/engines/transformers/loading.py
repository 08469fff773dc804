"""From files to a model in memory: what the library is told, and what its errors mean."""

from __future__ import annotations

import importlib.metadata
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
import transformers

from uml.core.errors import BadFile, BadOption, CorruptFile, LoadFailed, OutOfMemory, UmlError, UnsupportedArchitecture
from uml.core.model import READERS, Role
from uml.core.plan import LoadPlan
from uml.engines.transformers import most, trust
from uml.engines.transformers.quantize import check_packages, method_of, quantization_config
from uml.engines.transformers.reading import lean, reads_apart
from uml.engines.transformers.rope import with_rope

_ON_GPU: Final = ("flash_attention_2", "flash_attention_3", "flex_attention")
"""Kernels for GPUs. On a processor the last one is compiled anew for every length of a text, for minutes."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model with its tokenizer. folder: where both came from. code: whether code of the model runs."""

    model: Any
    tokenizer: Any
    folder: Path
    code: bool


def load(plan: LoadPlan) -> Loaded:
    """Load what a plan says. Raises an UmlError for whatever is wrong with the files, the options or the memory."""
    folder = folder_of(plan)
    check_packages(plan.model.id, method_of(plan))
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    # It would say at every layer of every step what it computes in.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    code = trust.check(plan.model.id, folder, plan.options.trust_remote_code)
    common: dict[str, Any] = {"trust_remote_code": code, "local_files_only": True}
    try:
        config = with_rope(transformers.AutoConfig.from_pretrained(folder, **common), plan.options)
        # A kernel that the configuration names was refused before; no other is fetched.
        model = _model(plan, folder, config, common)
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, **common)
    except UmlError:
        raise
    except Exception as error:
        # The boundary to the library: it raises errors of every kind for files that are not what they should be.
        raise translated(plan, error) from error
    return Loaded(model.eval(), tokenizer, folder, code)


def folder_of(plan: LoadPlan) -> Path:
    """The folder with the model's configuration. Raises BadFile where there is none."""
    path = plan.model.info.path
    folder = path if path.is_dir() else path.parent
    if not (folder / "config.json").is_file():
        inside = next((file.parent for file in plan.model.info.files if file.name == "config.json"), None)
        if inside is None:
            raise BadFile(path, "there is no config.json beside the weights, so nothing says what model they are of")
        folder = inside
    return folder


def _model(plan: LoadPlan, folder: Path, config: Any, common: Mapping[str, Any]) -> Any:
    options = plan.options
    safe = any(folder.glob("*.safetensors"))
    kind = _kind(plan, config)
    arguments: dict[str, Any] = {
        **common,
        "config": config,
        "dtype": options.dtype if options.dtype != "auto" else "auto",
        "use_safetensors": safe,
        # Files of PyTorch are programs; without this one they are data only.
        "weights_only": True,
        # It reads a whole file and then makes tensors of it, where `lean` does not read these one by one.
        "disable_mmap": not options.mmap and not reads_apart(),
        "output_loading_info": True,
    }
    attention = _attention(plan)
    if attention:
        arguments["attn_implementation"] = attention
    stored = getattr(config.get_text_config(), "dtype", None)
    quantized = quantization_config(plan, stored)
    if quantized is not None:
        arguments["quantization_config"] = quantized
    arguments |= _places(plan)
    with lean(plan, stored):
        try:
            model, told = kind.from_pretrained(folder, **arguments)
        except ValueError as error:
            if attention or "scaled_dot_product_attention" not in str(error):
                raise
            model, told = kind.from_pretrained(folder, **arguments, attn_implementation="eager")
    _check_whole(plan, folder, told)
    if model.device.type == "meta":
        raise BadOption("max_memory", list(options.max_memory), "more of it: not even the first layer has room")
    return model


def _check_whole(plan: LoadPlan, folder: Path, told: Mapping[str, Any]) -> None:
    """The library fills what is missing with random numbers, and says so in a log that nobody reads."""
    missing = sorted(told.get("missing_keys") or ())
    if missing:
        raise CorruptFile(folder, f"{len(missing)} of the model's tensors are in none of its files: {missing[0]}")
    wrong = list(told.get("mismatched_keys") or ())
    if wrong:
        raise CorruptFile(folder, f"the tensor {wrong[0][0]} has another shape than the configuration says")


def _kind(plan: LoadPlan, config: Any) -> Any:
    """The library's class for what the model is for."""
    if plan.model.info.role is Role.EMBEDDING:
        return transformers.AutoModel
    if plan.model.info.role in READERS:
        return transformers.AutoModelForSequenceClassification
    if config.is_encoder_decoder:
        return transformers.AutoModelForSeq2SeqLM
    names = config.architectures or [""]
    mapping = transformers.MODEL_FOR_CAUSAL_LM_MAPPING
    if type(config) not in mapping and "ConditionalGeneration" in names[0]:
        return transformers.AutoModelForImageTextToText
    return transformers.AutoModelForCausalLM


def _attention(plan: LoadPlan) -> str:
    """The library's name of an attention; empty: its own choice. Raises BadOption for one that needs a GPU."""
    options, on_gpu = plan.options, any(device != "cpu" for device in plan.placement.device_bytes)
    if options.attention in _ON_GPU and not on_gpu:
        raise BadOption("attention", options.attention, "auto, sdpa or eager: this one is for GPUs")
    if options.attention != "auto":
        return options.attention
    if options.flash_attention == "on":
        # What PyTorch has itself is fused on processors, too.
        return "flash_attention_2" if on_gpu else "sdpa"
    return "eager" if options.flash_attention == "off" else ""


def _places(plan: LoadPlan) -> dict[str, Any]:
    """Where weights go: nothing to say for a model that is whole in memory."""
    options = plan.options
    devices = [device for device in plan.placement.device_bytes if device != "cpu"]
    limits = {**most.limits(options.max_memory)}
    if not devices and not limits and not options.offload_folder:
        return {}
    places: dict[str, Any] = {"device_map": "auto"}
    if len(devices) == 1 and set(plan.placement.device_bytes) == set(devices) and not limits:
        places["device_map"] = devices[0]
    elif not limits:
        limits = {most.name_of(device): size for device, size in plan.placement.device_bytes.items()}
    if limits:
        places["max_memory"] = limits
    if options.offload_folder:
        places["offload_folder"] = str(Path(options.offload_folder).expanduser())
    return places


def translated(plan: LoadPlan, error: Exception) -> UmlError:
    """An error of the library as one of ours."""
    said = f"{type(error).__name__}: {str(error) or 'nothing more was said'}"
    short = said.splitlines()[0][:400]
    name, path = plan.model.id, plan.model.info.path
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or "allocate memory" in said:
        return OutOfMemory(name, plan.placement.device, plan.footprint.total_bytes)
    if "weights_only" in said or "UnpicklingError" in said:
        return CorruptFile(
            path, "a file of PyTorch holds something else than weights, which may be a program; not read"
        )
    if "backend tokenizer" in said:
        return CorruptFile(
            path,
            "there is no tokenizer that can be read beside the weights",
            "tokenizer.json or tokenizer.model, with tokenizer_config.json, from where the weights are from",
        )
    if "SafetensorError" in said:
        return CorruptFile(path, short)
    if "does not recognize this architecture" in said or "Unrecognized model" in said:
        version = importlib.metadata.version("transformers")
        return UnsupportedArchitecture(
            name, f"Transformers {version} does not know the architecture {plan.model.info.architecture or 'it names'}"
        )
    if isinstance(error, ImportError):
        return LoadFailed(name, f"a package is missing in the environment of the engine: {short}")
    if isinstance(error, json.JSONDecodeError | UnicodeDecodeError):
        return CorruptFile(path, short)
    return LoadFailed(name, short)
