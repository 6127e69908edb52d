"""A site as Flower's ClientApp: the message is a question, the reply its answer. What a site is, a JSON file there says."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from andon.errors import DataError
from andon.federated.flower_messages import ACTION, SETTINGS, read_question, reply_content
from andon.federated.privacy.budget import ACCOUNT, Budget
from andon.federated.sites import Site


def answered(message: Message, site: Site) -> Message:
    """``site``'s reply to ``message``."""
    return Message(reply_content(site.answer(read_question(message.content))), reply_to=message)


def read_site(path: str | os.PathLike[str]) -> Site:
    """The site that :func:`write_settings` described. Raises :class:`DataError`."""
    try:
        told: dict[str, Any] = json.loads(Path(path).read_text(encoding="utf-8"))
        images, budget = Path(told["images"]), None
        if told.get("promise") is not None:
            epsilon, delta = told["promise"]
            budget = Budget(epsilon, delta, images / ACCOUNT)
        return Site.of_folder(told["name"], images, Path(told["output"]), budget=budget)
    except (OSError, KeyError, ValueError) as error:
        raise DataError(
            f"{path} does not describe a site ({error}). Start the site again: andon federate site"
        ) from error


app = ClientApp()


@app.query(ACTION)
def ask(message: Message, context: Context) -> Message:
    """Answer as the site that this node's settings describe."""
    return answered(message, read_site(str(context.node_config[SETTINGS])))
