"""What every Python peer shares: the configurations, the data, and the timing of steps.

A peer is a function `make_step(sizes, batch_size, inputs, labels)` that returns a function `step(indices)`: it trains
on one batch and returns its loss as a Python float. `sizes` are those of linear layers, or the text of a network's
layers as `softstep --layers` takes it. `main` turns it into a program:

    python PEER.py [--seconds 1]   a JSON line for each configuration
    python PEER.py --serve         an answer for each request on standard input, which is how compare.py asks
    python PEER.py --device cuda   on an NVIDIA GPU
"""

import argparse
import json
import math
import os
import sys
import time

import numpy

EXAMPLES, FEATURES, CLASSES = 60_000, 784, 10
MODELS = [[784, 10], [784, 128, 10], [784, 512, 512, 10]]
CONVOLUTIONAL = [
    "conv:16x5,relu,pool:2,conv:32x5,relu,pool:2,linear:128,relu",
    "conv:32x3,relu,pool:2,conv:64x3,relu,pool:2,linear:128,relu",
]
BATCH_SIZES = [64, 256, 1024]
LEARNING_RATE = 0.01
WARM_UP_SECONDS = 1.0
THREADS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


class Trainer:
    """Steps through shuffled batches, epoch after epoch, leaving out a last one that is smaller."""

    def __init__(self, make_step, sizes, batch_size, data, to_indices):
        self.step = make_step(sizes, batch_size, *data)
        order = numpy.random.default_rng(0).permutation(EXAMPLES)
        starts = range(0, EXAMPLES - batch_size + 1, batch_size)
        self.batches = [to_indices(order[start : start + batch_size]) for start in starts]
        self.next = 0

    def steps(self, count):
        for _ in range(count):
            loss = self.step(self.batches[self.next])
            self.next = (self.next + 1) % len(self.batches)
            if not math.isfinite(loss):
                sys.exit("a loss is not finite: the times mean nothing")

    def steps_per_second(self, seconds):
        self.pace(WARM_UP_SECONDS)
        return self.pace(seconds)

    def pace(self, seconds):
        count, started = 0, time.perf_counter()
        while time.perf_counter() - started < seconds:
            self.steps(1)
            count += 1
        return count / (time.perf_counter() - started)


def pytorch_main(make_step, models=MODELS):
    """Runs a peer in PyTorch, whose `make_step` gets tensors on the chosen device."""
    import torch

    torch.set_num_threads(THREADS)
    torch.manual_seed(0)

    def to_tensor(array):
        return torch.from_numpy(array).to(torch.get_default_device())

    main(make_step, to_tensor, to_tensor, to_tensor, models, torch.set_default_device)


def main(make_step, to_inputs, to_labels, to_indices, models=MODELS, choose_device=None):
    """Runs a peer; the `to_…` functions turn NumPy arrays into its own, after `choose_device(name)`."""
    parser = argparse.ArgumentParser()
    if choose_device:
        parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"], help="where to compute")
    parser.add_argument("--seconds", type=float, default=1.0, help="time to measure each configuration for")
    parser.add_argument("--serve", action="store_true", help="answer requests on standard input")
    arguments = parser.parse_args()
    if choose_device:
        choose_device(arguments.device)

    random = numpy.random.default_rng(0)
    inputs = random.integers(0, 256, (EXAMPLES, FEATURES), dtype=numpy.uint8).astype(numpy.float32) / 255
    data = to_inputs(inputs), to_labels(random.integers(0, CLASSES, EXAMPLES))
    trainers = {}

    def answer(sizes, batch_size, seconds):
        key = (tuple(sizes), batch_size)
        if key not in trainers:
            trainers[key] = Trainer(make_step, sizes, batch_size, data, to_indices)
        rate = trainers[key].steps_per_second(seconds)
        print(json.dumps({"sizes": sizes, "batch_size": batch_size, "steps_per_second": rate}), flush=True)

    if arguments.serve:
        for line in sys.stdin:
            answer(**json.loads(line))
    else:
        for sizes in models:
            for batch_size in BATCH_SIZES:
                answer(sizes, batch_size, arguments.seconds)
