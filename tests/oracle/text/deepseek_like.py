#!/usr/bin/env python3
"""A DeepSeek-V3-like tokenizer of full size: deepseek_like.py PROGRAM VOCABULARY.gguf OUT.json

No DeepSeek-V3 vocabulary comes in a package: this is VOCABULARY's (Qwen2's 151,936 tokens) with DeepSeek-V3's pre-tokenizer,
that of tests/golden/text/deepseek3.json. PROGRAM is bench/text/tokenize_text of a build.
"""
import json
import pathlib
import subprocess
import sys

program, vocabulary, out = sys.argv[1:]
golden = pathlib.Path(__file__).resolve().parents[2] / "golden/text/deepseek3.json"
subprocess.run([program, vocabulary, "--export", out], check=True, stdout=subprocess.DEVNULL)
tokenizer = json.loads(pathlib.Path(out).read_text())
tokenizer["pre_tokenizer"] = json.loads(golden.read_text())["pre_tokenizer"]
tokenizer["normalizer"] = None
pathlib.Path(out).write_text(json.dumps(tokenizer, ensure_ascii=False))
