"""ONNX Runtime GenAI by its C interface (`ort_genai_c.h` of 0.18), the child's side.

Its Python module holds the interpreter's lock while it computes: on a prompt of 1,800 tokens the whole process stood
still for a second, could not be asked to stop, and several requests took turns. Called by ctypes, the same library
computes without the lock, can be told to stop in the middle of a prompt, and runs requests beside each other.
"""

from __future__ import annotations

import ctypes
import importlib.util
import json
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from ctypes import POINTER, byref, c_bool, c_char_p, c_double, c_int32, c_int64, c_size_t, c_void_p
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

_OUT: Final = POINTER(c_void_p)
_FUNCTIONS: Final[Mapping[str, tuple[Any, ...]]] = {
    "OgaCreateConfig": (c_char_p, _OUT),
    "OgaConfigOverlay": (c_void_p, c_char_p),
    "OgaCreateModelFromConfig": (c_void_p, _OUT),
    "OgaCreateGeneratorParams": (c_void_p, _OUT),
    "OgaGeneratorParamsSetSearchNumber": (c_void_p, c_char_p, c_double),
    "OgaGeneratorParamsSetSearchBool": (c_void_p, c_char_p, c_bool),
    "OgaCreateGenerator": (c_void_p, c_void_p, _OUT),
    "OgaGenerator_AppendTokens": (c_void_p, POINTER(c_int32), c_size_t),
    "OgaGenerator_GenerateNextToken": (c_void_p,),
    "OgaGenerator_GetNextTokens": (c_void_p, POINTER(POINTER(c_int32)), POINTER(c_size_t)),
    "OgaGenerator_GetLogits": (c_void_p, _OUT),
    "OgaGenerator_RewindTo": (c_void_p, c_size_t),
    "OgaGenerator_SetRuntimeOption": (c_void_p, c_char_p, c_char_p),
    "OgaTensorGetShapeRank": (c_void_p, POINTER(c_size_t)),
    "OgaTensorGetShape": (c_void_p, POINTER(c_int64), c_size_t),
    "OgaTensorGetData": (c_void_p, _OUT),
    "OgaCreateAdapters": (c_void_p, _OUT),
    "OgaLoadAdapter": (c_void_p, c_char_p, c_char_p),
    "OgaUnloadAdapter": (c_void_p, c_char_p),
    "OgaSetActiveAdapter": (c_void_p, c_void_p, c_char_p),
}
"""Arguments of what can fail: each gives back a result with a message, or nothing."""
_QUICK: Final = frozenset(
    {
        *("OgaGenerator_GetLogits", "OgaGenerator_GetNextTokens"),
        *("OgaTensorGetShapeRank", "OgaTensorGetShape", "OgaTensorGetData"),
    }
)
"""They take microseconds, and keep the interpreter's lock: a thread that gives it back waits to get it again."""
_DESTROYERS: Final = (
    "OgaDestroyConfig",
    "OgaDestroyModel",
    "OgaDestroyGeneratorParams",
    "OgaDestroyGenerator",
    "OgaDestroyTensor",
    "OgaDestroyAdapters",
    "OgaDestroyResult",
)
TELEMETRY: Final[Mapping[str, str]] = {"ORT_DISABLE_TELEMETRY": "1", "ORT_TELEMETRY_DISABLED": "1"}
"""What keeps both libraries from starting their uploader at all. The switch in their interfaces comes too late: it
leaves an event of the process and a device id, in files under the cache folder."""


_SEARCH: Final[Mapping[bytes, float]] = {b"num_beams": 1, b"repetition_penalty": 1}
"""What a folder's configuration may say of choosing tokens, said otherwise: requests say it here."""


class NativeError(Exception):
    """The library refused; its own words."""


