"""Who can run a model."""

from tests.planning.things import info, installed, machine, missing, spec
from uml.core.engine import Availability
from uml.core.model import Format, Quantization, Role
from uml.planning import rank

SAFETENSORS = frozenset({Format.SAFETENSORS, Format.PYTORCH})


def names(about: object, where: object, specs: object) -> list[str]:
    return [one.engine for one in rank(about, where, specs)]  # type: ignore[arg-type]


def test_an_installed_engine_comes_before_a_better_one_that_is_not() -> None:
    general = spec("general", formats=SAFETENSORS | {Format.GGUF})
    specs = {**missing(spec("special")), **installed(general)}
    first, second = rank(info(), machine(), specs)
    assert (first.engine, first.available) == ("general", True)
    assert (second.engine, second.available) == ("special", False)
    assert "not installed" in second.reason


def test_one_made_for_the_format_comes_before_one_that_takes_many() -> None:
    specs = installed(spec("general", formats=SAFETENSORS | {Format.GGUF}), spec("special"))
    assert names(info(), machine(), specs) == ["special", "general"]


def test_equals_come_in_the_order_given() -> None:
    assert names(info(), machine(), installed(spec("a"), spec("b"))) == ["a", "b"]
    assert names(info(), machine(), installed(spec("b"), spec("a"))) == ["b", "a"]


def test_one_that_uses_the_gpu_comes_first() -> None:
    specs = installed(spec("slow", devices=frozenset({"cpu"})), spec("fast", formats=SAFETENSORS | {Format.GGUF}))
    assert names(info(), machine(), specs) == ["slow", "fast"]
    ranked = rank(info(), machine(gpus=(1 << 34,)), specs)
    assert [one.engine for one in ranked] == ["fast", "slow"]
    assert "GPU 0" in ranked[0].reason


def test_an_install_that_cannot_use_the_gpu_is_not_one_that_can() -> None:
    cuda = frozenset({"cuda"})
    specs = {"exl": (spec("exl", devices=cuda), Availability(True)), "llamacpp": (spec(), Availability(True))}
    assert names(info(), machine(), specs) == ["llamacpp"]
    assert names(info(), None, specs) == ["exl", "llamacpp"], "on some machine"
    wheel = {"llamacpp": (spec(), Availability(True, devices=frozenset({"cpu"})))}
    assert "on the processor" in rank(info(), machine(gpus=(1 << 34,)), wheel)[0].reason


def test_format_role_and_quantization_must_be_known() -> None:
    specs = installed(spec(quantizations=frozenset({"gptq"}), formats=SAFETENSORS))
    gptq = info(format=Format.SAFETENSORS, quantization=Quantization("gptq", "GPTQ 4-bit", 4))
    assert names(gptq, machine(), specs) == ["llamacpp"]
    assert names(info(format=Format.SAFETENSORS, quantization=None), machine(), specs) == []
    assert names(info(), machine(), specs) == []
    assert names(info(role=Role.ADAPTER), machine(), installed(spec())) == []
    assert names(info(role=Role.UNKNOWN), machine(), installed(spec())) == ["llamacpp"]


def test_an_engine_that_takes_anything_is_never_chosen() -> None:
    assert names(info(), machine(), installed(spec("fake", formats=frozenset(Format)))) == []
