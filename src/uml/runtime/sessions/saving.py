"""Conversations that outlive their worker: saved when it is stopped, read back when its model is loaded again.

What a conversation took to read is in its worker's memory and ends with it. Before a worker is told to stop (a
swap, an unload, the end of the server) it writes its slots to files; the next worker of the same model, with the
same of everything that matters, reads them before it serves. A worker that crashes saves nothing: what it holds
then cannot be trusted.

Nothing here may cost more than what it saves: every failure is logged, and means that prompts are read again.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from uml.core.engine import Ask, Engine, Held, KeepsSessions
from uml.core.errors import EngineError, UmlError, gib
from uml.core.plan import LoadPlan
from uml.runtime.sessions.shelf import Kept, Mark, Shelf, fingerprint
from uml.runtime.workers.channel import Channel, ChannelBroken, asking

log = logging.getLogger(__name__)

SAVE_LIMIT_S: Final = 15.0
"""How long one worker's saving may hold up who waits for its memory."""
STOP_LIMIT_S: Final = 10.0
RESTORE_LIMIT_S: Final = 30.0
BUSY_LIMIT_S: Final = 2.0
"""How long a stopping server waits for an answer that nobody reads any more to end."""
WORTH_TOKENS: Final = 32
"""A shorter conversation is read again as quickly."""


class Sessions:
    """All that is saved. One for a supervisor, on its event loop."""

    def __init__(self, folder: Path, disk_bytes: int, stop_limit_s: float = STOP_LIMIT_S) -> None:
        """disk_bytes: what it may take on disk; 0 saves nothing, and removes what was saved before.

        stop_limit_s: what a stopping server gives to it; 0: nothing is saved then.
        """
        self.shelf = Shelf(folder, disk_bytes)
        self.stop_limit_s = stop_limit_s
        self.lock = asyncio.Lock()
        """Held by who changes the shelf: one worker saves at a time, for the disk is one."""
        self._settling: set[asyncio.Task[None]] = set()
        self._open = False

    def open(self) -> None:
        """Look at what was saved, in a thread, before anything else is asked."""
        if not self.shelf.budget_bytes:
            self.shelf.clear()
            return
        try:
            self.shelf.open()
        except (UmlError, OSError) as error:
            log.warning("conversations are not saved: %s", error)
        else:
            self._open = True

    async def close(self) -> None:
        """Wait until what was saved is on disk."""
        while self._settling:
            await asyncio.wait(self._settling)

    def obstacle(self, engine: Engine, plan: LoadPlan) -> str:
        """Why a worker of this plan saves none, as half a sentence; empty where it does."""
        if not self.shelf.budget_bytes:
            return "session_disk is 0"
        if not self._open:
            return "their folder cannot be used"
        if not isinstance(engine, KeepsSessions):
            return f"{engine.spec.title} has no way to write them down"
        key = engine.session_key(plan)
        return key if isinstance(key, str) else ""

    def folder(self, engine: Engine, plan: LoadPlan) -> Path | None:
        """Where a worker of this plan saves; None where it does not."""
        if self.obstacle(engine, plan):
            return None
        try:
            return self.shelf.folder_of(plan.model.id)
        except (UmlError, OSError) as error:
            log.warning("conversations of %s are not saved: %s", plan.model.id, error)
            return None

    def goes_on(self, engine: Engine, plan: LoadPlan, kept: Kept) -> bool:
        """Whether a worker of this plan could read this conversation back."""
        if self.obstacle(engine, plan) or not isinstance(engine, KeepsSessions):
            return False
        key = engine.session_key(plan)
        try:
            return not isinstance(key, str) and fingerprint(key)[0] == kept.fingerprint
        except OSError:  # a file of it is gone, or yet to be made
            return False

    def attend(self, engine: Engine, plan: LoadPlan, channel: Channel, folder: Path | None) -> Sitting | None:
        """The conversations of one worker that was started with this folder; None where there is none."""
        if folder is None or not isinstance(engine, KeepsSessions):
            return None
        return Sitting(self, engine, plan, asking(channel))

    def settle(self, kept: Kept) -> None:
        """Have a conversation on disk for good, behind everybody's back."""
        task = asyncio.get_running_loop().create_task(self._settle(kept))
        self._settling.add(task)
        task.add_done_callback(self._settling.discard)

    async def _settle(self, kept: Kept) -> None:
        try:
            await asyncio.to_thread(self.shelf.settle, kept)
        except OSError as error:
            if kept in self.shelf.find(kept.model, kept.fingerprint):  # else it had to go in the meantime
                log.warning("a conversation of %s was not saved: %s", kept.model, error)
                async with self.lock:
                    await asyncio.to_thread(self.shelf.forget, kept)