class Library:
    """The functions of the shared library, with telemetry off. Loaded once a process.

    Raises ImportError where the packages onnxruntime-genai and onnxruntime are not installed.
    """

    def __init__(self) -> None:
        # Read when the libraries are initialized, so before they are.
        os.environ.update(TELEMETRY)
        runtime = _shared_object("onnxruntime", "onnxruntime", "capi")
        # The library looks for the runtime by this name.
        os.environ["ORT_LIB_PATH"] = str(runtime)
        ctypes.CDLL(str(runtime))
        path = str(_shared_object("onnxruntime_genai", "onnxruntime-genai"))
        self._library, self._quick = ctypes.CDLL(path), ctypes.PyDLL(path)
        library = self._library
        library.OgaResultGetError.argtypes = (c_void_p,)
        library.OgaResultGetError.restype = c_char_p
        library.OgaSetTelemetryEnabled.argtypes = (c_bool,)
        library.OgaSetTelemetryEnabled.restype = None
        self._destroyers: dict[str, Callable[[c_void_p], None]] = {}
        for name in _DESTROYERS:
            function = getattr(self._quick if name == "OgaDestroyTensor" else library, name)
            function.argtypes, function.restype = (c_void_p,), None
            self._destroyers[name] = function
        self._bare: dict[str, Callable[..., int | None]] = {}
        self._functions = {name: self._checked(name, kinds) for name, kinds in _FUNCTIONS.items()}
        library.OgaSetTelemetryEnabled(False)

    def _checked(self, name: str, kinds: tuple[Any, ...]) -> Callable[..., None]:
        function = getattr(self._quick if name in _QUICK else self._library, name)
        function.argtypes, function.restype = kinds, c_void_p
        self._bare[name] = function

        def call(*arguments: Any) -> None:
            if result := function(*arguments):
                raise self.error(result)

        return call

    def __getitem__(self, name: str) -> Callable[..., None]:
        """A function that raises NativeError where it fails."""
        return self._functions[name]

    def bare(self, name: str) -> Callable[..., int | None]:
        """The same without a look at its result, an `error` of which is to be raised. For what is called every token:
        behind each step of the model the interpreter's own code is cold, and every line of it takes microseconds."""
        return self._bare[name]

    def error(self, result: int) -> NativeError:
        """What a result says that is not nothing."""
        message = self._library.OgaResultGetError(result).decode("utf-8", "replace")
        self._library.OgaDestroyResult(result)
        return NativeError(message)

    def destroyer(self, kind: str) -> Callable[[c_void_p], None]:
        """What `destroy` calls."""
        return self._destroyers[f"OgaDestroy{kind}"]

    def make(self, name: str, *arguments: Any) -> c_void_p:
        """What a function that makes something gives as its last argument."""
        made = c_void_p()
        self._functions[name](*arguments, byref(made))
        return made

    def destroy(self, kind: str, handle: c_void_p) -> None:
        """Give back what `make` made."""
        self._destroyers[f"OgaDestroy{kind}"](handle)


