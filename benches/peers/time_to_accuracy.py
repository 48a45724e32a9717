"""Seconds from process start to 99 % test accuracy on MNIST, softstep's CPU backend beside PyTorch eager.

    python benches/peers/time_to_accuracy.py --data FOLDER [--rounds 3] [--without-torch]

FOLDER holds the four IDX files of MNIST, gzipped or not. Both programs train the same network with the same settings,
evaluate after every epoch, and are timed from their start, loading and compiling included; a round is both in turns.
Build softstep first: cargo build --release. PyTorch needs `pip install torch numpy`.
"""

import argparse
import gzip
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

GOAL = 0.99
EPOCHS, BATCH, RATE, MOMENTUM = 2, 64, 0.1, 0.9
LAYERS = "conv:8x5,relu,pool:2,conv:16x5,relu,pool:2,linear:128,relu"
BINARY = os.path.join(os.path.dirname(__file__), "../../target/release/softstep")


def softstep(data, seed):
    """Seconds until the first epoch that reaches the goal was evaluated, and its accuracy."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            BINARY, "train", "--data", data, "--backend", "cpu", "--layers", LAYERS, "--epochs", str(EPOCHS),
            "--batch-size", str(BATCH), "--optimizer", "sgd", "--lr", str(RATE), "--momentum", str(MOMENTUM),
            "--nesterov", "--weight-decay", "0", "--schedule", "one-cycle", "--validation", "0", "--seed", str(seed),
            "--json", "--out", os.path.join(folder, "run"),
        ]
        started = time.perf_counter()
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
            return first_to_reach(process.stdout, started, "test_accuracy")


def first_to_reach(lines, started, key):
    """Reads JSON lines up to the first accuracy that reaches the goal, else the last; drains the rest."""
    found = None
    for line in lines:
        accuracy = json.loads(line).get(key)
        if accuracy is not None and (found is None or found[1] < GOAL):
            found = time.perf_counter() - started, accuracy
    return found


def pytorch(data, seed):
    """The same of PyTorch, in a process of its own."""
    command = [sys.executable, __file__, "--data", data, "--child", str(seed)]
    started = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        return first_to_reach(process.stdout, started, "test_accuracy")


def read(folder, name):
    import numpy

    path = os.path.join(folder, name)
    with gzip.open(path + ".gz") if os.path.exists(path + ".gz") else open(path, "rb") as file:
        content = file.read()
    return numpy.frombuffer(content, numpy.uint8, offset=4 + 4 * content[3])


def train(data, seed):
    """Trains with PyTorch as people write it, and prints the test accuracy after each epoch."""
    import torch
    from torch import nn

    torch.manual_seed(seed)
    images = [torch.tensor(read(data, f"{part}-images-idx3-ubyte")).view(-1, 1, 28, 28) for part in ("train", "t10k")]
    labels = [torch.tensor(read(data, f"{part}-labels-idx1-ubyte")).long() for part in ("train", "t10k")]
    model = nn.Sequential(
        nn.Conv2d(1, 8, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(16 * 7 * 7, 128), nn.ReLU(), nn.Linear(128, 10),
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE, momentum=MOMENTUM, nesterov=True)
    steps = EPOCHS * -(-len(labels[0]) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps, cycle_momentum=False)
    for _ in range(EPOCHS):
        model.train()
        for rows in torch.randperm(len(labels[0])).split(BATCH):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(images[0][rows].float() / 255), labels[0][rows])
            loss.backward()
            optimizer.step()
            schedule.step()
            loss.item()
        model.eval()
        with torch.no_grad():
            right = sum(
                (model(images[1][rows].float() / 255).argmax(1) == labels[1][rows]).sum().item()
                for rows in torch.arange(len(labels[1])).split(1000)
            )
        print(json.dumps({"test_accuracy": right / len(labels[1])}), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--without-torch", action="store_true")
    parser.add_argument("--child", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child is not None:
        return train(arguments.data, arguments.child)
    programs = {"softstep, CPU backend": softstep} | ({} if arguments.without_torch else {"PyTorch eager": pytorch})
    times = {name: [] for name in programs}
    for seed in range(arguments.rounds):
        for name, program in programs.items():
            seconds, accuracy = program(arguments.data, seed)
            times[name].append(seconds if accuracy >= GOAL else float("inf"))
            print(f"seed {seed}: {name}: {100 * accuracy:.2f} % after {seconds:.1f} s", flush=True)
    for name, seconds in times.items():
        print(f"{name}: {100 * GOAL:.0f} % after {statistics.median(seconds):.1f} s (median of {len(seconds)})")


main()
