"""Makes tiny models and tells what Transformers itself makes of them. Run by an interpreter that has it:

    python make.py FOLDER SOURCE

SOURCE: the demo model as safetensors; its tokenizer serves every model here. Writes `FOLDER/NAME/` each, and to
standard output one JSON object: name -> prompts as tokens and the greedy answers to them.
"""

from __future__ import annotations

import json
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[3]))
from tests.engines.transformers import pack

CHAT = "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"
PROMPTS = ("The king", CHAT.format("Tell me a story."), CHAT.format("Who are you?"), "Two plus two is")
NEW = 20
MARGIN = 1e-3
"""How far the best token must be ahead: arithmetic in another order may change what is closer."""


def main(folder: Path, source: Path) -> None:
    import torch
    import transformers as hf
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    torch.set_num_threads(1)
    tokenizer = hf.AutoTokenizer.from_pretrained(source)
    common: dict[str, Any] = {"vocab_size": len(tokenizer), "eos_token_id": 2, "pad_token_id": 0, "bos_token_id": None}
    small = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 4, "num_attention_heads": 4}
    heads = {**small, "num_key_value_heads": 2, "head_dim": 16, "max_position_embeddings": 256}
    window = {"sliding_window": 8, "layer_types": ["sliding_attention", "full_attention"] * 2}
    made: dict[str, Any] = {
        "window": hf.MistralForCausalLM(hf.MistralConfig(**common, **heads, sliding_window=8)),
        "mixed": hf.Gemma3ForCausalLM(hf.Gemma3TextConfig(**common, **heads, **window)),
        "mamba": hf.MambaForCausalLM(
            hf.MambaConfig(**common, hidden_size=64, num_hidden_layers=2, state_size=8, intermediate_size=128)
        ),
        "t5": hf.T5ForConditionalGeneration(
            hf.T5Config(
                **{**common, "decoder_start_token_id": 0, "is_encoder_decoder": True},
                d_model=64,
                d_kv=16,
                d_ff=128,
                num_layers=2,
                num_heads=4,
            )
        ),
        "bart": hf.BartForConditionalGeneration(
            hf.BartConfig(
                **{**common, "decoder_start_token_id": 2, "forced_eos_token_id": 2},
                d_model=64,
                encoder_layers=2,
                decoder_layers=2,
                encoder_attention_heads=4,
                decoder_attention_heads=4,
                encoder_ffn_dim=128,
                decoder_ffn_dim=128,
                max_position_embeddings=256,
            )
        ),
        # Attention and a recurrent state side by side in every layer.
        "falcon": hf.FalconH1ForCausalLM(
            hf.FalconH1Config(
                **common,
                **heads,
                mamba_d_ssm=64,
                mamba_n_heads=4,
                mamba_d_head=16,
                mamba_d_state=16,
                mamba_n_groups=1,
                mamba_chunk_size=16,
            )
        ),
        "alibi": hf.FalconForCausalLM(
            hf.FalconConfig(**common, hidden_size=64, num_hidden_layers=2, num_attention_heads=4, alibi=True)
        ),
    }
    told: dict[str, Any] = {}
    for seed, (name, model) in enumerate(made.items()):
        torch.manual_seed(seed)
        for parameter in model.parameters():
            if parameter.dim() > 1:
                # Larger than at the start of a training: the likeliest token then stands out.
                torch.nn.init.normal_(parameter, std=0.4)
        save(model, folder / name, source)
        told[name] = answers(model, tokenizer)
        if name in ("t5", "bart", "falcon"):
            told[name]["searched"] = searched(model, tokenizer)
    demo = hf.AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32).eval()
    told["demo"] = {**answers(demo, tokenizer), "searched": searched(demo, tokenizer)}
    told |= adapters(demo, folder, tokenizer)
    bert = hf.BertModel(hf.BertConfig(vocab_size=len(tokenizer), pad_token_id=0, **small)).eval()
    save(bert, folder / "bert", source)
    ids = torch.tensor([tokenizer("A small house")["input_ids"]])
    with torch.no_grad():
        mean = bert(ids).last_hidden_state[0].mean(0)
    told["bert"] = {"vector": torch.nn.functional.normalize(mean, dim=0).tolist()}
    told["quantized"] = quantized(folder, source)
    json.dump(told, sys.stdout)


def save(model: Any, folder: Path, source: Path) -> None:
    """The model beside the demo model's tokenizer."""
    model.eval().save_pretrained(folder)
    for path in source.iterdir():
        if "tokenizer" in path.name or path.name.endswith(".jinja"):
            shutil.copy(path, folder)


