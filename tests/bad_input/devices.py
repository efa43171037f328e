"""Rows of TPUs that do not exist, of `TF_CONFIG`, of `aot` and of `tpu.worker`; see `table.py`."""

import json
import shlex

_PRETRAIN, _AOT, _WORKER = "keras_vitbert.pretrain ", "keras_vitbert.aot ", "tpu.worker "
_TAKES = "not the name of a TPU; --tpu takes"
_TPUS = {
    "": r"--tpu is empty; --tpu takes an accelerator type \(v3-128\), grpc://HOST:8470",
    "v3_128": r"--tpu=v3_128: .*did you mean v3-128\?",
    "V3-128": r"--tpu=V3-128: .*did you mean v3-128\?",
    "v5e-16": r"--tpu=v5e-16: .*did you mean v5litepod-16\?",
    "v3-100": "--tpu=v3-100: .*known are v3-8, v3-32, ",
    "v3-12x": "--tpu=v3-12x: .*known are v3-8, v3-32, ",
    "v9-8": "--tpu=v9-8: .*known are v2-8 to v2-512, ",
    "v3-128 ": r"--tpu='v3-128 ': .*did you mean v3-128\?",
    "/home/me/tpu": f"--tpu=/home/me/tpu: {_TAKES}",
    "projects/p/nodes/n": f"--tpu=projects/p/nodes/n: {_TAKES}",
    "tpü": f"--tpu=tpü: {_TAKES}",
    "１２７": "--tpu=１２７: not ",
    "my tpu": f"--tpu='my tpu': {_TAKES}",
    "my-tpu\n": rf"--tpu='my-tpu\\n': {_TAKES}",
    "My-TPU": f"--tpu=My-TPU: {_TAKES}",
    "a" * 64: f"--tpu=a+: {_TAKES}",
    "http://localhost:8470": f"--tpu=http://localhost:8470: {_TAKES}",
    "localhost:8470": r"--tpu=localhost:8470: .*\(did you mean grpc://localhost:8470\?\)",
    "grpc://": "--tpu=grpc://: an address is empty; give grpc://HOST:8470",
    "grpc://localhost": "--tpu=grpc://localhost: 'localhost' has no port; give grpc://HOST",
    "grpc://localhost:": ": port '' is not a number from 1 to 65535; give",
    "grpc://localhost:0": ": port '0' is not a number from 1 to 65535; give",
    "grpc://localhost:65536": ": port '65536' is not a number from 1 to 65535; give",
    "grpc://localhost:８４７０": ": port '８４７０' is not a number from 1 to 65535; give",
    "grpc://localhost:8470/": ": port '8470/' is not a number from 1 to 65535; give",
    "grpc://[::1]:8470": r": '\[::1\]' is neither a host name nor an IPv4 address; give",
    "grpc://:8470": "--tpu=grpc://:8470: '' is neither a host name nor",
    "grpc://a:8470,": "--tpu=grpc://a:8470,: an address is empty; give",
    "grpc://a:8470, b:8470": "--tpu='grpc://a:8470, b:8470': ' b' is neither a host name",
    "grpc://a:8470,http://b:80": ": 'http://b' is neither a host name",
    "grpc://a:8470,grpc://a:8470": ": a:8470 is given twice; give",
}
_ADDRESSES = {
    "--tpu_address=localhost:8470": "--tpu_address=localhost:8470: give --tpu with it",
    "--tpu=local --tpu_address=a:8470": "--tpu_address=a:8470: goes with .*leave it out$",
    "--tpu=my-tpu --tpu_address=a:8470": "--tpu_address=a:8470: goes with .*--tpu=my-tpu",
    "--tpu=grpc://a:1 --tpu_address=a:1": "goes with .*--tpu=grpc://a:1; leave it out$",
    "--tpu=v3-8 --tpu_address=a": "--tpu_address=a: 'a' has no port; give grpc://",
    "--tpu=v3-8 --tpu_address=a:1,,b:1": "--tpu_address=a:1,,b:1: an address is empty",
}
_WORKERS = {"worker": ["a:1", "b:1"]}
_TASK = {"type": "worker", "index": 0}
_TF_CONFIGS = (
    ("{'cluster'", "not JSON"),
    ("[" * 100_000, "not JSON"),
    ([], "not an object"),
    ({}, "it has no cluster"),
    ({"cluster": [], "task": _TASK}, "it has no cluster"),
    ({"cluster": {}, "task": _TASK}, "it has no cluster"),
    ({"cluster": {"ps": ["a:1"]}, "task": _TASK}, r"its jobs \['ps'\] are not all workers"),
    ({"cluster": {"worker": "a:1"}, "task": _TASK}, "cluster.worker is not a list"),
    ({"cluster": {"worker": []}, "task": _TASK}, "cluster.worker is not a list"),
    ({"cluster": {"worker": ["a"]}, "task": _TASK}, "cluster.worker: 'a' has no port"),
    ({"cluster": {"worker": [[]]}, "task": _TASK}, "cluster.worker: .* has no port"),
    ({"cluster": {"worker": ["a:x"]}, "task": _TASK}, "cluster.worker: port 'x' is not"),
    ({"cluster": {"worker": ["a:1", "a:1"]}, "task": _TASK}, "an address occurs twice in"),
    ({"cluster": {"chief": ["a:1", "b:1"]}, "task": _TASK}, "several chiefs"),
    ({"cluster": _WORKERS}, "it has no task"),
    ({"cluster": _WORKERS, "task": {"index": 0}}, r"task.type None .* \(worker\)"),
    ({"cluster": _WORKERS, "task": {"type": "chief", "index": 0}}, "'chief' is not a job"),
    ({"cluster": _WORKERS, "task": {"type": [], "index": 0}}, r"task.type \[\] is not a job"),
    ({"cluster": _WORKERS, "task": {"type": "worker"}}, "task.index None must be from 0 to 1"),
    ({"cluster": _WORKERS, "task": {**_TASK, "index": 2}}, "task.index 2 must be from 0 to 1"),
    ({"cluster": _WORKERS, "task": {**_TASK, "index": -1}}, "task.index -1 must be from 0 to 1"),
    ({"cluster": _WORKERS, "task": {**_TASK, "index": True}}, "task.index True must be from"),
)
_AOT_FLAGS = {
    "": "--tpu=: not an accelerator type of a TPU; known are v2-8 to",
    "--tpu=": "--tpu=: not an accelerator type",
    "--tpu=v3-100": "--tpu=v3-100: .*v3-128",
    "--tpu=local": "--tpu=local: not an accelerator type",
    "--tpu=v3-8 --variant=vitbrt": "--variant=vitbrt: .*did you mean vitbert",
    "--tpu=v3-8 --compare=jint": "--compare=jint: .*did you mean joint",
    "--tpu=v3-8 --task=cifar11": "--task=cifar11: .*did you mean cifar10",
    "--tpu=v3-8 --task=texts": "--task=texts: .*--num_classes",
    "--tpu=v3-8 --task=pets --compare=joint": "--compare is for pre-training",
    "--tpu=v3-8 --architecture=paper": "--architecture goes with --task",
    "--tpu=v3-8 --num_classes=3": "--num_classes goes with --task",
    "--tpu=v3-8 --task=pets --architecture=nothing": "--architecture=nothing: ",
    "--tpu=v3-8 --config=nothing": "--config=nothing: no such config",
    "--tpu=v3-128 --config.image_batch=4000": "nearest are 3968 or 4096",
    "--gpu=16 --backend=jax --config=sample": "--gpu: with JAX only TPUs can be proven; give --backend",
    "--tpu=v3-128 --config.text_batch=100": "the nearest are 128",
    "--tpu=v3-128 --task=cifar10 --config.batch=500": "nearest are 384 or 512",
    "--tpu=v3-8 --jobs=0": "jobs",
    "--gpu=16 --config=sample --json=.": "--json=.: is a folder; give the name of a file",
    "--gpu=16 --config=sample --json=exits.py/x.json": "--json=exits.py: cannot be written to",
    "--tpu=v3-8 --compare=joint --programs=validate": "--programs=validate: --compare compares the training step; add train",
    "--tpu=v3-8 --output_dir=x": "output_dir",
    "--tpu=v3-8 --config=exits.py": "--config=exits.py: SystemExit",
    "--tpu=v3-8 --config.model.num_layers=2000000000": "num_layers=2000000000: is too large",
}
_BACKENDS = {
    "--backend=torch": "--backend=torch: give tensorflow or jax",
    "--backend=jax --tpu=v3-9": "--tpu=v3-9: not an accelerator type of a TPU",
    "--backend=jax --tpu=v3-8": "--tpu=v3-8: no TPU chips in this machine .* every host of the TPU",
    "--backend=jax --tpu=local": "--tpu=local: no TPU chips in this machine",
    "--backend=jax --tpu=my-tpu": "--tpu=my-tpu: with JAX give the accelerator type",
    "--backend=jax --tpu=v3-8 --tpu_address=grpc://h:1": "grpc://h:1: with JAX every host of a TPU",
    "--backend=jax --profile=2,3": "--profile: traces TensorFlow alone; leave it out with JAX",
    "--config.sharding=fsdp": "sharding=fsdp: with TensorFlow every device has all weights; give",
    "--config.sharding=zero": "sharding=zero: .*replicated, fsdp",
    "--backend=jax --config.jit_compile=off": "jit_compile=off: JAX compiles every step; leave it",
    "--backend=jax --config.data.packing=True": "data.packing=True: .*the program of JAX has one",
    "--backend=jax --config.data.images.layers=RandomHue": "KerasCV's layers run on TensorFlow al",
}
ROWS = {
    **{
        f"{_PRETRAIN}--config=sample --tpu={shlex.quote(tpu)}": phrase
        for tpu, phrase in _TPUS.items()
    },
    **{f"{_PRETRAIN}--config=sample {line}": phrase for line, phrase in _ADDRESSES.items()},
    **{
        f"TF_CONFIG={shlex.quote(c if isinstance(c, str) else json.dumps(c))} {_PRETRAIN}--variant=vit": f'TF_CONFIG: .*{phrase}.*; unset it, or give {{"cluster": '
        for c, phrase in _TF_CONFIGS
    },
    **{f"{_PRETRAIN}--config=sample {line}": phrase for line, phrase in _BACKENDS.items()},
    "KERAS_BACKEND=torch keras_vitbert.pretrain --variant=vit": "=torch: must be tensorflow or jax; unset it",
    "KERAS_BACKEND=jax keras_vitbert.predict --checkpoint=run --text=a": "=jax: must be tensorflow; unset it",
    "KERAS_BACKEND= keras_vitbert.predict --checkpoint=run --text=a": "KERAS_BACKEND=: must be tensor",
    **{_AOT + line: phrase for line, phrase in _AOT_FLAGS.items()},
    **{
        _WORKER + flag: flag.strip("-").partition("=")[0]
        for flag in ("--port=x", "--port=65536", "--port=-1", "--prot=1", "8470")
    },
}
