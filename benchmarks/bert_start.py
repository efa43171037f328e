"""Fine-tuning from a published BERT: ours beside transformers', and beside random weights.

    python -m benchmarks.bert_start --checkpoint=DIR --data_dir=DIR [--seeds=3] [--rate=5e-5]

`--checkpoint` is a BERT as Hugging Face stores it; `--data_dir` holds train.tsv and dev.tsv. The
first two rows are `finetune` as a user runs it, from the checkpoint and from random weights of the
same architecture. For the third, torch trains a `BertModel` of transformers on the same batches for
as many steps, with the same recipe, dropout and fresh head (the same initial weights of a two-layer
MLP); only the random numbers of dropout differ. Before that, one step of plain gradient descent is
compared, without dropout: the largest difference of a weight, relative to the largest update.

It needs the extra `parity`. A run that was stopped resumes; torch's results are kept, too.
"""

import argparse
import contextlib
import json
import pathlib
import statistics
import subprocess
import sys

import numpy as np


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", required=True)
    parser.add_argument("--data_dir", required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rate", type=float, default=5e-5)
    parser.add_argument("--max_length", type=int, default=128)
    parser.add_argument("--dtype", default="mixed_bfloat16", help="of all three; or float32")
    parser.add_argument("--output_dir", default="runs/bert-start")
    values = parser.parse_args()
    data = pathlib.Path(values.data_dir)
    output = pathlib.Path(values.output_dir) / data.name
    recipe = [
        f"--data_dir={data}",
        f"--config.optimizer.learning_rate={values.rate}",
        f"--config.max_length={values.max_length}",
        f"--config.dtype={values.dtype}",
        "--config.evaluation_interval=0",
    ]
    rows = {}
    for name, flags in {
        "ours": [f"--checkpoint={values.checkpoint}"],
        "rand": ["--checkpoint=rand", f"--architecture={values.checkpoint}"],
    }.items():
        flags += [*recipe, f"--seeds={values.seeds}", f"--output_dir={output / name}"]
        subprocess.run([sys.executable, "-m", "keras_vitbert.finetune", *flags], check=True)
        rows[name] = scores(output / name)
    torch_side = TorchSide([f"--checkpoint={values.checkpoint}", *recipe], values.checkpoint)
    print(f"one step without dropout: {torch_side.one_step():.2e} of the largest update")
    rows["transformers"] = []
    for seed in range(values.seeds):
        kept = output / f"transformers-{seed}.json"
        if not kept.exists():
            kept.write_text(json.dumps(torch_side.trained(seed)))
        rows["transformers"].append(json.loads(kept.read_text()))
    print(f"{data.name}: accuracy on dev.tsv, median and all seeds")
    for name, found in rows.items():
        shown = ", ".join(f"{value:.4f}" for value in found)
        print(f"  {name:<14}{statistics.median(found):.4f}  ({shown})")


def scores(folder):
    """The accuracy of each seed."""
    found = sorted(folder.glob("trials/seed-*/result.json"))
    return [
        json.loads(path.read_text())["splits"]["validation"]["accuracy"]
        for path in sorted(found, key=lambda path: int(str(path.parent).rpartition("-")[2]))
    ]


class TorchSide:
    """The same data, recipe and head for a `BertModel` of transformers."""

    def __init__(self, flags, checkpoint):
        from keras_vitbert import finetune
        from keras_vitbert.configs.devices import Devices
        from keras_vitbert.fine_tuning.inputs import Inputs
        from keras_vitbert.flags import inputs_of, parse_fine_tuning

        self.checkpoint = checkpoint
        flags = [f"--checkpoint={checkpoint}", *flags]
        values, config, _ = parse_fine_tuning(flags, finetune.define_flags, "")
        reads = Inputs(**inputs_of(values))
        self.pretrained, config = reads.pretrained(config.for_devices(Devices()))
        self.data = reads.open(
            config, self.pretrained.vocabulary, self.pretrained.max_length(config)
        )
        self.config = config.with_values({"steps": config.steps_for(self.data.train.count)})

    def _ours(self, seed, dropout, one_step=False):
        import tensorflow as tf

        from keras_vitbert.fine_tuning.trainer import build_fine_tuner

        config = self.config.with_values({"dropout": dropout, **(_PLAIN if one_step else {})})
        strategy = tf.distribute.get_strategy()
        classes = len(self.data.classes)
        return build_fine_tuner(config, self.pretrained, classes, seed, strategy)[0]

    def _batches(self, seed):
        from keras_vitbert.fine_tuning.trials import TaskStream

        stream = TaskStream(self.data.train, seed, self.config.steps, self.config.batch)
        return stream.training(0, None).take(self.config.steps).as_numpy_iterator()

    def one_step(self):
        """The largest difference of a weight after one step, relative to the largest update."""
        import tensorflow as tf

        ours = self._ours(0, 0.0, one_step=True)
        config = self.config.with_values(_PLAIN)
        theirs = _Torch(self.checkpoint, ours.network, config, dropout=0.0)
        before = theirs.weights()
        batch = next(self._batches(0))
        tf.function(ours.train_step, autograph=False)(
            {name: tf.constant(value) for name, value in batch.items()}
        )
        theirs.step(batch, 0)
        after, wanted = theirs.weights(), _by_their_names(ours.network)
        largest = max(np.abs(after[name] - before[name]).max() for name in after)
        # Ours has no positions beyond --max_length.
        apart = [after[name][: len(value)] - value for name, value in wanted.items()]
        return max(np.abs(difference).max() for difference in apart) / largest

    def trained(self, seed):
        """The accuracy after a whole training."""
        theirs = _Torch(
            self.checkpoint, self._ours(seed, 0.1).network, self.config, self.config.dropout, seed
        )
        for number, batch in enumerate(self._batches(seed)):
            theirs.step(batch, number)
            if number % 50 == 0:
                print(f"transformers, seed {seed}: step {number} of {self.config.steps}")
        [split] = self.data.tests.values()
        right = seen = 0
        for batch in split.evaluation(self.config.evaluation_batch, None).as_numpy_iterator():
            real = batch["numbers"] >= 0
            found = theirs.logits(batch).argmax(-1)
            right += int((found == batch["labels"])[real].sum())
            seen += int(real.sum())
        assert seen == split.count
        return right / seen


# Gradient descent, with a rate that is far above the rounding of weights: Adam's first step is the
# sign of a gradient, however small, and says nothing about the gradient.
_PLAIN = {
    "dtype": "float32",
    "optimizer.name": "sgd",
    "optimizer.momentum": 0.0,
    "optimizer.warmup": 0.0,
    "optimizer.learning_rate": 1.0,
}


def _by_their_names(classifier):
    """Our weights, with the names and layout of transformers."""
    from keras_vitbert.trained.hugging_face_folder import HuggingFaceModel
    from keras_vitbert.trained.trained_model import TrainedModel

    values = HuggingFaceModel(
        TrainedModel("", "", classifier.backbone, {}, network=classifier.backbone)
    ).tensors()
    for name, dense in (("0", classifier.head.hidden), ("1", classifier.head.logits)):
        values[f"head.{name}.weight"] = np.asarray(dense.kernel).T
        values[f"head.{name}.bias"] = np.asarray(dense.bias)
    return values


class _Torch:
    """A `BertModel` with our head, and AdamW with our schedule."""

    def __init__(self, checkpoint, classifier, config, dropout, seed=0):
        import torch
        import transformers

        torch.manual_seed(seed)
        self.torch, self.config = torch, config
        options = {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout}
        self.bert = transformers.BertModel.from_pretrained(
            checkpoint, add_pooling_layer=False, **options
        ).float()
        hidden = self.bert.config.hidden_size
        self.head = torch.nn.ModuleList(
            [torch.nn.Linear(hidden, hidden), torch.nn.Linear(hidden, classifier.num_classes)]
        )
        dense = (classifier.head.hidden, classifier.head.logits)
        with torch.no_grad():
            for theirs, ours in zip(self.head, dense, strict=True):
                theirs.weight.copy_(torch.tensor(np.asarray(ours.kernel).T))
                theirs.bias.copy_(torch.tensor(np.asarray(ours.bias)))
        self.dropout = torch.nn.Dropout(dropout)
        named = self._named()
        kept = ("LayerNorm", ".bias", "position_embeddings")  # our recipe exempts them from decay
        decayed = {n: p for n, p in named.items() if not any(part in n for part in kept)}
        others = [p for n, p in named.items() if n not in decayed]
        optimizer = config.optimizer
        groups = [
            {"params": list(decayed.values()), "weight_decay": optimizer.weight_decay},
            {"params": others, "weight_decay": 0.0},
        ]
        if optimizer.name == "sgd":
            self.optimizer = torch.optim.SGD(groups)
        else:
            betas = optimizer.beta_1, optimizer.beta_2
            self.optimizer = torch.optim.AdamW(groups, betas=betas)

    def _named(self):
        return {
            **dict(self.bert.named_parameters()),
            **{f"head.{name}": value for name, value in self.head.named_parameters()},
        }

    def weights(self):
        return {name: value.detach().numpy().copy() for name, value in self._named().items()}

    def _forward(self, batch):
        """The logits in float32, and the labels."""
        is_bfloat16 = self.config.dtype != "float32"
        with self.torch.autocast("cpu", self.torch.bfloat16, enabled=is_bfloat16):
            logits, labels = self._logits(batch)
        return logits.float(), labels

    def _logits(self, batch):
        torch = self.torch
        tensors = {name: torch.tensor(np.asarray(value)).long() for name, value in batch.items()}
        z = self.bert(
            input_ids=tensors["token_ids"],
            token_type_ids=tensors["segment_ids"],
            attention_mask=tensors["padding_mask"],
        ).last_hidden_state[:, 0]
        hidden = self.dropout(torch.nn.functional.gelu(self.head[0](z)))
        return self.head[1](hidden), tensors["labels"]

    def step(self, batch, number):
        torch, config = self.torch, self.config.optimizer
        for module in (self.bert, self.dropout):
            module.train()
        logits, labels = self._forward(batch)
        self.optimizer.zero_grad()
        torch.nn.functional.cross_entropy(logits, labels).backward()
        torch.nn.utils.clip_grad_norm_(list(self._named().values()), config.clip_norm)
        for group in self.optimizer.param_groups:
            group["lr"] = _rate(config, number, self.config.steps)
            if config.name == "adamw":
                # Keras adds epsilon before it corrects the second moment, torch after.
                group["eps"] = config.epsilon / (1 - config.beta_2 ** (number + 1)) ** 0.5
        self.optimizer.step()

    def logits(self, batch):
        for module in (self.bert, self.dropout):
            module.eval()
        with self.torch.no_grad():
            return self._forward(batch)[0].numpy()


def _rate(config, number, steps):
    """The learning rate of a step: a linear warm-up, then a polynomial decay to 0."""
    from keras_vitbert.training.optimizers import WarmupPolynomialDecay

    warmup = min(round(config.warmup * steps), steps - 1)
    schedule = WarmupPolynomialDecay(config.learning_rate, warmup, steps, config.power)
    return float(schedule(number))


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()
