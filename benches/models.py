"""Test accuracy, seconds and parameters of the models of the documentation on MNIST, as a table in Markdown.

    cargo build --release
    python benches/models.py --data FOLDER [--seeds 5] [--backends cpu,gpu]

FOLDER holds the four IDX files of MNIST, gzipped or not. Every run has the defaults of the command line; runs of the
backends take turns, and nothing else should run beside them. Accuracies are means over the seeds 0, 1, ...; seconds are
medians from process start to end, loading, evaluation and report included. Needs Python 3.9 and no package.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

BINARY = os.path.join(os.path.dirname(__file__), "../target/release/softstep")
MODELS = [
    ("softmax regression", []),
    ("`--hidden 128`", ["--hidden", "128"]),
    ("`--hidden 512,512`", ["--hidden", "512,512"]),
    ("`--layers cnn`", ["--layers", "cnn"]),
]


def run(data, model, backend, seed):
    """Test accuracy, seconds, epochs, parameters and device of a run."""
    with tempfile.TemporaryDirectory() as folder:
        out = os.path.join(folder, "run")
        command = [BINARY, "train", "--data", data, "--backend", backend, "--seed", str(seed), "--json", "-q", "--out", out]
        started = time.perf_counter()
        done = subprocess.run(command + model, stdout=subprocess.PIPE, text=True, check=True)
        seconds = time.perf_counter() - started
        last = json.loads(done.stdout.splitlines()[-1])
        with open(os.path.join(out, "config.json")) as file:
            config = json.load(file)
        return last["test_accuracy"], seconds, config["epochs"], count(os.path.join(out, "model.safetensors"))


def count(path):
    """Weights and biases in a model file."""
    with open(path, "rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    total = 0
    for name, tensor in header.items():
        if name != "__metadata__" and not name.rsplit(".", 1)[-1].startswith(("running", "num_batches")):
            size = 1
            for side in tensor["shape"]:
                size *= side
            total += size
    return total


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", required=True)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--backends", default="cpu,gpu")
    arguments = parser.parse_args()
    backends = arguments.backends.split(",")
    print("| model | parameters | epochs | " + " | ".join(f"{b}: accuracy | {b}: seconds" for b in backends) + " |")
    print("|---|---|---|" + "---|---|" * len(backends))
    for name, model in MODELS:
        runs = {backend: [] for backend in backends}
        for seed in range(arguments.seeds):
            for backend in backends:
                runs[backend].append(run(arguments.data, model, backend, seed))
                print(name, backend, seed, runs[backend][-1], file=sys.stderr)
        _, _, epochs, parameters = runs[backends[0]][0]
        cells = []
        for backend in backends:
            accuracies, seconds = [[one[part] for one in runs[backend]] for part in (0, 1)]
            cells += [f"{100 * statistics.mean(accuracies):.2f} %", f"{statistics.median(seconds):.1f}"]
        print(f"| {name} | {parameters:,} | {epochs} | " + " | ".join(cells) + " |", flush=True)


main()
