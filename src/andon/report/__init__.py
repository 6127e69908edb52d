"""What was found, for people and for spreadsheets: one HTML file, CSV, JSON lines. No torch."""

from andon.report.page import write_report
from andon.report.rows import COLUMNS, verdict_rows, write_csv, write_jsonl
from andon.report.survey import check_report_extra, write_survey_report
from andon.report.survey_words import findings

__all__ = [
    "COLUMNS",
    "check_report_extra",
    "findings",
    "verdict_rows",
    "write_csv",
    "write_jsonl",
    "write_report",
    "write_survey_report",
]
