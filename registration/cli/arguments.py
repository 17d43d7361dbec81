"""The words of the command line, which stand in the provenance of what it writes."""

from __future__ import annotations

from contextvars import ContextVar

given: ContextVar[tuple[str, ...]] = ContextVar("given", default=())
"""Without the name of the program; empty where a command is called from Python."""
