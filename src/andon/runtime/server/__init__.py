"""Verdicts over HTTP: ``andon serve``. No torch; FastAPI and uvicorn come with ``pip install "andon[serve]"``.

``serving`` the process: socket, signals, graceful stop. ``shelf`` the artefacts that are served, exchanged while they
are; ``keys`` who may ask; ``limits`` how much; ``gate`` how many at once; ``backing`` what takes note of them: ``drifting`` the monitors,
``recording`` the records. These import neither FastAPI nor uvicorn. The rest
does, and is imported when a server starts: ``app`` the application, ``routes`` what can be asked, ``answers`` in what shape,
``bodies`` how images arrive, ``problems`` every error in one shape, ``watching`` request ids and the log, ``meters``
Prometheus, ``examples`` what OpenAPI shows.
"""

from andon.runtime.server.backing import Backing
from andon.runtime.server.drifting import Monitors
from andon.runtime.server.keys import KeyFile, add_key
from andon.runtime.server.limits import Limits
from andon.runtime.server.recording import Recorder
from andon.runtime.server.serving import Address, is_loopback, serve
from andon.runtime.server.shelf import Shelf

__all__ = [
    "Address",
    "Backing",
    "KeyFile",
    "Limits",
    "Monitors",
    "Recorder",
    "Shelf",
    "add_key",
    "is_loopback",
    "serve",
]
