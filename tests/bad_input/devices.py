"""Rows of TPUs that do not exist, of `TF_CONFIG`, of `aot` and of `tpu.worker`; see `table.py`."""

import json
import shlex

_PRETRAIN, _AOT, _WORKER = "keras_vitbert.pretrain ", "keras_vitbert.aot ", "tpu.worker "
_TPUS = {
    "": "tpu ''",
    "v5e-16": "'v5e-16'.*v5litepod-16",
    "v3-100": "'v3-100'.*v3-128",
    "my-tpu\n": r"'my-tpu\\n'",
    "localhost:8470": "'localhost:8470'.*grpc://HOST:8470",
    "grpc://": "'grpc://'",
    "grpc://localhost": "'grpc://localhost'.*no port",
    "grpc://localhost:65536": "grpc://localhost:65536'.*'65536'",
    "grpc://[::1]:8470": r"'\[::1\]'",
    "grpc://a:8470, b:8470": "' b'",
}
_ADDRESSES = {
    "--tpu_address=localhost:8470": "tpu_address 'localhost:8470'",
    "--tpu=my-tpu --tpu_address=a:8470": "tpu_address 'a:8470'",
    "--tpu=v3-8 --tpu_address=a": "'a'.*no port",
}
_TASK = {"type": "worker", "index": 0}
_TF_CONFIGS = (
    ("{'cluster'", "malformed"),
    ([], "malformed"),
    ({"cluster": {"worker": ["a:1"]}}, "malformed"),
    ({"cluster": {"ps": ["a:1"]}, "task": {"type": "ps", "index": 0}}, "malformed"),
    ({"cluster": {"worker": ["a"]}, "task": _TASK}, "'a' has no port"),
    ({"cluster": {"worker": ["a:x"]}, "task": _TASK}, "'x'"),
    ({"cluster": {"worker": ["a:1", "a:1"]}, "task": _TASK}, "malformed"),
    ({"cluster": {"chief": ["a:1"]}, "task": _TASK}, "malformed"),
    ({"cluster": {"worker": ["a:1"]}, "task": {**_TASK, "index": 1}}, "malformed"),
)
_AOT_FLAGS = {
    "": "tpu ''.*v2-8",
    "--tpu=local": "tpu 'local'.*v2-8",
    "--tpu=v3-8 --variant=vitbrt": "--variant=vitbrt: .*did you mean vitbert",
    "--tpu=v3-8 --compare=jint": "--compare=jint: .*did you mean joint",
    "--tpu=v3-8 --task=cifar11": "--task=cifar11: .*did you mean cifar10",
    "--tpu=v3-8 --task=texts": "--task=texts: .*--num_classes",
    "--tpu=v3-8 --task=pets --compare=joint": "--compare ",
    "--tpu=v3-8 --architecture=paper": "--architecture ",
    "--tpu=v3-8 --num_classes=3": "--num_classes ",
    "--tpu=v3-8 --task=pets --architecture=nothing": "--architecture=nothing: ",
    "--tpu=v3-8 --config=nothing": "--config=nothing: no such config",
    "--tpu=v3-128 --config.image_batch=4000": "nearest are 3968 or 4096",
    "--gpu=16 --backend=jax --config=sample": "--gpu ",
    "--tpu=v3-128 --config.text_batch=100": "the nearest are 128",
    "--tpu=v3-128 --task=cifar10 --config.batch=500": "nearest are 384 or 512",
    "--tpu=v3-8 --jobs=0": "jobs",
    "--gpu=16 --config=sample --json=.": "--json=.: is a folder; give the name of a file",
    "--gpu=16 --config=sample --json=exits.py/x.json": "--json=exits.py: cannot be written to",
    "--tpu=v3-8 --compare=joint --programs=validate": "--compare ",
    "--tpu=v3-8 --output_dir=x": "output_dir",
    "--tpu=v3-8 --config=exits.py": "--config=exits.py: SystemExit",
    "--tpu=v3-8 --config.model.num_layers=2000000000": "num_layers=2000000000: is too large",
}
_BACKENDS = {
    "--backend=torch": "--backend=torch: give tensorflow or jax",
    "--backend=jax --tpu=my-tpu": "tpu 'my-tpu'",
    "--backend=jax --tpu=v3-8": "tpu 'v3-8'.* JAX",
    "--backend=jax --tpu=v3-8 --tpu_address=grpc://h:1": "tpu_address 'grpc://h:1'.* JAX",
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
        f"TF_CONFIG={shlex.quote(c if isinstance(c, str) else json.dumps(c))} {_PRETRAIN}--variant=vit": f"TF_CONFIG: .*{phrase}"
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