def _shared_object(package: str, stem: str, *folders: str) -> Path:
    """The shared library of a package, found without importing it."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ImportError(f"the package {package} is not installed")
    folder = Path(spec.submodule_search_locations[0], *folders)
    patterns = (f"lib{stem}.so*", f"lib{stem}*.dylib", f"{stem}.dll")
    for path in (path for pattern in patterns for path in sorted(folder.glob(pattern))):
        return path
    raise ImportError(f"{folder} has no {stem} library")


class Model:
    """A folder of ONNX Runtime GenAI in memory.

    overlay: JSON laid over its genai_config.json. adapters: LoRA files (.onnx_adapter) by the names they get.
    Raises NativeError.
    """

    def __init__(self, library: Library, folder: Path, overlay: Mapping[str, Any]) -> None:
        self.library = library
        config = library.make("OgaCreateConfig", os.fsencode(folder))
        try:
            library["OgaConfigOverlay"](config, json.dumps(overlay).encode())
            self.handle = library.make("OgaCreateModelFromConfig", config)
        finally:
            library.destroy("Config", config)
        self._adapters: c_void_p | None = None
        # Making and ending generators is not said to be safe in several threads at once; computing is.
        self.lock = threading.Lock()

    @property
    def adapters(self) -> c_void_p:
        """The adapters of this model, made when the first one is loaded."""
        if self._adapters is None:
            self._adapters = self.library.make("OgaCreateAdapters", self.handle)
        return self._adapters

    def load_adapter(self, path: Path, name: str) -> None:
        """Read a .onnx_adapter file. Raises NativeError."""
        with self.lock:
            self.library["OgaLoadAdapter"](self.adapters, os.fsencode(path), name.encode())

    def unload_adapter(self, name: str) -> None:
        """Give an adapter back. Raises NativeError while a generator uses it."""
        with self.lock:
            self.library["OgaUnloadAdapter"](self.adapters, name.encode())

    def close(self) -> None:
        """Give everything back; its generators must be closed."""
        if self._adapters is not None:
            self.library.destroy("Adapters", self._adapters)
        self.library.destroy("Model", self.handle)


class Generator:
    """One conversation: tokens that were read, with their keys and values.

    context: most tokens it may hold; all of their memory is taken at once. adapter: name of a loaded one, or empty.
    endless: `likeliest` never chooses an end.
    One thread at a time may use it; any may `stop` it.
    """

    def __init__(self, model: Model, context: int, adapter: str = "", *, endless: bool = False) -> None:
        self.endless = endless
        self._model, self._library = model, model.library
        library = model.library
        with model.lock:
            parameters = library.make("OgaCreateGeneratorParams", model.handle)
            try:
                least = context if endless else 0
                for name, value in {b"max_length": context, b"min_length": least, **_SEARCH}.items():
                    library["OgaGeneratorParamsSetSearchNumber"](parameters, name, value)
                library["OgaGeneratorParamsSetSearchBool"](parameters, b"do_sample", False)
                self._handle = library.make("OgaCreateGenerator", model.handle, parameters)
            finally:
                library.destroy("GeneratorParams", parameters)
            if adapter:
                library["OgaSetActiveAdapter"](self._handle, model.adapters, adapter.encode())
        self.stopped = False
        self._append = library.bare("OgaGenerator_AppendTokens")
        self._generate = library.bare("OgaGenerator_GenerateNextToken")
        self._get_next = library.bare("OgaGenerator_GetNextTokens")
        self._get_logits = library.bare("OgaGenerator_GetLogits")
        self._get_data = library.bare("OgaTensorGetData")
        self._give_back = library.destroyer("Tensor")
        # Made once, for they are used at every token.
        self._one, self._tensor, self._data = (c_int32 * 1)(), c_void_p(), c_void_p()
        self._to_tensor, self._to_data = byref(self._tensor), byref(self._data)
        self._next, self._count = POINTER(c_int32)(), c_size_t()
        self._to_next, self._to_count = byref(self._next), byref(self._count)
        self._address = 0
        self._row: NDArray[np.float32] = np.empty(0, np.float32)

    def append(self, tokens: Sequence[int]) -> None:
        """Read further tokens. Raises NativeError, also where it was told to stop meanwhile."""
        count = len(tokens)
        if result := self._append(self._handle, (c_int32 * count)(*tokens), count):
            raise self._library.error(result)

    def step(self, token: int) -> None:
        """Read one more token; as `append`."""
        self._one[0] = token
        if result := self._append(self._handle, self._one, 1):
            raise self._library.error(result)

    def likeliest(self) -> int:
        """The token with the highest score to follow, the first of several; one that was given before is read first.

        Its choice goes no way over here: this takes a fifth of the time of `logits`, and no more of the processor's
        caches. Not to be mixed with `logits` and `step` without a `rewind`. Raises NativeError, as `append`.
        """
        result = self._generate(self._handle) or self._get_next(self._handle, self._to_next, self._to_count)
        if result:
            raise self._library.error(result)
        token: int = self._next[0]
        return token

    def logits(self) -> NDArray[np.float32]:
        """Scores of every token to follow the last one that was read, `[vocabulary]`: the library's own memory, to be
        read until the next call."""
        if self._tensor.value is not None:
            self._give_back(self._tensor)
        result = self._get_logits(self._handle, self._to_tensor) or self._get_data(self._tensor, self._to_data)
        if result:
            self._tensor.value = None
            raise self._library.error(result)
        address = self._data.value
        assert address is not None
        if address != self._address:
            # Mostly the allocator gives the same place again.
            size = self._row.size or self._last_size(self._tensor)
            place: Any = (ctypes.c_float * size).from_address(address)
            self._row = np.frombuffer(place, np.float32)
            self._address = address
        return self._row

    def _last_size(self, tensor: c_void_p) -> int:
        rank = c_size_t()
        self._library["OgaTensorGetShapeRank"](tensor, byref(rank))
        sizes = (c_int64 * rank.value)()
        self._library["OgaTensorGetShape"](tensor, sizes, rank.value)
        return int(sizes[-1])

    def rewind(self, length: int) -> None:
        """Forget all but the first tokens. Raises NativeError for models that cannot."""
        self._library["OgaGenerator_RewindTo"](self._handle, length)

    def stop(self) -> None:
        """Have what is computed end with an error, within an operator of the graph. It cannot be used afterwards."""
        self.stopped = True
        self._library["OgaGenerator_SetRuntimeOption"](self._handle, b"terminate_session", b"1")

    def close(self) -> None:
        """Give its memory back."""
        if self._tensor.value is not None:
            self._give_back(self._tensor)
            self._tensor.value = None
        with self._model.lock:
            self._library.destroy("Generator", self._handle)
