"""Rows of bad configs and overrides, see `table.py`."""

PRETRAIN, FINETUNE = "keras_vitbert.pretrain ", "keras_vitbert.finetune "
# The sample's numbers are tuned now and then; these stay.
FIXED = (
    "--config.steps=700 --config.steps_per_epoch=100 --config.validation_interval=700 "
    "--config.optimizer.warmup_steps=50 --config.model.num_heads=4 --config.model.hidden_dim=128 "
    "--config.model.patch_size=7 --config.teachers.image_steps=500 --config.teachers.text_steps=700 "
)
_COMMAND_LINES = {
    "--config=sampel": r"--config=sampel: no such config; .* \(did you mean sample\?\)",
    "--config=nowhere/mine.py": "--config=nowhere/mine.py: no such config",
    "--config": "flag --config; --help lists the flags",
    "--config=": "--config=: no such config",
    "--config=file": "--config=file: no such config",
    "--config=sample:": "--config=sample:: no size follows the colon; give one",
    "--config=paper:huge": "--config=paper:huge: .*unknown size 'huge'; known are sample",
    "--config.stepps=3": r"--config.stepps: .* \(did you mean --config.steps\?\)",
    "--config.model.layers=2": r"--config.model.layers: .* \(did you mean --config",
    "--config.optimizer.beta=1": "--config.optimizer.beta: the config has no such key",
    "--config.optimizer.x.y=1": "--config.optimizer.x.y: the config has no such key",
    "--config.optimizer=1": "--config.optimizer=1",
    "--config.steps=many": "--config.steps=many",
    "--config.steps=1.5": "--config.steps=1.5",
    "--config.steps": "--config.steps",
    "--config.steps=": "--config.steps",
    "--config.steps=300 -1": "'1'; --help lists the flags",
    "'--config.steps[0]=1'": r"--config.steps.0.: cannot .*; give the whole value, --config.steps=V",
    "'--config.data.images.crop_area[0]=0.2'": "crop_area=VALUE$",
    "'--config.data.images.layers[0]=x'": "layers=VALUE$",
    "--config.data.images.flip=perhaps": "--config.data.images.flip=perhaps",
    "--config.data.images.crop_area=a": "crop_area=.*must be of type list of numbers",
    "--varient=bert": "'varient'. Did you mean: variant .*--help lists the flags",
    "--output=here": r"'output'\. Did you mean: output_dir .*--help lists the flags",
    "--variant": "--variant; --help lists the flags",
    "--variant=vitbertt": r"--variant=vitbertt: .* \(did you mean vitbert\?\)",
    "--variant=": "--variant=: no such variant",
    "bert": "unexpected argument 'bert'; --help lists the flags",
    "--variant=bert x --config.steps=600": "unexpected argument 'x'",
    "--max_bad_records=-1": "max_bad_records.*--help",
    "--wait_seconds=nan": "wait_seconds=nan: must be finite",
    "--wait_seconds=-1": "wait_seconds.*--help",
    "--cache=perhaps": "cache.*--help",
    # Files that do not make a config.
    "--config=exits.py": "--config=exits.py: SystemExit",
    "--config=exits_with_text.py": "--config=exits_with_text.py: SystemExit: x",
    "--config=interrupts.py": "--config=interrupts.py: KeyboardInterrupt",
    "--config=no_syntax.py": "--config=no_syntax.py: SyntaxError",
    "--config=no_module.py": "ModuleNotFoundError: No module named 'no_such_module'",
    "--config=no_function.py": "AttributeError: .*get_config",
    "--config=no_config.py": "AttributeError",
    "--config=few_keys.py": "--config",
    "--config=fails.py": "OSError: two lines",
    "--config=recursive.py": "RecursionError",
    "--config=unset.py --config.steps=300": "--config=unset.py: .* of field config.steps is not",
    f"{FIXED}--config.image_batch=127 --config.data.images.cutmix=1.0": "image_batch=127: must be ev",
    f"{FIXED}--config.data.images.layers='(\"GridMsk\",)'": "layers=.'GridMsk'.: KerasCV has no layer GridMsk .*mean GridMask",
    f"{FIXED}--config.data.images.layers='(3,)'": "layers=.3.: must be of type list of texts",
    f"--config=sample --tpu=local {FIXED}--config.data.images.layers='(\"GridMask\",)'": "data.images.layers: XLA cannot compile GridMask for a TPU; leave it out",
    f"{FIXED}--config.steps_per_epoch=99": "validation_interval=700: must be a multiple of",
    f"{FIXED}--config.model.num_heads=5": "hidden_dim=128: must be a multiple of model.num_heads",
    f"{FIXED}--config.model.patch_size=8": "image_size=28: must be a multiple of model.patch_size",
    "--config=paper:tiny --config.data.source=sample --config.steps=20": (
        "^error: --config.optimizer.warmup_steps=10000: must be below steps, which is 20; --config.merge.mask_update_interval=10000: .*; this works, added to the command: --config.merge.mask_update_interval=3 --config.optimizer.warmup_steps=2$"
    ),
    "--config.steps=0 --config.model.dropout=2": "steps=0: .*; --config.model.dropout=2.0: must be",
    "--config.optimizer.warmup_steps=1.5": "--config.optimizer.warmup_steps=1.5",
    "--config.image_batch=0.5": "--config.image_batch=0.5",
    "--config.merge.mask_update_interval=0.5": "mask_update_interval=200: the masks reach .* at mos",
    "--config.steps_per_epoch=0 --config.validation_interval=0.1": "steps_per_epoch=0: must be at",
    "--quick --config.model.patch_size=0": "--config.model.patch_size=0: must be at least 1",
    "--config.merge.mask_update_interval=450": "mask_update_interval=450: the masks reach .* at mos",
    "--config.merge.name=pcgrd": "merge.name=pcgrd: must be one of mask, .*mean pcgrad",
    "--config.merge.name=nash --config.merge.blocks=3:99": "merge.blocks=3:99: must end at or before",
    "--config.merge.name=nash --config.merge.cagrad.radius=0.3": "cagrad.radius=0.3: .* leave it out",
    "--config.merge.image_loss_ratio=0.5": "merge.image_loss_ratio=0.5: merge.name=mask does not read",
    "--config.merge.name=pcgrad --config.merge.mask_ratio=0.3": "mask_ratio=0.3: .* no masks, leave it",
    "--config.optimizer.name=adam": "optimizer.name=adam: must be one of adamw, lamb, lion, adafactor",
    "--config.optimizer.name=lion --config.optimizer.epsilon=1e-3": "epsilon=0.001: has no effect with optimizer.name=lion",
    "--config.optimizer.momentum=0.5": "momentum=0.5: has no effect with optimizer.name=adamw",
    "--config.optimizer.name=lion --config.optimizer.beta_1=0.0": "beta_1=0.0: must be above 0 for lion",
    "--config.optimizer.name=lamb --config.optimizer.beta_2=0.5": "beta_1=0.9: must be below the square root",
    "--config.optimizer.name=lamb --config.merge.mask_target=update": "mask_target=update: needs optimizer.name=adamw",
    "--tpu=local --config=sample --config.data.packing=True": "--config.data.packing=True: the number of rows differs",
    "--variant=joint --config.merge.name=mask": "merge.name=mask: --variant=joint has no masks; take",
}
_SETTINGS = """
steps=0 steps_per_epoch=0 image_batch=0 text_batch=0 validation_interval=0 checkpoint_interval=0
checkpoints_to_keep=0 model.image_size=0 model.patch_size=0 model.num_layers=0 model.num_heads=0
model.hidden_dim=0 model.intermediate_dim=0 merge.mask_update_interval=0 optimizer.clip_norm=0
optimizer.epsilon=0 merge.mask_ratio_per_update=0 merge.mask_ratio_per_update=5e-324 data.images.central_crop=0 model.num_classes=-1
model.vocabulary_size=-1 model.max_sequence_length=-1 steps=2147483648
image_batch=1000000000000000000000000000000 model.dropout=1 model.dropout=-0.1 model.attention_dropout=1
model.attention_dropout=-0.1 model.stochastic_depth=-0.1 optimizer.ema=1
model.hidden_dim=130 model.hidden_dim=-4 seed=-1 seed=4294967296 distillation.ratio=1.1
distillation.ratio=-1 distillation.temperature=-1 merge.image_loss_ratio=2 merge.mask_ratio=1.5
merge.mask_ratio_per_update=2 merge.name=masks dtype=float16 data.source=file
optimizer.warmup_steps=700 optimizer.warmup_steps=-1 optimizer.beta_1=1 optimizer.beta_2=-0.1
optimizer.learning_rate=-1 optimizer.weight_decay=-1 optimizer.power=-1 optimizer.learning_rate=nan
optimizer.learning_rate=1e999 validation_interval=150 teachers.image_steps=50 teachers.text_steps=1
teachers.text_steps=-1 data.images.crop_area=(0,1) data.images.crop_area=(0.9,0.8)
data.images.crop_area=(0.5,1.1) data.images.crop_area=(0.5,) data.images.central_crop=1.1
data.images.mixup=-1 data.images.cutmix=-0.1 data.images.randaugment=(2,31)
data.images.randaugment=(-1,9) data.images.randaugment=(2,) data.images.randaugment=(1,2.5)
data.case=upper jit_compile=yes data.text.masking.ratio=0 data.text.masking.ratio=1 data.text.masking.max_predictions=0
steps_per_execution=-1 steps_per_execution=3 steps_per_execution=1000
probes.interval=-1 probes.examples=3 inspection.activation_interval=-1 inspection.gradient_interval=-1 inspection.activation_examples=0
""".split()
_PROFILED = ["5", "9,3", "0,3", "3,701", "11,1200", "a,b", "1,2,3", "-1,3", "1.5,2", ",", "1,²"]
# Larger than any memory.
_SIZES = ["num_layers=2000000000", "hidden_dim=2000000000", "image_size=1400000000"]
_SIZES += ["intermediate_dim=2000000000", "vocabulary_size=2000000000", "num_heads=2000000000"]
_SIZES += ["max_sequence_length=2000000000", "num_classes=2000000000"]
_TOO_LARGE = {
    **{
        f"--config.model.{size}": rf"--config.model.{size}: is too large: [\d,]+ weights .* GB"
        for size in _SIZES
        if not size.startswith(("hidden_dim", "num_heads"))
    },
    "--config.model.hidden_dim=2000000000 --config.model.num_heads=4": "hidden_dim=2000000000: is",
    "--config.model.hidden_dim=2000000000 --config.model.num_heads=2000000000": "is too large",
    "--config.image_batch=2000000000": "--config.image_batch=2000000000: is too large",
    "--config.text_batch=2000000000": "--config.text_batch=2000000000: is too large",
    "--config=paper:large --config.data.source=sample --config.model.num_layers=100000": "num_layers=100000: is too large",
}

