"""What can be told about models without starting anything: found, inspected, estimated, planned."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from uml.config import Settings
from uml.core.engine import Engine, KeepsSessions
from uml.core.errors import AmbiguousModel, BadRequest, BadSetting, ModelNotFound, NotAllowed, UmlError, gib
from uml.core.jsonable import jsonable
from uml.core.machine import Machine
from uml.core.model import Model, ModelInfo
from uml.core.options import LoadOptions
from uml.core.plan import Conversion, LoadPlan, WorkerStatus
from uml.core.quote import quoted
from uml.engines import builtin
from uml.formats import inspect
from uml.formats.legacy.model import as_gguf
from uml.generation import capabilities
from uml.generation.capabilities import honours
from uml.generation.wants import named as needs_named
from uml.hardware import snapshot
from uml.house.paths import at_home, path_in
from uml.house.records import LoadRecords
from uml.house.shown import described, estimated
from uml.house.usual import over, profile, revised, usual
from uml.planning import plan
from uml.planning.budget import Budget, room, within_budget
from uml.planning.elsewhere import outlook
from uml.planning.evict import Running
from uml.planning.rank import Specs, needs_of
from uml.planning.refine import Foretelling
from uml.planning.runner import named
from uml.plugins.load import Plugins
from uml.plugins.load import load as load_plugins
from uml.registry import Registry
from uml.registry.companions import located, read
from uml.registry.forgetting import Target, forget
from uml.remote.names import UrlName
from uml.remote.names import parse as parse_remote
from uml.roster import Choice, Roster, choose
from uml.runtime.conversions.kept import KeptFiles
from uml.runtime.installs import Installs
from uml.runtime.rehearsal import rehearse
from uml.runtime.workers.limits import cores

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Library:
    """What can be told about models without starting anything; every face may ask it, from any thread."""

    settings: Settings
    registry: Registry
    roster: Roster
    installs: Installs
    plugins: Plugins
    converted: KeptFiles

    @classmethod
    def open(cls, settings: Settings) -> Library:
        """Open the registry in the data folder. Raises FolderNotWritable, and BadSetting for an unknown engine."""
        installs = Installs(settings.data / "engines")
        own = builtin(settings.llama_server, installs.find, settings.programs)
        plugins = load_plugins(own) if settings.plugins else Plugins()
        engines = {**own, **plugins.engines}
        if settings.engine.partition("==")[0] not in ("auto", *engines):
            source = settings.sources.get("engine", "the settings")
            raise BadSetting(f"engine is {settings.engine!r} ({source}); expected auto or one of {', '.join(engines)}")
        registry = Registry(settings.data / "registry.sqlite", plugins.inspector(inspect))
        converted = KeptFiles(settings.data / "converted", settings.converted_disk)
        return cls(settings, registry, Roster(engines, honours), installs, plugins, converted)

    @property
    def defaults(self) -> LoadOptions:
        """Load options where a request has none."""
        return located(self.registry, LoadOptions.parse({"engine": self.settings.engine, **self.settings.options}))

    def usual(self, model: Model) -> LoadOptions:
        """How a model is loaded where nobody says. Raises BadRequest where its profile cannot be used any more."""
        return usual(self.registry, self.defaults, model)

    def options(self, model: Model, given: Mapping[str, object]) -> LoadOptions:
        """Checked options over what is usual; companions may be named as models are. Raises BadOption, UnknownField."""
        return over(self.registry, self.usual(model), given)

    def profile(self, model: Model) -> Mapping[str, Any]:
        """The options that are saved for a model."""
        return profile(self.registry, model)

    def save_profile(self, model: Model, given: Mapping[str, object], *, clear: bool = False) -> dict[str, Any]:
        """Save options for every load of a model, over those of before, or with `clear` in place of them.

        None takes one out. Returns all that are saved. Raises BadOption, UnknownField, also for what no load of this
        model could have; nothing is changed then.
        """
        new = revised({} if clear else self.profile(model), given)
        if new:
            try:
                self.decide(model, over(self.registry, self.defaults, new), snapshot())
            except BadRequest:
                raise
            except UmlError as error:  # of today: memory that is taken, an engine that is not installed yet
                log.debug("%s could not be loaded by its new profile now: %s", model.id, error)
        self.registry.profiles.keep(model.id, new)
        return new

    @property
    def engines(self) -> Mapping[str, Engine]:
        """Every engine by name."""
        return self.roster.engines

    @property
    def specs(self) -> Specs:
        """Every engine with whether it can be started here."""
        return self.roster.specs

    @property
    def budget(self) -> Budget:
        """What models may take, together and each."""
        return Budget(self.settings.memory_budget, self.settings.gpu_budget, self.settings.worker_memory)

    @property
    def records(self) -> LoadRecords:
        """What loads took, written down and told again."""
        return LoadRecords(self.registry, self.roster)

    def find(self, name: str) -> Model:
        """A model by id, alias or path; a path that was never seen is added. Raises NotAllowed as `look` does."""
        path = path_in(name)
        self._refuse_remote(name)
        return self.registry.add(path) if path else self.registry.resolve(name)

    def look(self, name: str) -> Model:
        """A model by id, alias or path, its file looked at once more; a path that was never seen is not added.

        Raises NotAllowed for a name on the net: here strangers may ask, and must not choose what is fetched.
        """
        path = path_in(name)
        self._refuse_remote(name)
        if path is None:
            return self.registry.fresh(self.registry.resolve(name))
        return Model(path.stem.lower(), self.plugins.inspector(inspect)(path))

    def _refuse_remote(self, name: str) -> None:
        try:
            remote = parse_remote(name)
        except BadRequest:
            return  # like a name on the net, and none: nothing here is called so
        if isinstance(remote, UrlName) or (remote and (remote.certain or not self.is_known(name))):
            raise NotAllowed(
                f"{quoted(name)} is not on this machine, and a server fetches nothing for those who ask it; "
                "`uml estimate` and `uml inspect` read its header on the command line",
                param="model",
            )

    def is_known(self, name: str) -> bool:
        """Whether a registered model goes by this name."""
        try:
            self.registry.resolve(name)
        except ModelNotFound as error:
            return isinstance(error, AmbiguousModel)
        return True

    def adapter(self, name: str) -> Path:
        """Where an adapter lies that is named by its path, or as models are. Raises BadOption."""
        option = located(self.registry, LoadOptions.parse({"lora": [name]}))
        read(self.registry, option, self.plugins.inspector(inspect))
        return at_home(option.lora[0]).absolute()

    def inspect(self, name: str) -> ModelInfo:
        """What a registered model, or any path, is; `notes` end with what it needs where it cannot be loaded here."""
        model = self.look(name)
        info, needs = model.info, self.choose(model).needs
        if made := self.converted.made_of(info):
            info = replace(info, notes=(f"it was made into GGUF: {gib(made.bytes)} in {made.place}", *info.notes[1:]))
        return replace(info, notes=(*info.notes, needs)) if needs else info

    def choose(self, model: Model, needs: tuple[str, ...] = ()) -> Choice:
        """The engine that a load without any options would have, and why it. needs: as `rank` takes them."""
        return self._choose(model, self.profile(model), needs)

    def _choose(self, model: Model, saved: Mapping[str, Any], needs: tuple[str, ...] = ()) -> Choice:
        wanted, source = self.defaults.engine, self.settings.sources.get("engine", "the settings")
        if "engine" in saved:
            wanted, source = str(saved["engine"]), "its profile"
        return choose(self.roster, as_gguf(model.info), wanted, source, needs)

    def capabilities(self, model: Model, worker: WorkerStatus | None = None, needs: str = "") -> dict[str, Any]:
        """What a model can do on the engine that has it, else on the one that would: `/v1/models/{id}/capabilities`.

        needs: names with commas, by which the engines are put in order. Raises BadRequest for an unknown one.
        """
        chosen = self.choose(model, needs_named(needs))
        engine = worker.engine if worker else chosen.engine or (chosen.ranked[0].engine if chosen.ranked else None)
        found = {
            "model": model.id,
            "engine": engine,
            "installed": chosen.engine is not None or worker is not None,
            "reason": (worker.choice if worker else chosen.reason) or chosen.needs,
            "engines": jsonable(chosen.ranked),
        }
        if engine is None:
            return {**found, "abilities": {}, "parameters": {}, "options": {}}
        spec = self.specs[engine][0]
        matrix = capabilities(as_gguf(model.info), spec, sessions=isinstance(self.engines[engine], KeepsSessions))
        each = {f"plugin_samplers.{name}": matrix.parameters["plugin_samplers"] for name in self.plugins.samplers}
        return {**found, **jsonable(replace(matrix, parameters={**matrix.parameters, **each}))}

    def plan(
        self,
        model: Model,
        options: LoadOptions,
        machine: Machine,
        running: Sequence[Running] = (),
        wants: Sequence[str] = (),
    ) -> LoadPlan:
        """The plan for a registered model; its file is looked at once more before."""
        return self.decide(self.registry.fresh(model), options, machine, running, wants)

    def prepare(self, model: Model, options: LoadOptions, machine: Machine, running: Sequence[Running] = ()) -> None:
        """What takes too long for `plan`, which is asked on the event loop: in a thread, before it."""
        self.foretell(self.registry.fresh(model), options, machine, running, if_tight=True)

    def decide(
        self,
        model: Model,
        options: LoadOptions,
        machine: Machine,
        running: Sequence[Running] = (),
        wants: Sequence[str] = (),
    ) -> LoadPlan:
        """`planning.plan` with this house's engines and budget, and what goes with the model read too.

        A model that no engine reads as it is has the one in its place that it is made into.
        """
        model, conversion = self.converted.stands_in(model)
        if (share := self.settings.worker_cpu_share) is not None:
            # More threads than processors that it may use would wait for each other.
            machine = replace(machine, cores=cores(share, machine.cores), threads=cores(share, machine.threads))
        budget = self.budget
        companions = read(self.registry, options, inspect)
        known = self.records.known(model, companions)
        others = self.registry.models()
        install = named(options.engine, model.info, self.specs)[1].install if options.engine != "auto" else ""
        self.installs.check(options, model.id, install)
        decided = plan(
            *(model, options, machine, self.specs, running, budget),
            companions=companions,
            known=known,
            others=others,
            wants=wants,
            honours=honours,
        )
        if self.plugins.samplers and self.specs[decided.engine][0].dialect.get("plugin_samplers"):
            decided = replace(decided, samplers=tuple(self.plugins.samplers.values()))
        return _converting(decided, conversion) if conversion else decided

    def foretell(
        self,
        model: Model,
        options: LoadOptions,
        machine: Machine,
        running: Sequence[Running] = (),
        *,
        if_tight: bool = False,
    ) -> None:
        """Have the engine tell what this load would take, for the plan that follows; may take a second.

        if_tight: not for a model that fits twice by its header's highest figure; nothing would be decided
        otherwise, and it starts the sooner.
        """
        budget = self.budget
        handed_out = {device.id: sum(one.on(device.id) for one in running) for device in machine.devices}
        left = within_budget(machine, budget, handed_out)
        # What the engine tells may change what is decided where options were left open.
        for _ in range(3):
            try:
                decided = self.decide(model, options, machine, running)
            except UmlError:
                return  # the plan that follows says it
            engine = self.engines[decided.engine]
            if decided.conversion and decided.conversion.needed:
                return  # there is no file yet to be asked about
            if not isinstance(engine, Foretelling) or (if_tight and _roomy(decided, left)):
                return
            if decided.footprint.method == "measured":
                return  # a dry run knows less
            if not engine.foretell(decided):
                return

    def estimate(self, name: str, options: Mapping[str, object]) -> dict[str, Any]:
        """Bytes that a load takes, part by part, and whether they fit; nothing is started.

        Raises what a load would be refused with.
        """
        return self.estimate_model(self.look(name), options)

    def estimate_model(self, model: Model, options: Mapping[str, object], *, ask: bool = True) -> dict[str, Any]:
        """The same for a model that no registry needs to know. ask: its engine too, which may take a second."""
        wanted = self.options(model, options)
        machine = snapshot()
        ranked = self.roster.ranked(as_gguf(model.info), needs_of(wanted))
        if wanted.engine == "auto" and not (ranked and ranked[0].available):
            ours = self.specs[ranked[0].engine][0] if ranked else None
            if foreign := outlook(model, wanted, machine, self.budget, ours, read(self.registry, wanted, inspect)):
                return {**estimated(foreign.plan), "engine": None, "needs": foreign.needs, "fits": not foreign.lacking}
        if ask:
            self.foretell(model, wanted, machine)
        decided = self.decide(model, wanted, machine)
        if model.source != "net":
            rehearse(self.engines[decided.engine], decided)
        return estimated(decided)

    def forget(self, found: Target) -> Target:
        """As `registry.forgetting.forget`; what its models were made into goes too."""
        models = {model.id: model.info for model in self.registry.models()}
        done = forget(self.registry, found)
        self.converted.drop(models[name] for name in done.models if name in models)
        return done

    def describe(self, model: Model, worker: WorkerStatus | None = None) -> dict[str, Any]:
        """A model as `/v1/models` shows it.

        created: when its newest file was written. engine: what runs it or would, None where nothing here does;
        then `needs` says what does, else `reason` why this one.
        """
        saved = self.profile(model)
        chosen = Choice(worker.engine, worker.choice) if worker else self._choose(model, saved)
        return described(model, saved, chosen, worker)


def _converting(decided: LoadPlan, conversion: Conversion) -> LoadPlan:
    """The plan with the conversion before it, and what a user should know of that."""
    told = [note for note in conversion.source.info.notes[1:] if not note.startswith("the file does not say")]
    size = gib(sum(decided.model.info.weight_bytes.values()))
    tense = "is" if conversion.needed else "was"
    told.insert(
        0,
        f"{conversion.source.info.version} {tense} made into GGUF at its first load: {size} of disk in "
        f"{conversion.place.parent}",
    )
    return replace(decided, conversion=conversion, warnings=(*decided.warnings, *told))


def _roomy(decided: LoadPlan, machine: Machine) -> bool:
    """Whether the model fits twice where it goes, by the highest figure, and nobody has to leave for it."""
    device = next((device for device in machine.devices if device.id == decided.placement.device), machine.memory)
    return not decided.evict and 2 * decided.footprint.high_bytes <= room(device)
