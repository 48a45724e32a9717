"""Runs an exported model on inputs, and prints what it makes of each as a line of JSON.

    pip install numpy onnx onnxruntime       # for ONNX files; modules of PyTorch need torch
    python tests/python/exported.py model.onnx INPUTS
    python tests/python/exported.py model.py INPUTS

INPUTS is an array (.npy) of bytes or numbers, or a table (.csv) with dates as 2020-12-31. A line has `label` and
`outputs`, or `outputs` alone where the model predicts values. `softstep predict --json` must report the same.
"""

import csv
import datetime
import importlib.util
import json
import sys

MISSING = {"", "NA", "nan"}


def number(text):
    """A cell of a table as a number: dates are days since 1970-01-01."""
    if text in MISSING:
        return float("nan")
    if text in ("true", "false"):
        return float(text == "true")
    try:
        return float(text)
    except ValueError:
        return float((datetime.date.fromisoformat(text) - datetime.date(1970, 1, 1)).days)


def columns(path):
    """The texts of a table, by columns."""
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    return {name: [row[name] for row in rows] for name in rows[0]}


def by_onnx(path, inputs):
    import numpy as np
    import onnx
    import onnxruntime

    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    assert model.producer_name == "softstep" and model.doc_string and model.graph.doc_string
    assert {entry.key for entry in model.metadata_props} >= {"producer", "data", "loss", "accuracy"}
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    if inputs.endswith(".csv"):
        table = columns(inputs)
        feeds = {}
        for given in session.get_inputs():
            cells = table[given.name]
            is_text = given.type == "tensor(string)"
            texts = np.array([cell.strip() for cell in cells], dtype=object)
            values = texts if is_text else np.array([number(cell) for cell in cells])
            feeds[given.name] = values.reshape(-1, 1)
    else:
        (given,) = session.get_inputs()
        array = np.load(inputs)
        feeds = {given.name: array.reshape(-1, *given.shape[1:])}
    names = [output.name for output in session.get_outputs()]
    # Another name than `label` where a column is called so.
    label = next((output.name for output in session.get_outputs() if output.type == "tensor(string)"), None)
    outputs = dict(zip(names, session.run(names, feeds)))
    # A batch of one is of any size, too.
    first = dict(zip(names, session.run(names, {name: values[:1] for name, values in feeds.items()})))
    assert all(np.allclose(values[:1], outputs[name][:1]) for name, values in first.items() if name != label)
    numbers = next(outputs[name] for name in ("probabilities", "scores", "value") if name in outputs)
    return outputs.get(label), numbers.tolist()


def by_torch(path, inputs):
    import numpy as np

    spec = importlib.util.spec_from_file_location("exported_model", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    model = module.load()
    if inputs.endswith(".csv"):
        table = columns(inputs)
        # Every way to say that a value is missing.
        numbers = lambda cells: [[None, "", float("nan")][at % 3] if cell == "" else number(cell) for at, cell in enumerate(cells)]
        texts = lambda cells: [[None, "", float("nan")][at % 3] if cell == "" else cell for at, cell in enumerate(cells)]
        given = {
            name: (texts if len(encoding) == 1 else numbers)(table[name]) for name, *encoding in module.COLUMNS
        }
    else:
        given = np.load(inputs)
    predicted = model.predict(given)
    return predicted if isinstance(predicted, tuple) else (None, predicted)


def main(path, inputs):
    labels, outputs = (by_onnx if path.endswith(".onnx") else by_torch)(path, inputs)
    for index, numbers in enumerate(outputs):
        line = {"outputs": [float(value) for value in numbers]}
        if labels is not None:
            line["label"] = str(labels[index])
        print(json.dumps(line))


if __name__ == "__main__":
    main(*sys.argv[1:])
