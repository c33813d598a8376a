"""An evaluation as one page of HTML that needs nothing else: no network, no script, no file beside it."""

from inference.report.page import render, write_report

__all__ = ["render", "write_report"]
