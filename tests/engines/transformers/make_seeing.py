"""Makes tiny models that read images, and tells what Transformers itself makes of them. Run by one that has it:

    python make_seeing.py FOLDER SOURCE < '{"image": BASE64, "other": BASE64}'

SOURCE: the demo model as safetensors; its tokenizer serves every model here. Writes `FOLDER/NAME/` each, as the hub has
them, and to standard output one JSON object: name -> the greedy answers to `ASKED`, as tokens, and how long their
prompts are.
"""

from __future__ import annotations

import base64
import io
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ASKED: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("What is this?", ("image",)),
    ("What is this?", ("other",)),
    ("Which is larger?", ("image", "other")),
    ("Who are you?", ()),
)
"""A question, and the images before it."""
NEW = 12
MARGIN = 1e-3
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
    "{% for c in m['content'] %}{% if c['type'] == 'image' %}IMAGE{% else %}{{ c['text'] }}{% endif %}{% endfor %}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
MARKS = {"llava": "<image>", "qwen": "<|vision_start|><|image_pad|><|vision_end|>", "gemma": "<start_of_image>"}
EXTRA = (
    *("<image>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"),
    *("<start_of_image>", "<end_of_image>", "<image_soft_token>"),
)
SMALL = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
VISION = {**SMALL, "image_size": 56, "patch_size": 14}


