"""softstep beside its peers on this machine, in one run: a table of steps per second and of ratios.

    python compare.py [--rounds 5] [--seconds 0.5] [--peers NAME ...] [--json]

The programs take turns within each round, so that what disturbs the machine disturbs them alike; figures are medians
over the rounds, and ratios medians of the rounds' ratios. A peer that is not installed is left out, with a note.
README.md says what is measured and how to install the peers.
"""

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
CONFIGURATIONS = [(s, b) for s in ([784, 10], [784, 128, 10], [784, 512, 512, 10]) for b in (64, 256, 1024)]
PEERS = {
    "pytorch_eager": [sys.executable, HERE / "pytorch_eager.py"],
    "pytorch_by_hand": [sys.executable, HERE / "pytorch_by_hand.py"],
    "jax_jit": [sys.executable, HERE / "jax_jit.py"],
    "candle": [HERE / "candle/target/release/softstep-peer-candle"],
    "burn_flex": [HERE / "burn/target/release/softstep-peer-burn", "flex"],
    "burn_wgpu": [HERE / "burn/target/release/softstep-peer-burn", "wgpu"],
}


class Peer:
    """A program that answers requests, and sleeps in between."""

    def __init__(self, command):
        # Standard error stays the caller's, so that a missing module is told.
        self.process = subprocess.Popen(
            [*map(str, command), "--serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def steps_per_second(self, sizes, batch_size, seconds):
        request = {"sizes": sizes, "batch_size": batch_size, "seconds": seconds}
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())["steps_per_second"]

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def start_peers(names):
    peers = {}
    for name in names:
        try:
            peers[name] = Peer(PEERS[name])
            peers[name].steps_per_second([784, 10], 64, 0.01)
        except (OSError, ValueError) as error:
            peers.pop(name, None)
            print(f"note: without {name}, which does not run ({error}); see README.md", file=sys.stderr)
    return peers


def softstep(binary, sizes, batch_size, seconds):
    """{"softstep gpu": steps per second, "softstep cpu": ...}; without the first where there is no adapter."""
    command = [binary, "bench", "--json", "--batch-size", str(batch_size), "--seconds", str(2 * seconds), "--hidden"]
    command += [",".join(map(str, sizes[1:-1]))] if sizes[1:-1] else []
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(done.stderr)
    line = json.loads(done.stdout)
    return {f"softstep {name}": line[name]["steps_per_second"] for name in ("gpu", "cpu") if line[name]}


def measure(arguments, peers):
    """Yields a line for each configuration."""
    for sizes, batch_size in CONFIGURATIONS:
        rounds = []
        for round in range(arguments.rounds):
            print(f"\r{'-'.join(map(str, sizes))}, batch {batch_size}, round {round + 1} ", end="", file=sys.stderr)
            rates = softstep(arguments.softstep, sizes, batch_size, arguments.seconds)
            for name, peer in peers.items():
                rates[name] = peer.steps_per_second(sizes, batch_size, arguments.seconds)
            rounds.append(rates)
        medians = {name: statistics.median(rates[name] for rates in rounds) for name in rounds[0]}
        ratios = {
            f"{ours} / {theirs}": statistics.median(rates[ours] / rates[theirs] for rates in rounds)
            for ours in medians if ours.startswith("softstep")
            for theirs in peers
        }
        yield {"sizes": sizes, "batch_size": batch_size, "steps_per_second": medians, "ratios": ratios, "rounds": rounds}
    print("\r" + " " * 60 + "\r", end="", file=sys.stderr)


def table(lines):
    """Steps per second, and in brackets how many times as fast softstep's GPU and CPU backend are."""
    names = list(lines[0]["steps_per_second"])
    ours = [name for name in names if name.startswith("softstep")]
    header = ["model", "batch", *names]
    rows = [header]
    for line in lines:
        row = ["-".join(map(str, line["sizes"])), str(line["batch_size"])]
        for name in names:
            cell = f"{line['steps_per_second'][name]:,.0f}"
            if name not in ours:
                cell += " (" + ", ".join(f"{line['ratios'][f'{our} / {name}']:.2f}" for our in ours) + ")"
            row.append(cell)
        rows.append(row)
    widths = [max(len(row[column]) for row in rows) for column in range(len(header))]
    text = "\n".join("  ".join(cell.rjust(width) for cell, width in zip(row, widths)) for row in rows)
    return f"Steps per second; in brackets {' and '.join(ours)} by the peer's, above 1 where softstep is faster.\n{text}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--softstep", default=HERE.parents[1] / "target/release/softstep", help="its binary")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.5, help="time of each program in each round")
    parser.add_argument("--peers", nargs="*", default=list(PEERS), choices=list(PEERS), metavar="NAME")
    parser.add_argument("--json", action="store_true", help="print a JSON line for each configuration")
    arguments = parser.parse_args()
    if not Path(arguments.softstep).is_file():
        parser.error(f"no {arguments.softstep}: run `cargo build --release` first, or name it with --softstep")
    peers = start_peers(arguments.peers)
    lines = []
    for line in measure(arguments, peers):
        lines.append(line)
        if arguments.json:
            print(json.dumps(line), flush=True)
    if not arguments.json:
        print(table(lines))
    for peer in peers.values():
        peer.close()


if __name__ == "__main__":
    main()
