"""Trains on a .npy set that stays on disk and on the same set in memory: bits, memory and speed of both.

    python benches/larger_than_memory.py target/release/softstep [GB, 6 by default] [folder for the set]

Makes the set (bytes, 784 for each example, of ten noisy classes), trains one epoch of softmax regression on the CPU each
way, prints what came of it and removes the set. The way in memory is left out where the machine has less than twice the
set. To be run where nothing else does; clear the page cache before it to see the disk (echo 3 > /proc/sys/vm/drop_caches).
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile

import numpy as np


def make(folder, examples):
    """Writes x.npy in pieces, and y.npy."""
    random = np.random.default_rng(0)
    classes = random.integers(0, 256, (10, 784), dtype=np.uint8)
    labels = random.integers(0, 10, examples, dtype=np.uint8)
    np.save(os.path.join(folder, "y.npy"), labels)
    # Written, not mapped: pages of a map would count as memory of this process, and then of the one that it starts.
    with open(os.path.join(folder, "x.npy"), "wb") as file:
        np.lib.format.write_array_header_1_0(
            file, {"descr": "|u1", "fortran_order": False, "shape": (examples, 784)}
        )
        for first in range(0, examples, 20_000):
            part = labels[first : first + 20_000]
            noise = random.integers(0, 256, (len(part), 784), dtype=np.uint8)
            file.write((noise // 2 + classes[part] // 2).tobytes())


def train(binary, folder, out, in_memory):
    """Trains one epoch; returns the last line and the peak memory in MB."""
    limit = str(1 << 60) if in_memory else str(256 << 20)
    arguments = ["--data", folder, "--backend", "cpu", "--epochs", "1", "--batch-size", "256", "--out", out]
    process = subprocess.Popen(
        [binary, "train", "-q", "--json", *arguments],
        env={**os.environ, "SOFTSTEP_IN_MEMORY_BYTES": limit},
        stdout=subprocess.PIPE,
        text=True,
    )
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"softstep ended with {status}")
    return json.loads(output.splitlines()[-1]), usage.ru_maxrss / 1024


def main():
    binary = os.path.abspath(sys.argv[1])
    size = float(sys.argv[2]) if len(sys.argv) > 2 else 6.0
    folder = tempfile.mkdtemp(prefix="softstep-set-", dir=sys.argv[3] if len(sys.argv) > 3 else None)
    try:
        examples = int(size * 1e9 / 784)
        data = os.path.join(folder, "data")
        os.mkdir(data)
        make(data, examples)
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        found = {}
        for name in ["on disk", "in memory"]:
            if name == "in memory" and memory < 2.5e9 * size:
                print("in memory: left out, the machine has too little")
                continue
            done, peak = train(binary, data, os.path.join(folder, name.replace(" ", "-")), name == "in memory")
            found[name] = done["parameters_sha256"]
            print(
                f"{name}: {examples:,} examples, peak {peak:,.0f} MB, {done['images_per_second']:,.0f} examples/s in training,"
                f" {done['total_seconds']:.1f} s in all, test accuracy {100 * done['test_accuracy']:.2f} %"
            )
        print("the bits are the same" if len(set(found.values())) == 1 else "THE BITS DIFFER")
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
