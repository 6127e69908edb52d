"""What was found, for people and for spreadsheets: one HTML file, CSV, JSON lines. No torch."""

from andon.report.page import write_report
from andon.report.rows import COLUMNS, verdict_rows, write_csv, write_jsonl

__all__ = ["COLUMNS", "verdict_rows", "write_csv", "write_jsonl", "write_report"]
