"""Damages every kind of file that has a checksum, opens it, and reports the outcome.

    python -m benchmarks.damage [--flips=1000] [--seed=0]

A tiny run of `pretrain` with its teachers, a fine-tuned run, a preset, an exported model and the
data are opened as users open them: trained to the end, requested again, loaded, drawn, fine-tuned
from. Before that, one file is damaged. A bit is flipped at a random place (`--flips` times in all,
equally often in each kind of file), or the file is cut, emptied, replaced by another one, or
written in another encoding. The allowed outcomes are a refusal in one line with status 2, an older
checkpoint, which is reported, or the same answer to the bit, because the byte did not matter. It
ends with status 1 if anything else happens: another answer (WRONG), or a traceback.

All of it is one process: networks and trainers are built once, and overwritten before each use.
"""

import argparse
import collections
import contextlib
import hashlib
import io
import os
import pathlib
import random
import shutil
import signal
import sys
import tempfile
import traceback

# A kind of file: where it is below the folder, and which of `openers` read it. JSON and CSV files
# of a run have no checksums.
KINDS = {
    "checkpoint data": ("*/**/step-*/state.data*", "resume load tuned retuned load_tuned"),
    "checkpoint index": ("*/**/step-*/state.index", "resume load tuned retuned load_tuned"),
    "step.json": ("*/**/step-*/step.json", "resume load tuned retuned load_tuned"),
    "LAST": ("*/**/checkpoints/LAST", "resume load tuned retuned load_tuned"),
    "GOOD": ("*/**/checkpoints/GOOD", "resume load retuned load_tuned"),
    "vocabulary.txt": ("*/**/vocabulary.txt", "resume load tuned load_tuned"),
    "classes.txt": ("*/**/classes.txt", "resume load figures load_tuned"),
    "predictions.csv": ("tuned/trials/*/predictions.csv", "tuned"),
    "seconds.txt": ("tuned/trials/*/seconds.txt", "tuned retuned"),
    "results.csv": ("tuned/results.csv", "tuned"),
    "inspection/*.npz": ("run/inspection/*.npz", "resume figures"),
    "TensorBoard's events": ("*/**/events.out.*", "resume retuned"),
    "TFRecords": ("data/*-of-*", "again data"),
    "manifests": ("data/*.manifest.json", "again data"),
    "vocabulary and classes of the data": ("data/*.txt", "again"),
    "TSV files": ("texts/*.tsv", "tuned"),
    "preset": ("preset/**/*", "preset"),
    "exported model": ("export/**/*", "export"),
}
OF_THE_RUN = ("resume", "again", "load", "figures")  # which read nothing of the fine-tuned run
READ_AGAIN = ("TFRecords", "manifests", "vocabulary and classes of the data")
ENCODINGS = ("utf-16", "latin-1")
OUTCOMES = ("refused", "older", "same", "WRONG", "TRACEBACK")
SECONDS = 120  # more is a hang


def make(work):
    """Makes all folders below `work`."""
    from keras_vitbert import convert, export
    from tests.keras_vitbert import tiny_runs, tiny_tasks

    (work / "data").mkdir(parents=True)
    tiny_runs.write_sources(work / "data")
    (work / "data" / "classes.txt").write_text("chât\nchien\ntanche\n")
    tiny_tasks.write_texts(work / "texts")
    for name in ("resume", "tuned"):
        found = attempt(openers(work)[name], seconds=0)
        assert found[0] == 0, found
    run = f"--checkpoint={work / 'run'}"
    convert.main([run, f"--output_dir={work / 'preset'}", "--task=image_classifier"])
    export.main([run, f"--output_dir={work / 'export'}"])


