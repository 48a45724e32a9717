"""softstep beside its peers on this machine, in one run: a table of steps per second and of ratios.

    python compare.py [--layers] [--rounds 3] [--seconds 4] [--peers NAME ...] [--device cuda] [--json]

The programs take turns, each alone on the machine: it starts, makes its data, warms up for a second, trains for
--seconds, and ends. So what disturbs the machine disturbs them alike, and they do not disturb each other. Figures are
medians over the rounds, and ratios medians of the rounds' ratios. A peer that is not installed is left out, with a note.
README.md says what is measured and how to install the peers.
"""

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path

import work

HERE = Path(__file__).resolve().parent
PEERS = {
    "pytorch_eager": [sys.executable, HERE / "pytorch_eager.py"],
    "pytorch_by_hand": [sys.executable, HERE / "pytorch_by_hand.py"],
    "jax_jit": [sys.executable, HERE / "jax_jit.py"],
    "candle": [HERE / "candle/target/release/softstep-peer-candle"],
    "burn_flex": [HERE / "burn/target/release/softstep-peer-burn", "flex"],
    "burn_wgpu": [HERE / "burn/target/release/softstep-peer-burn", "wgpu"],
}
CONVOLUTIONAL_PEERS = {
    "pytorch_convolution": [sys.executable, HERE / "pytorch_convolution.py"],
    "burn_flex": PEERS["burn_flex"],
    "burn_wgpu": PEERS["burn_wgpu"],
}


def steps_per_second(command, model, batch_size, seconds):
    """Of a peer, from its start to its end."""
    request = {"sizes": model, "batch_size": batch_size, "seconds": seconds}
    # Standard error stays the caller's, so that a missing module is told.
    done = subprocess.run(
        [*map(str, command), "--serve"], input=json.dumps(request) + "\n", stdout=subprocess.PIPE, text=True
    )
    return json.loads(done.stdout.splitlines()[-1])["steps_per_second"]


def installed(peers, names, model, device):
    """The peers that run on the device, with their commands."""
    found = {}
    for name in names or peers:
        command = peers[name]
        if device != "cpu" and command[0] == sys.executable:
            command = [*command, "--device", device]
        try:
            steps_per_second(command, model, 64, 0.01)
            found[name] = command
        except (OSError, ValueError, IndexError) as error:
            print(f"note: without {name}, which does not run ({error}); see README.md", file=sys.stderr)
    return found


def softstep(binary, model, batch_size, seconds):
    """{"softstep gpu": steps per second, "softstep cpu": ...}; without the first where there is no adapter."""
    command = [binary, "bench", "--json", "--batch-size", str(batch_size), "--seconds", str(2 * seconds)]
    if isinstance(model, str):
        command += ["--layers", model]
    else:
        command += ["--hidden", *([",".join(map(str, model[1:-1]))] if model[1:-1] else [])]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(done.stderr)
    line = json.loads(done.stdout)
    return {f"softstep {name}": line[name]["steps_per_second"] for name in ("gpu", "cpu") if line[name]}


def name_of(model):
    return model if isinstance(model, str) else "-".join(map(str, model))


def measure(arguments, models, peers):
    """Yields a line for each configuration."""
    for model, batch_size in ((model, batch_size) for model in models for batch_size in work.BATCH_SIZES):
        rounds = []
        for round in range(arguments.rounds):
            print(f"\r{name_of(model)}, batch {batch_size}, round {round + 1} ", end="", file=sys.stderr)
            rates = softstep(arguments.softstep, model, batch_size, arguments.seconds)
            for name, command in peers.items():
                rates[name] = steps_per_second(command, model, batch_size, arguments.seconds)
            rounds.append(rates)
        medians = {name: statistics.median(rates[name] for rates in rounds) for name in rounds[0]}
        ratios = {
            f"{ours} / {theirs}": statistics.median(rates[ours] / rates[theirs] for rates in rounds)
            for ours in medians if ours.startswith("softstep")
            for theirs in peers
        }
        yield {"model": name_of(model), "batch_size": batch_size, "steps_per_second": medians, "ratios": ratios, "rounds": rounds}
    print("\r" + " " * 60 + "\r", end="", file=sys.stderr)


def table(lines):
    """Steps per second, and in brackets how many times as fast softstep's GPU and CPU backend are."""
    names = list(lines[0]["steps_per_second"])
    ours = [name for name in names if name.startswith("softstep")]
    header = ["model", "batch", *names]
    rows = [header]
    for line in lines:
        row = [line["model"], str(line["batch_size"])]
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
    parser.add_argument("--layers", action="store_true", help="measure convolutional networks, not linear layers")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4, help="time of each program in each round")
    parser.add_argument("--peers", nargs="*", choices=[*PEERS, *CONVOLUTIONAL_PEERS], metavar="NAME")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"], help="where PyTorch and JAX compute")
    parser.add_argument("--json", action="store_true", help="print a JSON line for each configuration")
    arguments = parser.parse_args()
    if not Path(arguments.softstep).is_file():
        parser.error(f"no {arguments.softstep}: run `cargo build --release` first, or name it with --softstep")
    models = work.CONVOLUTIONAL if arguments.layers else work.MODELS
    peers = CONVOLUTIONAL_PEERS if arguments.layers else PEERS
    names = [name for name in arguments.peers or peers if name in peers]
    lines = []
    for line in measure(arguments, models, installed(peers, names, models[0], arguments.device)):
        lines.append(line)
        if arguments.json:
            print(json.dumps(line), flush=True)
    if not arguments.json:
        print(table(lines))


if __name__ == "__main__":
    main()
