"""Stands in for `pretrain`: writes a summary, or ends as its flags say; counts its calls.

python -m tests.keras_vitbert.reproduction.fake_command [--status=N] [--wait] [--needs=DIR]
                                                        --output_dir=DIR
"""

import json
import os
import signal
import sys
import time


def main(argv):
    flags = dict(part[2:].partition("=")[::2] for part in argv)
    folder = flags["output_dir"]
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, "calls"), "a") as file:
        file.write("x")
    if "wait" in flags:
        # Like a command that saves its work when it is asked to stop.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        with open(os.path.join(folder, "began"), "w"):
            pass
        time.sleep(600)
    if status := int(flags.get("status", 0)):
        return status
    for need in flags.get("needs", "").split(","):
        if need and not os.path.exists(os.path.join(need, "summary.json")):
            return 2
    with open(os.path.join(folder, "summary.json"), "w") as file:
        json.dump({"seconds": 1.0, "flags": flags}, file)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
