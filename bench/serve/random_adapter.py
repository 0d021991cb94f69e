"""Writes a LoRA adapter for the seven projections of a model, for speed alone:

    random_adapter.py FLAGSCALE HF_FOLDER OUT [RANK]
"""

import json
import os
import random
import struct
import subprocess
import sys

PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def main(program, model, out, rank=16):
    rank = int(rank)
    inspected = subprocess.run([program, "checkpoint", "inspect", model, "--json"], capture_output=True, check=True).stdout
    header, data = {}, bytearray()
    draw = random.Random(1)
    for tensor in json.loads(inspected)["tensors"]:
        name = tensor["name"].removesuffix(".weight")
        if not name.endswith(PROJECTIONS):
            continue
        rows, columns = tensor["shape"]
        for part, shape in (("A", [rank, columns]), ("B", [rows, rank])):
            count = shape[0] * shape[1]
            header[f"base_model.model.{name}.lora_{part}.weight"] = {
                "dtype": "F32", "shape": shape, "data_offsets": [len(data), len(data) + 4 * count]}
            values = struct.pack("<256f", *(draw.gauss(0, 0.01) for _ in range(256)))
            data += (values * (count // 256 + 1))[: 4 * count]
    os.makedirs(out, exist_ok=True)
    text = json.dumps(header).encode()
    with open(os.path.join(out, "adapter_model.safetensors"), "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + data)
    with open(os.path.join(out, "adapter_config.json"), "w") as file:
        json.dump({"peft_type": "LORA", "r": rank, "lora_alpha": rank, "target_modules": list(PROJECTIONS), "bias": "none"}, file)


main(*sys.argv[1:])
