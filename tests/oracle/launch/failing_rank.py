"""Three ranks of which rank 1 fails in one of several ways: the logs of tests/golden/launch/torchrun come from it.

    for way in killed gpu_memory host_memory segfault value exit hang; do
      torchrun --nproc_per_node 3 --log_dir "$(mktemp -d)" --redirects 3 --tee 3 failing_rank.py $way 2>&1 |
        sed "s|$VIRTUAL_ENV|/opt/venv|g; s|$PWD|/opt/job|g" >../../golden/launch/torchrun/$way.output
    done
"""
import datetime
import os
import sys
import time

import torch
import torch.distributed as dist


def fail(way):
    if way == "killed":
        os.kill(os.getpid(), 9)
    if way == "gpu_memory":
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
    if way == "host_memory":
        torch.empty(1 << 50)
    if way == "segfault":
        os.kill(os.getpid(), 11)
    if way == "value":
        raise ValueError("bad label in sample 71")
    if way == "exit":
        sys.exit(3)
    if way == "hang":
        time.sleep(60)


dist.init_process_group("gloo", timeout=datetime.timedelta(seconds=8))
for step in range(3):
    dist.all_reduce(torch.ones(4))
    print(f"rank {dist.get_rank()} has done {step}", flush=True)
if dist.get_rank() == 1:
    fail(sys.argv[1])
dist.all_reduce(torch.ones(4))
