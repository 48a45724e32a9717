#!/usr/bin/env python3
"""Time and peak memory of sweeps of tiny runs: what a run costs beside its training.

    cargo build --release
    python benches/many_runs.py                                one process
    cargo build --release --features mpi
    python benches/many_runs.py -- mpirun -n 2                 two ranks; memory is that of the largest process
"""

import argparse
import os
import subprocess
import tempfile
import time

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--softstep", default="target/release/softstep", help="the program")
parser.add_argument("--runs", type=int, nargs="+", default=[1, 250, 1000, 4000], help="runs of each sweep")
parser.add_argument("launcher", nargs="*", help="command that starts the program")
args = parser.parse_args()
softstep = os.path.abspath(args.softstep)

with tempfile.TemporaryDirectory() as folder:
    with open(os.path.join(folder, "tiny.csv"), "w") as table:
        table.write("a,b,y\n" + "".join(f"{row % 7},{row * row % 11},{row % 3}\n" for row in range(60)))
    for runs in args.runs:
        command = [*args.launcher, softstep, "sweep", "--backend=cpu", "--data=tiny.csv", "--target=y", "--epochs=1"]
        # Two ranges: of one, rounded to what can be read, there are too few values for so many different runs.
        command += ["--lr=0.01..0.5", "--momentum=0.1..0.9", "--quiet", f"--runs={runs}", f"--out={runs}"]
        started = time.monotonic()
        process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL)
        # The usage is that of this process and of those that it has waited for.
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.monotonic() - started
        if status != 0:
            raise SystemExit(f"{' '.join(command)} failed")
        processor = usage.ru_utime + usage.ru_stime
        print(f"{runs} runs: {seconds:.2f} s, {processor:.2f} s of processor, {usage.ru_maxrss / 1024:.1f} MiB")