def openers(work):
    """Dict of a name to a function that opens something below `work` and returns what it says."""
    import numpy as np

    from keras_vitbert import finetune, load, pretrain
    from keras_vitbert.paper_figures.finished_runs import FinishedRun
    from keras_vitbert.pretraining.data import open_data
    from keras_vitbert.runs.input_digests import model_digest
    from keras_vitbert.runs.record_errors import reading
    from keras_vitbert.trained.predicting import open_functions
    from tests.keras_vitbert import tiny_runs, tiny_tasks, whole_runs

    run, tuned = work / "run", work / "tuned"
    again = tiny_runs.arguments(
        *(work / "data", "--variant=vitbert", f"--output_dir={run}", "--skip_damaged=1"),
        *("--config.checkpoints_to_keep=3", "--config.inspection.activation_interval=5"),
    )
    tune = [f"--checkpoint={run}", "--task=texts", f"--data_dir={work / 'texts'}", "--seeds=2"]
    tune += [*tiny_tasks.TEXT_FLAGS, f"--output_dir={tuned}", f"--predictions={work / 'all.csv'}"]

    def resume():
        (run / "summary.json").unlink(missing_ok=True)
        summary = whole_runs.without_clock(pretrain.main(again))
        return summary, tiny_runs.checkpoint_values(run), tiny_runs.metrics_rows(run)

    def retuned():
        for name in ("summary.json", "trials/seed-rate-0.01-seed-0/result.json"):
            (tuned / name).unlink(missing_ok=True)
        return retuning()

    def retuning():
        summary = whole_runs.without_clock(finetune.main(tune))
        return summary, (work / "all.csv").read_bytes()

    def loaded(path):
        found = load(str(path))
        about = found.name, found.step, found.classes, found.vocabulary, found.lower_case
        return *about, found.central_crop, sorted(found.heads), model_digest(found.network)

    def figures():
        found = FinishedRun(str(run))
        return found.activations(), found.masks(), found.logged_sparsity(), found.classes

    def data():
        config = tiny_runs.config_of(work / "data")
        stream = open_data(config).stream(config)
        with reading(stream):
            return list(stream.training(0, None).take(5)), list(stream.validation())

    def exported():
        functions = open_functions(str(work / "export" / "vitbert"), 3)
        return functions["fill_mask"](text=np.array(["word1 [MASK]"]))

    return {
        "resume": resume,
        "again": lambda: whole_runs.without_clock(pretrain.main(again)),
        "load": lambda: [
            loaded(path) for path in (run, run / "teachers/vit", run / "teachers/bert")
        ],
        "figures": figures,
        "tuned": retuning,
        "retuned": retuned,
        "load_tuned": lambda: loaded(tuned),
        "data": data,
        "preset": lambda: loaded(work / "preset"),
        "export": exported,
    }


def build_once(reads_again):
    """Lets networks, trainers and evaluators be built only once from now on.

    The data are opened only once, too, unless `reads_again()` is true.
    """
    from keras_vitbert.fine_tuning import evaluation, trials
    from keras_vitbert.pretraining import data, run
    from keras_vitbert.trained import loading
    from pipelines.joint_stream import JointStream

    def once(module, name, key, parts):
        build, built = getattr(module, name), {}

        def again(*arguments, **more):
            which = key(*arguments, **more)
            if name in ("open_data", "validation") and reads_again():
                return build(*arguments, **more)
            if which not in built:
                built[which] = build(*arguments, **more)
            for variable in parts(built[which]):
                variable.assign(variable * 0)
            return built[which]

        setattr(module, name, again)

    def state(trainer):
        return [v.value for part in trainer.state_variables.values() for v in part]

    for name in ("build_network", "build_classifier"):
        once(loading, name, lambda *a, **b: repr((a, b)), lambda network: network.variables)
    once(run, "build_trainer", lambda config, *_: config.variant, state)
    once(trials, "build_fine_tuner", lambda *a: a[4], lambda built: state(built[0]))
    once(evaluation, "Evaluator", lambda network, *_: id(network), lambda _: [])
    once(data, "open_data", lambda config, *_, **more: repr(config), lambda _: [])
    once(run, "baselines", lambda stream, *_: repr(list(stream.sources)), lambda _: [])
    once(JointStream, "validation", lambda s, *_: id(s.images or s.texts), lambda _: [])


def attempt(opener, seconds=SECONDS):
    """Opens something: (status, or "TRACEBACK"; the answer's digest; what was said, by line)."""
    from pipelines import command_line

    def late(*_):
        raise TimeoutError(f"more than {seconds} s")

    answers, said = [], io.StringIO()
    signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(said):
            status = command_line.run(lambda argv: answers.append(digest(opener())), [])
    except BaseException:
        if not isinstance(sys.exception(), Exception):
            raise
        return "TRACEBACK", None, traceback.format_exc().splitlines()
    finally:
        signal.alarm(0)
    return status, answers and answers[0], said.getvalue().splitlines()


def digest(answer):
    """The digest of an answer, to the bit."""
    import tensorflow as tf

    def bits(part):
        if isinstance(part, dict):
            return [(str(key), bits(value)) for key, value in sorted(part.items(), key=str)]
        if isinstance(part, (list, tuple)):
            return [bits(value) for value in part]
        if hasattr(part, "__dataclass_fields__"):
            return bits(vars(part))
        if tf.is_tensor(part):
            part = part.numpy()
        if hasattr(part, "tobytes"):
            return (
                part.dtype.str,
                part.shape,
                part.tolist() if part.dtype == "O" else part.tobytes(),
            )
        return part

    return hashlib.sha256(repr(bits(answer)).encode()).hexdigest()


