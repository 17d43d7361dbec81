"""One page that shows an evaluation: tables and plots of the cohort, and every pair in linked views."""

from __future__ import annotations

from .write import in_threads, write_report

__all__ = ["in_threads", "write_report"]
