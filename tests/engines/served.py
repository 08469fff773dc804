"""Small programs that stand in for `vllm` and `trtllm-serve`: they take the real arguments and refuse all others.

Arguments and fields were read from vLLM 0.32 (`arg_utils.py`, `cli_args.py`, `protocol.py`) and TensorRT-LLM
(`commands/serve.py`, `serve/openai_protocol.py`). What they answer is the last message again.
"""

from __future__ import annotations

import argparse
import json
import os
import socketserver
import sys
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, ClassVar


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split())


VLLM_FLAGS = _names(
    "--uds --host --port --served-model-name --max-model-len --max-num-seqs --max-num-batched-tokens --kv-cache-dtype "
    "--tensor-parallel-size --pipeline-parallel-size --gpu-memory-utilization --runner --speculative-config "
    "--chat-template --dtype --tool-call-parser --kv-cache-memory-bytes --max-loras --max-cpu-loras"
)
VLLM_SWITCHES = _names(
    "--disable-uvicorn-access-log --disable-log-stats --disable-fastapi-docs --enforce-eager "
    "--no-enable-prefix-caching --enable-auto-tool-choice --enable-sleep-mode --enable-lora"
)
TRTLLM_FLAGS = _names(
    "--host --port --backend --log_level --max_batch_size --max_seq_len --max_num_tokens --tensor_parallel_size "
    "--pipeline_parallel_size --chat_template --tokenizer --free_gpu_memory_fraction"
)
TRTLLM_FIELDS = _names(
    "model messages prompt stream stream_options n stop seed ignore_eos max_tokens min_tokens temperature top_k "
    "top_p min_p presence_penalty frequency_penalty repetition_penalty logit_bias logprobs top_logprobs "
    "response_format tools tool_choice chat_template_kwargs add_generation_prompt echo best_of"
)
"""Of its requests, those that we may send; it answers 400 for any field that it does not have."""


def write_program(folder: Path, name: str) -> Path:
    """A program of this name that runs this file."""
    path = folder / "bin" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    root = Path(__file__).parents[2]
    path.write_text(
        f"#!{sys.executable}\nimport sys\nsys.path.insert(0, {str(root)!r})\n"
        f"from tests.engines.served import main\nmain({name!r}, sys.argv[1:])\n"
    )
    path.chmod(0o755)
    return path


def main(name: str, words: list[str]) -> None:
    """Serve as the program of this name does."""
    real = vllm_arguments(words) if name == "vllm" else trtllm_arguments(words)
    sys.stderr.write(f"started with {json.dumps(words)} on {os.environ.get('CUDA_VISIBLE_DEVICES', 'all')}\n")
    if (Path(real.model) / "too-large").exists():
        raise SystemExit("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.")
    Answers.server_name, Answers.served = name, getattr(real, "served_model_name", None)
    Answers.adapters = {one["name"] for one in with_adapters(real)} if name == "vllm" else set()
    if getattr(real, "uds", None):
        with socketserver.ThreadingUnixStreamServer(real.uds, Answers) as unix:
            unix.serve_forever()
    with socketserver.ThreadingTCPServer((real.host, int(real.port)), Answers) as server:
        server.serve_forever()


def vllm_arguments(words: list[str]) -> argparse.Namespace:
    """As `vllm serve MODEL ...` reads them."""
    parser = argparse.ArgumentParser("vllm serve", allow_abbrev=False)
    parser.add_argument("command", choices=["serve"])
    parser.add_argument("model")
    for flag in VLLM_FLAGS:
        parser.add_argument(flag)
    for switch in VLLM_SWITCHES:
        parser.add_argument(switch, action="store_true")
    parser.add_argument("--max-lora-rank", type=int, choices=[1, 8, 16, 32, 64, 128, 256, 320, 512], default=16)
    parser.add_argument("--lora-modules", type=json.loads, nargs="+", default=[])
    return parser.parse_args(words)


def with_adapters(real: argparse.Namespace) -> list[dict[str, str]]:
    """Those of the start, each looked at as vLLM does: whether there is room for its rank, and whether it fits."""
    if int(real.max_cpu_loras or 1) < int(real.max_loras or 1):
        raise SystemExit("ValueError: max_cpu_loras must be >= max_loras")
    for one in real.lora_modules:
        if not real.enable_lora:
            raise SystemExit("RuntimeError: LoRA is not enabled. Use --enable-lora to enable LoRA.")
        rank = json.loads((Path(one["path"]) / "adapter_config.json").read_bytes())["r"]
        if rank > real.max_lora_rank:
            raise SystemExit(f"ValueError: LoRA rank {rank} is greater than max_lora_rank {real.max_lora_rank}.")
        if (Path(one["path"]) / "of-another-model").exists():
            raise SystemExit(
                f"ValueError: Call to add_lora method failed: While loading {one['path']}, expected target modules in "
                "{'qkv_proj'} but received ['c_attn']. Please verify that the loaded LoRA module is correct"
            )
    found: list[dict[str, str]] = real.lora_modules
    return found


