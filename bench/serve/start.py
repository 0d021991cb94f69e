"""Seconds from exec to ready, and memory then: start.py FLAGSCALE FILE.gguf [--llama LLAMA_SERVER] [--rounds N]

The first start finds an empty cache folder and packs the weights; the others map what it left. Ready is what a
client sees: the first /health that answers 200. Alternates with llama-server on the same file, where one is given.
"""

import argparse
import os
import socket
import statistics
import subprocess
import tempfile
import time


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def healthy(port):
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as s:
            s.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            return s.recv(64).startswith(b"HTTP/1.1 200")
    except OSError:
        return False


def resident_mb(pid):
    with open(f"/proc/{pid}/status") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("VmHWM")) / 1000


def start(command, port, environment):
    begin = time.monotonic()
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while not healthy(port):
            if process.poll() is not None:
                raise SystemExit(f"{command[0]} ended with {process.returncode}")
            time.sleep(0.001)
        return time.monotonic() - begin, resident_mb(process.pid)
    finally:
        process.terminate()
        process.wait()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("flagscale")
    parser.add_argument("file")
    parser.add_argument("--llama")
    parser.add_argument("--rounds", type=int, default=5)
    o = parser.parse_args()
    ours, peer = [], []
    with tempfile.TemporaryDirectory() as cache:
        environment = {**os.environ, "XDG_CACHE_HOME": cache}
        for _ in range(o.rounds + 1):
            port = free_port()
            ours.append(start([o.flagscale, "serve", o.file, "--port", str(port)], port, environment))
            if o.llama:
                port = free_port()
                peer.append(start([o.llama, "-m", o.file, "--port", str(port)], port, os.environ))
    size = os.path.getsize(o.file) / 1e6
    print(f"{o.file}: {size:.0f} MB")
    print(f"  first start {ours[0][0]:.3f} s, {ours[0][1]:.0f} MB resident at most")
    later = ours[1:]
    print(f"  later starts {statistics.median(t for t, _ in later):.3f} s ({min(later)[0]:.3f} to {max(later)[0]:.3f}), "
          f"{max(m for _, m in later):.0f} MB")
    if peer:
        print(f"  llama-server {statistics.median(t for t, _ in peer[1:]):.3f} s, {max(m for _, m in peer):.0f} MB")


main()