_OF_TASKS = {
    "": "--task is missing; give one of cifar10, ",
    "--task=cifar": r"--task=cifar: no such task; .*did you mean cifar10\?",
    "--task=rte --config=paper": "--config=paper: a task has its own config",
    "--task=rte --config.epoch=2": r"no such key \(did you mean --config.epochs",
    "--task=rte --config.image_size=2": "--config.image_size: the config has no such key",
    "--task=pets --seeds=0": "seeds",
    "--task=pets --config.steps_per_execution=3": "steps_per_execution=3: must be a divisor of steps, which is 500",
    "--task=pets --config.jit_compile=True": "jit_compile=True: must be one of auto, on, off",
    "--task=pets --config.steps_per_epoch=100 --config.evaluation_interval=101 --config.optimizer.beta_1=0.3": (
        "beta_1=0.3: has no .*; --config.evaluation_interval=101: must be a .*; this works, added to the command: --config.evaluation_interval=100 --config.optimizer.beta_1=0.9$"
    ),
    "--evaluate_only --checkpoint=x --task=sst2 --config.evaluation_interval=0.1": "has no effect",
    "--evaluate_only --checkpoint=x --task=sst2 --quick": "--quick has no effect with --evaluate",
    "--task=pets --checkpoint=rand --tpu=local --config.images.layers='(\"GridMask\",)'": "--config.images.layers: XLA cannot compile GridMask for a TPU",
    "--task=pets --config.images.layers='(\"MixUp\",)'": "MixUp changes labels; set mixup above 0",
    "--task=pets --checkpoint=": "--checkpoint is missing; give the folder",
    "--evaluate_only --checkpoint=x --task=sst2 --sweep": "--sweep has no effect with --evaluate",
    "--evaluate_only --checkpoint=x --task=sst2 --seeds=3": "--seeds has no effect with --evaluate",
    "--evaluate_only --checkpoint=x --task=sst2 --config.dropout=0.5": "config.dropout has no effe",
    "--evaluate_only --checkpoint=x --task=sst2 --output_dir=y": "--output_dir has no effect with",
}
_OF_PETS = """
metric=f2 dropout=1.0 grid=() grid=(1e999,) grid=(0.1,0.1) grid=(-1.0,) steps=0 image_size=0 batch=0
label_smoothing=1.0 optimizer.layer_decay=0.0 optimizer.layer_decay=1.1 optimizer.ema=1.0
optimizer.clip_norm=0.0 evaluation_interval=-2 seed=2147483648 lora_rank=-1 optimizer.beta_1=0.5
optimizer.power=2.0 optimizer.epsilon=1e-3 evaluation_batch=0 optimizer.name=adam
optimizer.schedule=linear steps_per_epoch=-1 checkpoints_to_keep=0 images.mixup=-1.0
images.central_crop=0.0 seed=-1 optimizer.momentum=1.0
""".split()
_OF_SST2 = """
epochs=0.0 epochs=1e300 steps=2147483648 max_length=4 buckets=(4,16) buckets=(16,16) buckets=(64,32)
optimizer.momentum=0.5 selection_part=1.0 selection_part=0.0 data.sentence_columns=a,b,c data.case=Lower
optimizer.warmup=1.0 optimizer.learning_rate=-1.0 dtype=half
""".split()


def _told(values, prefix):
    """Rows whose message names the key."""
    rows = {}
    for value in values:
        key = value.partition("=")[0].replace(".", r"\.")
        words = "(must be|has no effect|holds a rate twice|is not finite)"
        rows[f"{prefix}'--config.{value}'"] = f"--config.{key}=.*{words}"
    return rows


ROWS = {
    **{PRETRAIN + line: phrase for line, phrase in _COMMAND_LINES.items()},
    **_told(_SETTINGS, PRETRAIN + FIXED),
    **{
        f"{PRETRAIN}{FIXED}--profile={steps}": "--profile=.*: must be START,STOP"
        for steps in _PROFILED
    },
    **{PRETRAIN + line: phrase for line, phrase in _TOO_LARGE.items()},
    **{FINETUNE + line: phrase for line, phrase in _OF_TASKS.items()},
    **_told(_OF_PETS, f"{FINETUNE}--task=pets "),
    **_told(_OF_SST2, f"{FINETUNE}--task=sst2 "),
}
