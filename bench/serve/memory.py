"""Peak memory of a server under load, against file + keys and values: memory.py FLAGSCALE FILE.gguf [--clients 32]

Each client asks for a completion of a prompt of its own; the packed copy of the weights is already in the cache, as at
every start but the first. Keys and values: what the tokens of all requests take in the cache's type, as served.
"""

import argparse
import concurrent.futures
import json
import os
import random
import subprocess
import tempfile
import urllib.request


def kv_bytes_per_token(program, file):
    inspected = subprocess.run([program, "checkpoint", "inspect", file, "--json"], capture_output=True, check=True).stdout
    facts = json.loads(inspected)["facts"]
    kind = facts["general.architecture"]
    fact = lambda name: int(facts[f"{kind}.{name}"])
    size = int(facts.get(f"{kind}.attention.key_length", fact("embedding_length") // fact("attention.head_count")))
    return 2 * 2 * fact("block_count") * fact("attention.head_count_kv") * size  # keys and values, bf16


def start(program, file, environment):
    process = subprocess.Popen([program, "serve", file, "--port", "0"], env=environment, stdout=subprocess.PIPE, text=True)
    line = process.stdout.readline()
    return process, line.split(" at ")[1].split()[0], line.strip()


def ask(url, seed, words, tokens):
    draw = random.Random(seed)
    prompt = [draw.randrange(1000, 20000) for _ in range(words)]
    body = {"model": None, "prompt": prompt, "max_tokens": tokens, "min_tokens": tokens, "temperature": 0}
    body["model"] = json.load(urllib.request.urlopen(url + "/v1/models"))["data"][0]["id"]
    request = urllib.request.Request(url + "/v1/completions", json.dumps(body).encode(), {"Content-Type": "application/json"})
    return json.load(urllib.request.urlopen(request))["usage"]["total_tokens"]


def resident(pid):
    with open(f"/proc/{pid}/status") as status:
        values = dict(line.split(":", 1) for line in status)
    return {name: int(values[name].split()[0]) / 1000 for name in ("VmHWM", "RssAnon", "RssFile")}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("flagscale")
    parser.add_argument("file")
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--prompt-tokens", type=int, default=256)
    parser.add_argument("--tokens", type=int, default=64)
    o = parser.parse_args()
    with tempfile.TemporaryDirectory() as cache:
        environment = {**os.environ, "XDG_CACHE_HOME": cache}
        first, _, _ = start(o.flagscale, o.file, environment)
        first.terminate()
        first.wait()
        process, url, line = start(o.flagscale, o.file, environment)
        print(line)
        idle = resident(process.pid)
        with concurrent.futures.ThreadPoolExecutor(o.clients) as pool:
            held = sum(pool.map(lambda i: ask(url, i, o.prompt_tokens, o.tokens), range(o.clients)))
        loaded = resident(process.pid)
        process.terminate()
        process.wait()
    file, kv = os.path.getsize(o.file) / 1e6, held * kv_bytes_per_token(o.flagscale, o.file) / 1e6
    print(f"ready: {idle['VmHWM']:.0f} MB")
    print(f"{o.clients} requests at once, {held} tokens in the cache: peak {loaded['VmHWM']:.0f} MB "
          f"({loaded['RssFile']:.0f} of files, {loaded['RssAnon']:.0f} of its own) = file {file:.0f} + keys and values "
          f"{kv:.0f} + {loaded['VmHWM'] - file - kv:.0f} MB")


main()
