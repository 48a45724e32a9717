"""Reads the event files of a run as TensorBoard does.

    pip install tensorboard
    python tests/python/read_events.py runs/<run>

Prints one JSON object: for each tag its [step, value] pairs.
"""

import json
import sys

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

# 0: every value, not a sample of them.
events = EventAccumulator(sys.argv[1], size_guidance={"scalars": 0})
events.Reload()
tags = events.Tags()["scalars"]
print(json.dumps({tag: [[event.step, event.value] for event in events.Scalars(tag)] for tag in tags}))
