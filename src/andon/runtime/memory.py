"""Memory of a process that stays."""

from __future__ import annotations

import ctypes


def give_back_freed() -> None:
    """Let the C library return what was freed to the system, where it can (glibc); elsewhere nothing.

    A detector that was replaced leaves pages between others that are in use, in as many arenas as threads have opened one. By itself
    the allocator keeps them: a server that swaps its artefact often would hold several times what it needs.
    """
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):  # another C library, or another system
        return
    trim(0)
