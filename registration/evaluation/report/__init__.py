"""One page that shows an evaluation: tables and plots of the cohort, and every pair in linked views."""

from __future__ import annotations

from .write import write_report

__all__ = ["write_report"]