def main(folder: Path, source: Path) -> None:
    import torch
    import transformers as hf
    from PIL import Image
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    torch.set_num_threads(1)
    told = json.load(sys.stdin)
    images = {name: Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB") for name, data in told.items()}
    tokenizer = hf.AutoTokenizer.from_pretrained(source)
    tokenizer.add_tokens(list(EXTRA), special_tokens=True)
    found: dict[str, Any] = {}
    for seed, make in enumerate((llava, qwen, gemma)):
        torch.manual_seed(seed)
        name, place = make.__name__, folder / make.__name__
        model = make(tokenizer)
        for part, parameter in model.named_parameters():
            if parameter.dim() > 1:
                # Larger than at the start of a training: the likeliest token then stands out. Gemma multiplies what
                # stands for its tokens, and would say one of them only.
                torch.nn.init.normal_(parameter, std=0.02 if name == "gemma" and "embed_tokens" in part else 0.3)
        model.eval().save_pretrained(place)
        save_tokenizer(name, tokenizer, place)
        processor = processors(name, place, hf)
        found[name] = [answer(model, processor, text, [images[one] for one in which]) for text, which in ASKED]
    json.dump(found, sys.stdout)


def text_of(tokenizer: Any) -> dict[str, Any]:
    """What the language models have in common."""
    size = {"num_key_value_heads": 2, "max_position_embeddings": 512, "vocab_size": len(tokenizer)}
    return {**SMALL, **size, "eos_token_id": 2, "pad_token_id": 0, "bos_token_id": None}


def llava(tokenizer: Any) -> Any:
    import transformers as hf

    config = hf.LlavaConfig(
        vision_config=hf.CLIPVisionConfig(**VISION, projection_dim=64),
        text_config=hf.LlamaConfig(**text_of(tokenizer), head_dim=16),
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        vision_feature_layer=-1,
    )
    return hf.LlavaForConditionalGeneration(config)


def qwen(tokenizer: Any) -> Any:
    import transformers as hf

    id_of = tokenizer.convert_tokens_to_ids
    sections = {"rope_type": "default", "rope_theta": 10_000.0, "mrope_section": [2, 3, 3]}
    config = hf.Qwen2VLConfig(
        vision_config={"embed_dim": 64, "hidden_size": 64, "depth": 2, "num_heads": 4, "mlp_ratio": 2}
        | {"patch_size": 14, "spatial_merge_size": 2, "temporal_patch_size": 2},
        text_config={**text_of(tokenizer), "rope_parameters": sections},
        image_token_id=id_of("<|image_pad|>"),
        video_token_id=id_of("<|video_pad|>"),
        vision_start_token_id=id_of("<|vision_start|>"),
        vision_end_token_id=id_of("<|vision_end|>"),
    )
    return hf.Qwen2VLForConditionalGeneration(config)


def gemma(tokenizer: Any) -> Any:
    import transformers as hf

    id_of = tokenizer.convert_tokens_to_ids
    text = hf.Gemma3TextConfig(
        **text_of(tokenizer), head_dim=16, sliding_window=8, layer_types=["sliding_attention", "full_attention"]
    )
    config = hf.Gemma3Config(
        vision_config=hf.SiglipVisionConfig(**VISION),
        text_config=text,
        mm_tokens_per_image=4,
        image_token_id=id_of("<image_soft_token>"),
        boi_token_id=id_of("<start_of_image>"),
        eoi_token_id=id_of("<end_of_image>"),
    )
    return hf.Gemma3ForConditionalGeneration(config)


def save_tokenizer(name: str, tokenizer: Any, place: Path) -> None:
    """The tokenizer, and what says how images are prepared, by hand: as the hub has the files."""
    tokenizer.save_pretrained(place)
    if name == "gemma":
        path = place / "tokenizer_config.json"
        marks = {"image_token": EXTRA[7], "boi_token": EXTRA[5], "eoi_token": EXTRA[6]}
        path.write_text(json.dumps({**json.loads(path.read_text()), "extra_special_tokens": marks}))
    (place / "chat_template.jinja").write_text(TEMPLATE.replace("IMAGE", MARKS[name]))
    square = {"height": 56, "width": 56}
    prepared: dict[str, dict[str, Any]] = {
        "llava": {"image_processor_type": "CLIPImageProcessor", "size": {"shortest_edge": 56}, "crop_size": square},
        "qwen": {"image_processor_type": "Qwen2VLImageProcessor", "min_pixels": 28 * 28, "max_pixels": 28 * 28 * 16},
        "gemma": {"image_processor_type": "Gemma3ImageProcessor", "size": square},
    }
    whole: dict[str, dict[str, Any]] = {
        "llava": {"processor_class": "LlavaProcessor", "patch_size": 14, "num_additional_image_tokens": 1},
        "qwen": {"processor_class": "Qwen2VLProcessor"},
        "gemma": {"processor_class": "Gemma3Processor", "image_seq_length": 4},
    }
    whole["llava"]["vision_feature_select_strategy"] = "default"
    (place / "preprocessor_config.json").write_text(json.dumps(prepared[name]))
    (place / "processor_config.json").write_text(json.dumps(whole[name]))


def processors(name: str, place: Path, hf: Any) -> tuple[Any, Any]:
    """The tokenizer and the image processor, each by itself: nothing of what is to be tested."""
    return hf.AutoTokenizer.from_pretrained(place), hf.AutoImageProcessor.from_pretrained(place)


def answer(model: Any, processor: tuple[Any, Any], text: str, images: Sequence[Any]) -> dict[str, Any]:
    """What the library makes of a question after images, as far as the best token is well ahead."""
    import torch

    tokenizer, reader = processor
    name = {"llava": "llava", "qwen2_vl": "qwen", "gemma3": "gemma"}[model.config.model_type]
    seen = dict(reader(images=list(images), return_tensors="pt")) if images else {}
    tokens = "".join(expanded(name, seen, place) for place in range(len(images)))
    prompt = f"<|im_start|>user\n{tokens}{text}<|im_end|>\n<|im_start|>assistant\n"
    ids = tokenizer(prompt, add_special_tokens=False, return_tensors="pt")["input_ids"]
    more: dict[str, Any] = {}
    if name == "gemma":
        seen = {"pixel_values": seen["pixel_values"]} if seen else {}
        more = {"token_type_ids": (ids == model.config.image_token_id).long()}
    elif name == "qwen":
        more = {"mm_token_type_ids": (ids == model.config.image_token_id).long()}
    out = model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        **seen,
        **(more if images else {}),
        max_new_tokens=NEW,
        do_sample=False,
        output_scores=True,
        return_dict_in_generate=True,
    )
    made = out.sequences[0, ids.shape[1] :].tolist()
    clear = [float(best[0] - best[1]) > MARGIN for best in (scores[0].topk(2).values for scores in out.scores)]
    return {"prompt": ids.shape[1], "tokens": made[: clear.index(False) if False in clear else len(made)]}


def expanded(name: str, seen: dict[str, Any], place: int) -> str:
    """The tokens that stand for one image in a prompt."""
    if name == "llava":
        return "<image>" * 16
    if name == "gemma":
        return f"\n\n<start_of_image>{'<image_soft_token>' * 4}<end_of_image>\n\n"
    count = int(seen["image_grid_thw"][place].prod()) // 4
    return f"<|vision_start|>{'<|image_pad|>' * count}<|vision_end|>"


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
