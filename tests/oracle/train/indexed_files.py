"""Token ids as Megatron's PREFIX.bin and PREFIX.idx, int32."""
import struct


def write_indexed(prefix, documents):
    starts, bytes_before = [], 0
    for ids in documents:
        starts.append(bytes_before)
        bytes_before += 4 * len(ids)
    with open(f"{prefix}.bin", "wb") as file:
        for ids in documents:
            file.write(struct.pack(f"<{len(ids)}i", *ids))
    with open(f"{prefix}.idx", "wb") as file:
        n = len(documents)
        file.write(b"MMIDIDX\0\0" + struct.pack("<QBQQ", 1, 4, n, n + 1))
        file.write(struct.pack(f"<{n}i", *map(len, documents)) + struct.pack(f"<{n}q", *starts))
        file.write(struct.pack(f"<{n + 1}q", *range(n + 1)))
