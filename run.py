#!/usr/bin/env python3
"""FlagScale's command, `python run.py --config-path … --config-name … action=run`: becomes `flagscale run` of the same words."""
import os
import shutil
import sys

built = os.path.join(os.path.dirname(os.path.abspath(__file__)), "build", "flagscale")
program = built if os.access(built, os.X_OK) else shutil.which("flagscale")
if not program:
    sys.exit("run.py: there is no build/flagscale here and no flagscale in PATH: ./dev build, or pip install .")
os.execv(program, ["flagscale", "run", *sys.argv[1:]])