def damaged(manner, content, others, draw):
    """The content of a file after damage; None where that would change nothing."""
    content = bytearray(content)
    if manner == "flip":
        if not content:
            return None
        content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
        return bytes(content)
    if manner == "cut":
        return bytes(content[: draw.randrange(len(content))]) if content else None
    if manner == "empty":
        new = b""
    elif manner == "swap":
        new = draw.choice(others).read_bytes() if others else b""
    else:
        try:
            new = content.decode().encode(manner)
        except UnicodeError:
            return None
    return None if new == content else new


def outcome(found, wanted):
    """One of `OUTCOMES`, from an attempt and the one on whole files."""
    status, answer, said = found
    if status == "TRACEBACK":
        return status
    if status == 2 and said and said[-1].startswith("error: "):
        return "refused"
    if (status, answer) == wanted[:2]:
        return "same"
    new = [line for line in said if line not in wanted[2]]
    return "older" if status == 0 and any("checkpoint" in line for line in new) else "WRONG"


def main(argv=None):
    """Runs the benchmark; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--flips", type=int, default=1000, help="how many bits, one at a time")
    parser.add_argument("--seed", type=int, default=0, help="of the places")
    arguments = parser.parse_args(argv)
    draw = random.Random(arguments.seed)
    counts, manners = collections.defaultdict(collections.Counter), collections.Counter()
    with tempfile.TemporaryDirectory() as folder:
        work, whole = pathlib.Path(folder) / "work", pathlib.Path(folder) / "whole"
        make(work)
        shutil.copytree(work, whole, dirs_exist_ok=True)
        kind = ""
        build_once(lambda: kind in READ_AGAIN)
        opened = openers(work)

        def restore(*names):
            for name in {"run", "tuned", *names}:
                shutil.rmtree(work / name)
                shutil.copytree(whole / name, work / name)

        wanted = {}
        for _ in range(2):  # the first call builds, the second shows that the answer is the same
            for name, opener in opened.items():
                restore()
                before, wanted[name] = wanted.get(name), attempt(opener)
                assert wanted[name][0] == 0, (name, wanted[name])
                assert before is None or before[1] == wanted[name][1], name
        print("all files whole: every answer is known", flush=True)
        files = {
            kind: sorted(path for path in whole.glob(pattern) if path.is_file())
            for kind, (pattern, _) in KINDS.items()
        }
        kinds = list(KINDS)
        jobs = [("flip", kinds[n % len(kinds)]) for n in range(arguments.flips)]
        others = [(m, kind) for kind in kinds for m in ("cut", "empty", "swap", *ENCODINGS)]
        jobs += draw.sample(others, min(len(others), max(arguments.flips // 8, 1)))
        for number, (manner, kind) in enumerate(jobs, start=1):
            if number % 100 == 0:
                print(f"{number} of {len(jobs)}", flush=True)
            path = draw.choice(files[kind])
            place = path.relative_to(whole)
            others = [other for other in files[kind] if other != path] or [
                other for other in path.parent.iterdir() if other.is_file() and other != path
            ]
            content = damaged(manner, path.read_bytes(), others, draw)
            if content is None:
                continue
            ends = {}
            for name in KINDS[kind][1].split():
                if place.parts[0] == "tuned" and name in OF_THE_RUN:
                    continue
                (work / place).write_bytes(content)
                found = attempt(opened[name])
                restore(place.parts[0])
                ends[name] = outcome(found, wanted[name])
                if ends[name] in ("WRONG", "TRACEBACK"):
                    where = [
                        f"{n}:{content[n : n + 1]!r}"
                        for n, (a, b) in enumerate(zip(content, path.read_bytes(), strict=False))
                        if a != b
                    ]
                    print(f"{manner} {place} {where[:1]}, {name}: {ends[name]}:", flush=True)
                    print(*(f"    {line}" for line in found[2][-6:]), sep="\n", flush=True)
            if not ends:
                continue
            bad = [end for end in ends.values() if end in ("WRONG", "TRACEBACK")]
            worst = (bad or [o for o in OUTCOMES if o in ends.values()])[0]
            counts[kind][worst] += 1
            manners[manner] += 1
    print(f"{'kind of file':<36}" + "".join(f"{name:>10}" for name in OUTCOMES))
    for kind, found in counts.items():
        print(f"{kind:<36}" + "".join(f"{found[name]:>10}" for name in OUTCOMES))
    total = sum(counts.values(), collections.Counter())
    print(f"{'all':<36}" + "".join(f"{total[name]:>10}" for name in OUTCOMES))
    print(", ".join(f"{count} {manner}" for manner, count in manners.items()))
    return 1 if total["WRONG"] or total["TRACEBACK"] else 0


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.exit(main())
