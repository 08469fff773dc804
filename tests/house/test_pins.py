"""A pin is kept by the scheduler and written for the next server; whatever comes between, both say the same."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.waiting import until
from uml.config import Settings
from uml.core.model import Model
from uml.core.options import LoadOptions
from uml.house import House

FAKE = LoadOptions(engine="fake")


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[tuple[House, Model]]:
    given = {"data": str(folder / "data"), "llama_server": "none"}
    async with House.open(Settings.load(given, {"HOME": str(folder), "PATH": os.environ["PATH"]})) as house:
        yield house, house.library.find("demo")


def written(house: House) -> list[str]:
    return [pin.model for pin in house.library.registry.pins.all()]


async def until_kept(house: House, model: Model) -> None:
    """Until the scheduler keeps it, and no longer: nothing can have been written yet."""
    while not house.supervisor.kept(model.id):  # noqa: ASYNC110  # every turn of the loop counts
        await asyncio.sleep(0)


@pytest.mark.parametrize("everything", [False, True])
async def test_an_unload_that_comes_between_leaves_no_pin(tmp_path: Path, everything: bool) -> None:
    async with opened(tmp_path) as (house, model):
        await house.supervisor.load(model, FAKE)
        pinning = asyncio.create_task(house.pin(model, FAKE))
        await until_kept(house, model)
        assert await house.unload(None if everything else [model.id]) == (model.id,)
        await pinning
        assert (house.supervisor.kept(model.id), written(house)) == ("", [])


async def test_letting_go_between_leaves_no_pin(tmp_path: Path) -> None:
    async with opened(tmp_path) as (house, model):
        await house.supervisor.load(model, FAKE)
        pinning = asyncio.create_task(house.pin(model, FAKE))
        await until_kept(house, model)
        assert await house.unpin(model)
        await pinning
        assert (house.supervisor.kept(model.id), written(house)) == ("", [])


async def test_a_pin_that_comes_after_letting_go_is_written(tmp_path: Path) -> None:
    async with opened(tmp_path) as (house, model):
        await house.pin(model, FAKE)
        await asyncio.gather(house.unpin(model), house.pin(model, FAKE))
        assert (house.supervisor.kept(model.id), written(house)) == ("pinned", [model.id])


async def test_a_client_that_leaves_between_has_pinned_it(tmp_path: Path) -> None:
    async with opened(tmp_path) as (house, model):
        await house.supervisor.load(model, FAKE)
        pinning = asyncio.create_task(house.pin(model, FAKE))
        await until_kept(house, model)
        pinning.cancel()
        with pytest.raises(asyncio.CancelledError):
            await pinning
        await until(lambda: written(house) == [model.id])
        assert house.supervisor.kept(model.id) == "pinned"
