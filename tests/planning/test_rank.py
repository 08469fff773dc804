"""Who can run a model."""

from tests.planning.things import info, installed, machine, missing, spec
from uml.core.engine import Availability
from uml.core.model import Format, Quantization, Role
from uml.core.options import LoadOptions
from uml.planning import choice, rank
from uml.planning.rank import needs_of, obstacle

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


def test_a_better_one_that_is_not_installed_is_named_with_its_command() -> None:
    general = spec("general", formats=SAFETENSORS | {Format.GGUF})
    ranked = rank(info(), machine(), {**missing(spec("special")), **installed(general)})
    assert ranked[1].command == "uml engine install special"
    assert choice(ranked) == (
        "general runs gguf on the processor; installed; "
        "special would suit it better and is not installed: uml engine install special"
    )
    alike = rank(info(), machine(), {**missing(spec("other")), **installed(spec("this"))})
    assert choice(alike) == "this runs gguf on the processor; installed", "no better"
    nobody = rank(info(), machine(), missing(spec("special")))
    assert choice(nobody) == "special runs gguf on the processor; not installed: uml engine install special"
    assert choice(()) == ""


def test_one_that_can_do_what_is_needed_comes_first() -> None:
    plain = spec("plain", options=frozenset({"ctx"}), dialect={"json_schema": None})
    able = spec("able", formats=SAFETENSORS | {Format.GGUF})
    specs = installed(plain, able)
    assert names(info(), machine(), specs) == ["plain", "able"]
    for needs in (["lora"], ["json_schema"]):
        first, second = rank(info(), machine(), specs, needs)
        assert (first.engine, second.lacks) == ("able", tuple(needs))
        assert f"without {needs[0]}" in second.reason
    assert [one.engine for one in rank(info(), machine(), installed(plain), ["lora"])] == ["plain"], "better than none"
    vectors = info(role=Role.EMBEDDING)
    assert not rank(vectors, machine(), installed(plain), ["embeddings"])[0].lacks, "it is made for nothing else"


def test_one_that_sees_comes_first_where_a_picture_is_to_be_seen() -> None:
    blind, eyes = spec("blind", options=frozenset({"ctx"})), spec("eyes", inputs=frozenset({"image"}))
    with_projector = spec("projector", options=frozenset({"mmproj"}), inputs=frozenset())
    specs = installed(blind, eyes, with_projector)
    ranked = rank(info(), machine(), specs, ["image"])
    assert [one.engine for one in ranked] == ["eyes", "projector", "blind"]
    assert "without image" in ranked[-1].reason


def test_load_options_say_what_is_needed() -> None:
    assert needs_of(LoadOptions()) == ()
    assert needs_of(LoadOptions(lora=("a",), mmproj="b", ctx=512)) == ("lora", "mmproj")


def test_an_engine_away_from_home_comes_second() -> None:
    gpus = spec("gpus", home=frozenset({"cuda"}))
    specs = installed(gpus, spec("anywhere"))
    assert names(info(), machine(), specs) == ["anywhere", "gpus"]
    assert names(info(), machine(gpus=(1 << 34,)), specs) == ["gpus", "anywhere"]


def test_a_version_that_tells_its_architectures_runs_no_others() -> None:
    knows = {"a": (spec("a"), Availability(True, "0.33", architectures=frozenset({"LlamaForCausalLM"})))}
    ranked = rank(info(architecture="LlamaForCausalLM"), machine(), knows)
    assert "knows LlamaForCausalLM" in ranked[0].reason
    assert rank(info(architecture="NewForCausalLM"), machine(), knows) == ()
    assert obstacle(info(architecture="New"), *knows["a"]) == "a 0.33 does not know the architecture New"
    assert names(info(architecture=""), machine(), knows) == ["a"], "nobody knows, the engine will tell"
