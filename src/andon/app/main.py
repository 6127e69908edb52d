"""The script that Streamlit runs for every browser: ``andon app`` hands it the settings as its only argument."""

import sys

from andon.app.settings import AppSettings
from andon.app.shell import run

run(AppSettings.of_text(sys.argv[1]))