def quantized(folder: Path, source: Path) -> dict[str, Any]:
    """The demo model, quantized by every library that this environment has; name -> what the library answers by it."""
    import torch
    import transformers as hf

    made = []

    def by_config(name: str, config: Any) -> None:
        loaded = hf.AutoModelForCausalLM.from_pretrained(source, quantization_config=config, device_map="cpu")
        save(loaded, folder / name, source)
        made.append(name)

    if find_spec("bitsandbytes"):
        # Saved without its scales quantized, a model of 4 bits is spoiled on some processors.
        four = {
            "load_in_4bit": True,
            "bnb_4bit_use_double_quant": True,
            "bnb_4bit_compute_dtype": torch.bfloat16,
        }
        by_config("nf4", hf.BitsAndBytesConfig(**four, bnb_4bit_quant_type="nf4"))
        by_config("fp4", hf.BitsAndBytesConfig(**four, bnb_4bit_quant_type="fp4"))
        by_config("int8", hf.BitsAndBytesConfig(load_in_8bit=True))
    if find_spec("torchao"):
        from torchao.quantization import Float8WeightOnlyConfig, Int8WeightOnlyConfig

        by_config("torchao-int8", hf.TorchAoConfig(Int8WeightOnlyConfig()))
        by_config("torchao-float8", hf.TorchAoConfig(Float8WeightOnlyConfig()))
    if find_spec("compressed_tensors"):
        model = hf.AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32)
        save(packed(model), folder / "packed", source)
        made.append("packed")
    if find_spec("accelerate"):
        pack.bitnet(source, folder / "bitnet")
        pack.fp8(source, folder / "fp8")
        made += ["bitnet", "fp8"]
    return {name: as_it_is(folder / name) for name in made}


def as_it_is(folder: Path) -> dict[str, Any]:
    """What the library answers by a folder, with nothing said of how."""
    import transformers as hf

    model = hf.AutoModelForCausalLM.from_pretrained(folder, dtype="auto", device_map="cpu")
    return answers(model.eval(), hf.AutoTokenizer.from_pretrained(folder))


def packed(model: Any) -> Any:
    """4 bits in groups of 64, by compressed-tensors."""
    import compressed_tensors.quantization as ct
    from compressed_tensors.compressors import ModelCompressor

    each = ct.QuantizationArgs(num_bits=4, group_size=64, strategy="group", symmetric=True)
    scheme = ct.QuantizationScheme(targets=["Linear"], weights=each)
    config = ct.QuantizationConfig(
        config_groups={"all": scheme}, ignore=["lm_head"], format="pack-quantized", quantization_status="compressed"
    )
    ct.apply_quantization_config(model, config)
    for module in model.modules():
        if hasattr(module, "weight_scale"):
            groups = module.weight.data.view(module.weight.shape[0], -1, 64)
            module.weight_scale.data = (groups.abs().amax(-1) / 7).to(module.weight_scale.dtype)
    compressor = ModelCompressor.from_pretrained_model(model)
    compressor.compress_model(model)
    save_pretrained = model.save_pretrained

    def save_with_config(folder: Path) -> None:
        save_pretrained(folder)
        compressor.update_config(folder)

    model.save_pretrained = save_with_config
    return model


def answers(model: Any, tokenizer: Any) -> dict[str, Any]:
    """Prompts and what follows them greedily, as far as the best token is well ahead."""
    import torch

    prompts = [tokenizer(text)["input_ids"] for text in PROMPTS]
    found = []
    for prompt in prompts:
        out = model.generate(
            torch.tensor([prompt]),
            max_new_tokens=NEW,
            do_sample=False,
            output_scores=True,
            return_dict_in_generate=True,
        )
        tokens = out.sequences[0, -len(out.scores) :].tolist()
        clear = [float(best[0] - best[1]) > MARGIN for best in (scores[0].topk(2).values for scores in out.scores)]
        found.append(tokens[: clear.index(False) if False in clear else len(tokens)])
    return {"prompts": prompts, "answers": found}


def searched(model: Any, tokenizer: Any) -> list[list[int]]:
    """What a search by beams finds for each prompt: `BEAMS` of `test_beams.py`."""
    import torch

    beams = {"num_beams": 3, "length_penalty": 1.5, "early_stopping": True, "no_repeat_ngram_size": 3}
    found = []
    for text in PROMPTS:
        prompt = tokenizer(text)["input_ids"]
        out = model.generate(torch.tensor([prompt]), max_new_tokens=NEW, do_sample=False, **beams)
        found.append(out[0, 1 if model.config.is_encoder_decoder else len(prompt) :].tolist())
    return found


def adapters(demo: Any, folder: Path, tokenizer: Any) -> dict[str, Any]:
    """Two adapters of the demo model, with what it answers by each."""
    import peft
    import torch

    told: dict[str, Any] = {}
    for seed, name in enumerate(("one", "two")):
        torch.manual_seed(100 + seed)
        config = peft.LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
        model = peft.get_peft_model(demo, config)
        for part, parameter in model.named_parameters():
            if "lora_B" in part:
                torch.nn.init.normal_(parameter, std=0.5)
        model.eval().save_pretrained(folder / name)
        told[name] = answers(model, tokenizer)
        demo = model.unload()
    return told


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
