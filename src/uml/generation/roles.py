"""check_roles(checked, model, options): whether somebody knows who speaks, told before a model is loaded for it."""

from __future__ import annotations

import difflib
from collections.abc import Callable

from uml.core.model import Model
from uml.core.options import LoadOptions
from uml.generation.prepare import Checked
from uml.generation.shapes import ROLES, refuse


def check_roles(checked: Checked, model: Model, options: Callable[[], LoadOptions]) -> None:
    """Raises BadRequest for a message of a role that is none of `ROLES`, and that the model's template never names.

    Most templates pass over such a message without a word.
    options: how the model is loaded, or would be. A template that these bring decides by itself: it is a file, a text
    or a name that only the engine knows.
    """
    strange = {message["role"] for message in checked.body.get("messages") or ()}.difference(ROLES)
    template = model.info.chat_template or ""
    unknown = {role for role in strange if f"'{role}'" not in template and f'"{role}"' not in template}
    if not unknown or (had := options()).chat_template or had.chat_template_file:
        return
    place, role = next(
        (place, message["role"]) for place, message in enumerate(checked.body["messages"]) if message["role"] in unknown
    )
    close = difflib.get_close_matches(role[:40], ROLES, 1)
    more = f", or one that the chat template of {model.id} names" if template else ""
    hint = f"; did you mean {close[0]}?" if close else ""
    raise refuse(f"messages[{place}].role", role, f"one of {', '.join(ROLES)}{more}{hint}")