class Sitting:
    """The conversations of one worker, from its start to its end."""

    def __init__(self, sessions: Sessions, engine: KeepsSessions, plan: LoadPlan, ask: Ask) -> None:
        self.restored_tokens = 0
        """How many were read back when it was loaded."""
        self.broken = False
        """Whether the worker's connection broke over it: its end is about to be noticed."""
        self._sessions = sessions
        self._shelf = sessions.shelf
        self._engine = engine
        self._plan = plan
        self._model = plan.model.id
        self._ask = ask
        self._fingerprint = ""
        self._marks: tuple[Mark, ...] = ()
        self._restored: dict[int, Kept] = {}

    async def restore(self, given_up: Callable[[], bool] = lambda: False) -> None:
        """Fill the slots with what was saved. Returns when the worker may serve, whatever came of it.

        given_up: whether the worker was told to stop, so that its end is not the fault of what it read.
        """
        began = time.monotonic()
        key = self._engine.session_key(self._plan)
        if isinstance(key, str):
            return
        try:
            self._fingerprint, self._marks = await asyncio.to_thread(fingerprint, key)
            async with self._sessions.lock:
                await asyncio.to_thread(self._shelf.drop_stale)
        except OSError as error:
            log.warning("conversations of %s are not read back: %s", self._model, error)
            return
        context = self._plan.options.ctx
        found = [kept for kept in self._shelf.find(self._model, self._fingerprint) if kept.tokens <= context]
        # The last used one goes into the first slot: a new conversation takes the last of those never used.
        for kept in found[: max(1, self._plan.options.parallel)]:
            if not await self._read_back(kept, given_up):
                break
        if self._restored:
            told = "read back %s of %s, %d tokens in %.2f s"
            count = _counted(len(self._restored))
            log.info(told, count, self._model, self.restored_tokens, time.monotonic() - began)

    async def _read_back(self, kept: Kept, given_up: Callable[[], bool]) -> bool:
        """Read one into the next slot; whether another may be tried."""
        slot = len(self._restored)
        try:
            async with asyncio.timeout(RESTORE_LIMIT_S):
                self.restored_tokens += await self._engine.restore_session(self._ask, slot, self._name(kept.name))
        except (EngineError, ChannelBroken, TimeoutError) as error:
            self.broken = isinstance(error, ChannelBroken)
            if given_up():
                return False
            # Also where the worker died of it: the next one must not.
            reason = str(error) or f"it took more than {RESTORE_LIMIT_S:g} s"
            log.warning("a conversation of %s cannot be read back and is removed: %s", self._model, reason)
            async with self._sessions.lock:
                await asyncio.to_thread(self._shelf.forget, kept)
            return isinstance(error, EngineError)
        self._restored[slot] = kept
        return True

    async def save(self, limit_s: float = SAVE_LIMIT_S) -> None:
        """Write the slots to files, the last used first. Returns within the limit, whatever came of it."""
        if not self._fingerprint:
            return
        began, tokens, size, count = time.monotonic(), 0, 0, 0
        try:
            async with asyncio.timeout(limit_s), self._sessions.lock:
                # Their order is kept when all of them were saved in the same moment.
                stamp = time.time_ns()
                for number, held in enumerate(_by_use(await self._engine.held(self._plan, self._ask))):
                    kept = await self._write(held, stamp - number, stamp)
                    if kept is not None:
                        tokens, size, count = tokens + kept.tokens, size + kept.bytes, count + 1
        except TimeoutError:
            log.warning("not all conversations of %s could be saved in time", self._model)
        except (EngineError, ChannelBroken, OSError) as error:
            log.warning("conversations of %s were not saved: %s", self._model, error)
        if count:
            told = "saved %s of %s, %d tokens, %s in %.2f s"
            log.info(told, _counted(count), self._model, tokens, gib(size), time.monotonic() - began)

    async def _write(self, held: Held, saved_ns: int, stamp: int) -> Kept | None:
        """Save one slot. Raises ChannelBroken and OSError, after which no other slot is worth trying."""
        name = f"{stamp:x}-{held.slot}"
        needed = self._engine.session_bytes(self._plan, held.tokens)
        before = self._restored.pop(held.slot, None)
        reason = await asyncio.to_thread(self._shelf.make_room, needed, stamp, before)
        if reason:
            log.warning("a conversation of %s with %d tokens is not saved: %s", self._model, held.tokens, reason)
            return None
        path, kept = self._shelf.path(self._model, name), None
        try:
            async with asyncio.timeout(BUSY_LIMIT_S if held.busy else None):
                tokens, size = await self._engine.save_session(self._ask, held.slot, self._name(name))
            if path.stat().st_size == size:
                # What the engine says it wrote may have ended at a full disk, unnoticed by it.
                await asyncio.to_thread(self._engine.seal_session, self._plan, path)
                had = self._plan.options
                how = had.ctx, (had.cache_type_k, had.cache_type_v), had.parallel
                kept = Kept(self._model, name, self._fingerprint, tokens, size, saved_ns, self._marks, *how)
        except EngineError as error:
            log.warning("a conversation of %s with %d tokens is not saved: %s", self._model, held.tokens, error)
            return None
        finally:
            if kept is None:
                path.unlink(missing_ok=True)
        if kept is None:
            log.warning("a conversation of %s is not saved: its file is incomplete", self._model)
            return None
        self._shelf.add(kept)
        self._sessions.settle(kept)
        await asyncio.to_thread(self._tidy, before)
        return kept

    def _tidy(self, before: Kept | None) -> None:
        """Let what was saved before go, now that it is saved again."""
        if before is not None:
            self._shelf.forget(before)
        self._shelf.trim()

    def _name(self, name: str) -> str:
        return self._shelf.path(self._model, name).name


def _by_use(held: tuple[Held, ...]) -> list[Held]:
    """Those worth saving: the last used first, and those still at work at the end, for they have to be waited for.

    One that was read back and not used since is on disk already.
    """
    worth = [one for one in held if one.order is not None and one.tokens >= WORTH_TOKENS]
    return sorted(worth, key=lambda one: (one.busy, -(one.order or 0)))


def _counted(count: int) -> str:
    return "1 conversation" if count == 1 else f"{count} conversations"