def trtllm_arguments(words: list[str]) -> argparse.Namespace:
    """As `trtllm-serve serve MODEL ...` reads them, by click."""
    for word in words:
        if word.startswith("--") and word not in TRTLLM_FLAGS:
            raise SystemExit(f"Usage: trtllm-serve [OPTIONS] MODEL\n\nError: No such option: {word}")
    parser = argparse.ArgumentParser("trtllm-serve", allow_abbrev=False)
    parser.add_argument("command", choices=["serve"])
    parser.add_argument("model")
    for flag in TRTLLM_FLAGS:
        parser.add_argument(flag)
    return parser.parse_args(words)


class Answers(BaseHTTPRequestHandler):
    """The endpoints of either."""

    protocol_version = "HTTP/1.1"
    server_name: ClassVar[str] = ""
    served: ClassVar[str | None] = None
    adapters: ClassVar[set[str]] = set()
    asleep: ClassVar[bool] = False

    def address_string(self) -> str:
        return "client"

    def do_GET(self) -> None:
        if self.path == "/is_sleeping" and self.may_sleep():
            self._reply({"is_sleeping": Answers.asleep})
        else:
            self._reply({}, 200 if self.path == "/health" else 404)

    def may_sleep(self) -> bool:
        """vLLM has these endpoints in its development mode only, and does it with its argument only."""
        return os.environ.get("VLLM_SERVER_DEV_MODE") == "1" and "--enable-sleep-mode" in sys.argv

    def do_POST(self) -> None:
        if self.path in ("/sleep?level=1", "/wake_up") and self.may_sleep():
            Answers.asleep = self.path != "/wake_up"
            self._reply({})
            return
        body = json.loads(self.rfile.read(int(self.headers.get("content-length", 0))) or b"{}")
        fault = self._vllm_fault(body) if self.server_name == "vllm" else self._trtllm_fault(body)
        if fault:
            self._reply(*fault)
        elif self.path == "/tokenize" and self.server_name == "vllm":
            self._reply({"tokens": [*body["prompt"].encode()], "count": len(body["prompt"]), "max_model_len": 9})
        elif self.path == "/detokenize" and self.server_name == "vllm":
            self._reply({"prompt": bytes(body["tokens"]).decode()})
        elif self.path in ("/v1/chat/completions", "/v1/completions"):
            self._generate(body)
        else:
            self._reply({"detail": "Not Found"}, 404)

    def _vllm_fault(self, body: dict[str, Any]) -> tuple[dict[str, Any], int] | None:
        if self.headers.get("authorization") != f"Bearer {os.environ['VLLM_API_KEY']}":
            return {"error": "Unauthorized"}, 401
        if body.get("model") not in (None, self.served, *self.adapters):
            message = f"The model `{body['model']}` does not exist."
            return {"error": {"message": message, "type": "NotFoundError", "param": "model", "code": 404}}, 404
        if isinstance(body.get("logit_bias"), list):
            message = "1 validation error: logit_bias Input should be a valid dictionary"
            return {"error": {"message": message, "type": "BadRequestError", "param": None, "code": 400}}, 400
        if len(said(body)) > 200:
            message = (
                "This model's maximum context length is 64 tokens. However, your prompt contains 300 input tokens, "
                "which exceeds this limit even without any output tokens. Please reduce the length of the input prompt."
            )
            return {"error": {"message": message, "type": "BadRequestError", "param": "input_tokens", "code": 400}}, 400
        return None

    def _trtllm_fault(self, body: dict[str, Any]) -> tuple[dict[str, Any], int] | None:
        unknown = sorted(set(body) - {*TRTLLM_FIELDS})
        if unknown or "model" not in body:
            message = f"[{{'type': 'extra_forbidden', 'loc': ('body', '{(unknown or ['model'])[0]}')}}]"
            return {"object": "error", "message": message, "type": "BadRequestError", "param": None, "code": 400}, 400
        return None

    def _generate(self, body: dict[str, Any]) -> None:
        text = f"{said(body)} {json.dumps({k: v for k, v in sorted(body.items()) if k not in ('messages', 'prompt')})}"
        chat = self.path.endswith("chat/completions")
        head = {"id": "x", "created": 1, "model": body.get("model") or self.served or "m"}
        usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
        if not body.get("stream"):
            content = {"message": {"role": "assistant", "content": text}} if chat else {"text": text}
            choice = {"index": 0, **content, "finish_reason": "stop"}
            self._reply({**head, "object": "chat.completion", "choices": [choice], "usage": usage})
            return
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("connection", "close")
        self.end_headers()
        for piece, finish in ((text[:5], None), (text[5:], "stop")):
            part = {"delta": {"content": piece}} if chat else {"text": piece}
            event = {**head, "choices": [{"index": 0, **part, "finish_reason": finish}]}
            self.wfile.write(b"data: " + json.dumps(event).encode() + b"\n\n")
        if (body.get("stream_options") or {}).get("include_usage"):
            self.wfile.write(b"data: " + json.dumps({**head, "choices": [], "usage": usage}).encode() + b"\n\n")
        self.wfile.write(b"data: [DONE]\n\n")
        self.close_connection = True

    def _reply(self, value: dict[str, Any], status: int = 200) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def said(body: dict[str, Any]) -> str:
    """The prompt, or the last message."""
    return str(body["prompt"] if "prompt" in body else (body.get("messages") or [{}])[-1].get("content"))
