"""Stands in for `one_run`: writes a summary, or ends as its inputs say; counts its calls."""

import json
import os
import signal
import sys
import time


def main(asked):
    folder, inputs = asked["folder"], asked["inputs"]
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, "calls"), "a") as file:
        file.write("x")
    if "wait" in inputs:
        # Like a command that saves its work when it is asked to stop.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        with open(os.path.join(folder, "began"), "w"):
            pass
        time.sleep(600)
    if "beside" in inputs:  # another run, which must be going on meanwhile
        while not os.path.exists(os.path.join(inputs["beside"], "calls")):
            time.sleep(0.05)
    if status := inputs.get("status", 0):
        return status
    for need in inputs.get("needs", ()):
        if not os.path.exists(os.path.join(need, "summary.json")):
            return 2
    measures = {"examples": 2, "majority_accuracy": 0.5, "accuracy": {"median": 0.25}}
    summary = {"seconds": 1.0, "splits": {"dev": measures}, "metric": "accuracy"}
    summary |= dict.fromkeys(("learning_rate", "steps", "training_examples"), 0.25)
    summary["sweep"] = {"0.25": 0.5, "0.5": 0.25}
    with open(os.path.join(folder, "summary.json"), "w") as file:
        json.dump({**summary, "asked": asked}, file)
    return 0


if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[1])))
