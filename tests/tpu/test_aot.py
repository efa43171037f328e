"""The proof of a run without a TPU: what is reported, what is refused, and a real compilation."""

import importlib.util
import json

import pytest

from pipelines import command_line
from pipelines.command_line import EXIT_DONE, UserError
from tests.keras_vitbert.tiny_runs import CONFIG, config_of
from tpu import aot
from tpu.ahead_of_time import compiler, proof, report
from tpu.slices import find_slice

GIB = 2**30


def compiled(peak=2.0, arguments=1.0, **changes):
    """What the compiler says of a program; sizes in GiB."""
    return {
        "fits": True,
        "seconds": 3.0,
        "available": int(15.48 * GIB),
        "peak": int(peak * GIB),
        "arguments": int(arguments * GIB),
        "outputs": 0,
        "aliased": 0,
        "temporaries": int(0.5 * GIB),
        "code": 0,
        "operations": 6.15e12,
        "bytes": 90e9,
        "collectives": {"all-reduce": {"count": 3, "bytes": 532_000_000}},
        **changes,
    }


def refused(needed, available=15.48):
    return {
        "fits": False,
        "seconds": 3.0,
        "needed": int(needed * GIB),
        "available": int(available * GIB),
    }


# --- the report -----------------------------------------------------------------------------------


def test_the_roofline():
    """A core of a v3 has half of 123 TFLOP/s and of 900 GB/s."""
    work = report.Work(images=4096, texts=512, text_length=512, steps=1_000_000)
    found = report.roofline(compiled(), find_slice("v3-128"), work)
    assert found["compute_seconds"] == pytest.approx(0.1)
    assert found["memory_seconds"] == pytest.approx(0.2) and found["bound"] == "memory"
    assert found["at"]["100%"] == pytest.approx(
        {
            "seconds": 0.2,
            "images_per_second": 20_480,
            "tokens_per_second": 512 * 512 / 0.2,
            "days": 0.2e6 / 86_400,
        }
    )
    assert found["at"]["50%"]["days"] == pytest.approx(0.4e6 / 86_400)
    # A chip of a v5e has 197 TFLOP/s and 819 GB/s, and is one replica.
    found = report.roofline(compiled(bytes=8.19e9), find_slice("v5litepod-16"), work)
    assert found["bound"] == "compute" and found["memory_seconds"] == pytest.approx(0.01)
    assert found["compute_seconds"] == pytest.approx(6.15 / 197)


def test_variables_of_other_programs_count_as_well():
    programs = {"train": compiled(peak=6, arguments=2.5), "validate": compiled(14, 0.5)}
    found = report.verdict(programs, int(2.5 * GIB))
    assert found == {
        "fits": False,
        "program": "validate",
        "needed": 16 * GIB,
        "available": int(15.48 * GIB),
    }
    assert report.verdict(programs, GIB)["fits"]
    programs["train"] = refused(20)
    found = report.verdict(programs, GIB)
    assert not found["fits"] and found["program"] == "train" and found["needed"] == 20 * GIB


def test_differences():
    other = compiled(peak=4, bytes=100e9)
    found = report.differences(compiled(peak=5, bytes=99e9), other)
    expected = {"operations": 0, "bytes": -0.01, "peak": 0.25, "all_reduced_bytes": 0}
    assert found == pytest.approx(expected)


HLO = """
  %all-reduce.5 = f32[]{:T(256)} all-reduce(%reduce.89), replica_groups={{0,1}}, to_apply=%add
  %a.6 = (f32[1,128]{1,0:T(2,128)}, /*index=1*/bf16[3,4]{1,0}) all-reduce-start(%x, %y), to=%add
  %d.6 = (f32[1,128]{1,0}, bf16[3,4]{1,0}) all-reduce-done(%a.6)
  %p = pred[8,10]{1,0} all-to-all(%z), dimensions={0}
  %f = f32[7]{0} fusion(%all-reduce.5), kind=kLoop, calls=%fused
"""


def test_collectives_are_counted_in_the_program():
    assert compiler.collectives(HLO) == {
        "all-reduce": {"count": 2, "bytes": 4 + 128 * 4 + 12 * 2},
        "all-to-all": {"count": 1, "bytes": 80},
    }


# --- the search -----------------------------------------------------------------------------------


@pytest.mark.parametrize("base, each, curve", [(1.5, 0.02, 0), (1.5, 0.5, 0), (3, 0.001, 1e-5)])
@pytest.mark.parametrize("images, texts", [(512, 64), (33, 4), (7, 0), (0, 100)])
def test_the_largest_batch_is_found(monkeypatch, base, each, curve, images, texts):
    """Against trying them all; memory grows with the batch, in a straight line or not."""
    slice_ = find_slice("v3-8")
    tried = []

    def needed(batch):
        size = batch.get("images", 0) + 3 * batch.get("texts", 0)
        return base + each * size / 8 + curve * (size / 8) ** 2

    def fake(subject, batch, slice_, jobs=1, only=()):
        tried.append(batch)
        fits = needed(batch) <= 15.48
        return {"train": compiled(needed(batch)) if fits else refused(needed(batch))}, 0

    monkeypatch.setattr(proof, "_compiled", fake)
    share = {name: n for name, n in (("images", images), ("texts", texts)) if n}
    batch = {name: 8 * n for name, n in share.items()}
    subject = proof.Subject(
        "x", batch, {"images": "image_batch", "texts": "text_batch"}, 512, 10, 0
    )
    outcome = proof.prove(subject, slice_)
    whole = max(share.values())
    sizes = [
        {name: 8 * max(1, n * size // whole) for name, n in share.items()}
        for size in range(1, whole + 1)
    ]
    fitting = [candidate for candidate in sizes if needed(candidate) <= 15.48]
    if batch in fitting:
        assert "largest" not in outcome and outcome["memory"]["fits"] and len(tried) == 1
        return
    found = outcome["largest"]["batch"]
    assert found == (fitting[-1] if fitting else None)
    assert len(tried) <= 8
    text = report.table(outcome)
    assert "does not fit" in text
    if found:
        assert f"--config.{'image' if images else 'text'}_batch={max(found.values())}" in text


# --- bad flags ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "argv, message",
    [
        ([], "--tpu is missing"),
        (["--tpu="], "--tpu is missing"),
        (["--tpu=v3-100"], "--tpu=v3-100: .*v3-128"),
        (["--tpu=local"], "--tpu=local: not an accelerator type"),
        (["--tpu=v3-8", "--variant=vitbrt"], "--variant=vitbrt: .*did you mean vitbert"),
        (["--tpu=v3-8", "--compare=jint"], "--compare=jint: .*did you mean joint"),
        (["--tpu=v3-8", "--task=cifar11"], "--task=cifar11: .*did you mean cifar10"),
        (["--tpu=v3-8", "--task=tsv"], "--task=tsv: .*--num_classes"),
        (["--tpu=v3-8", "--task=pets", "--compare=joint"], "--compare is for pre-training"),
        (["--tpu=v3-8", "--architecture=paper"], "--architecture goes with --task"),
        (["--tpu=v3-8", "--num_classes=3"], "--num_classes goes with --task"),
        (["--tpu=v3-8", "--task=pets", "--architecture=nothing"], "--architecture=nothing: "),
        (["--tpu=v3-8", "--config=nothing"], "--config=nothing: no such config"),
        (["--tpu=v3-128", "--config.image_batch=4000"], "nearest are 3968 or 4096"),
        (["--tpu=v3-128", "--config.text_batch=100"], "the nearest are 128"),
        (["--tpu=v3-128", "--task=cifar10", "--config.batch=500"], "nearest are 384 or 512"),
        (["--tpu=v3-8", "--jobs=0"], "jobs"),
        (
            ["--tpu=v3-8", "--config=sample", "--variant=vit", "--programs=tain"],
            "--programs=tain: no such program; there are train, validate",
        ),
        (["--tpu=v3-8", "--json=nowhere/x.json"], "--json=nowhere/x.json: there is no such"),
        (["--tpu=v3-8", "--output_dir=x"], "output_dir"),
    ],
)
def test_bad_flags_are_told(argv, message):
    with pytest.raises(UserError, match=message) as caught:
        aot.main(argv)
    assert "\n" not in str(caught.value)


def test_without_the_compiler_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"package jax.*pip install -e \"\.\[aot\]\""):
        aot.main(["--tpu=v3-8"])


# --- the programs ---------------------------------------------------------------------------------


@pytest.mark.parametrize("mixing", [[], ["--config.data.images.mixup=0.2"]])
def test_the_batches_are_those_of_the_streams(sources, mixing):
    """Shapes and types of what is compiled, against what training and validation are given."""
    import tensorflow as tf

    from keras_vitbert.configs import variants
    from keras_vitbert.pretraining.data import open_data
    from tpu import step_programs

    config = config_of(sources, *mixing)
    variant = variants.VARIANTS["joint"]
    stream = open_data(config).stream(config, True, True)
    programs = step_programs.pretraining_programs(
        variants.apply_variant(config, variant),
        variant,
        tf.distribute.get_strategy(),
        text_length=stream.texts.length,
        predictions=3,
    )
    batches = {program.name: program.batch for program in programs.steps}
    assert list(batches) == ["train", "probe", "validate"]
    assert batches["train"] == batches["probe"] == stream.training().element_spec
    assert batches["validate"] == stream.validation().element_spec
    assert all(spec.shape.is_fully_defined() for spec in batches["train"].values())


needs_compiler = pytest.mark.skipif(
    not all(importlib.util.find_spec(name) for name in ("jax", "libtpu")),
    reason="needs the extra [aot]",
)


@pytest.fixture
def small(tmp_path):
    """The smallest model that has everything, with bfloat16 and dropout."""
    path = tmp_path / "config.py"
    path.write_text(
        CONFIG.format(
            folder=tmp_path,
            batch=16,
            image_size=8,
            classes=3,
            vocabulary_size=32,
            length=16,
        )
    )
    return path


@needs_compiler
def test_a_step_is_compiled(small, tmp_path, capsys):
    """By the TPU's compiler, teachers included; here of images alone, as it takes long."""
    result = tmp_path / "result.json"
    argv = [f"--config={small}", "--tpu=v3-8", "--variant=vit", f"--json={result}"]
    assert command_line.run(aot.main, argv) == EXIT_DONE
    outcome, printed = json.loads(result.read_text()), capsys.readouterr().out
    assert list(outcome["programs"]) == ["train", "validate"]
    train = outcome["programs"]["train"]
    # The gradients of all weights, and the sum of the examples' weights, are summed once.
    parameters = outcome["variables_bytes"]
    assert 0 < train["collectives"]["all-reduce"]["bytes"] < parameters / 3
    assert set(train["collectives"]) == {"all-reduce"}
    assert train["available"] == pytest.approx(15.48 * GIB, rel=1e-3)
    assert train["operations"] > 3 * outcome["programs"]["validate"]["operations"] > 0
    assert outcome["tpu"]["hosts"] == 1 and outcome["replica_batch"] == {"images": 2}
    assert "fits: 0.00 of 15.48 GiB a replica" in printed and "images/s" in printed


@needs_compiler
@pytest.mark.slow
def test_everything_is_compiled_and_masks_cost_nothing(small, tmp_path):
    result = tmp_path / "result.json"
    flags = ["--variant=vitbert", "--compare=joint", f"--json={result}", "--jobs=2"]
    assert (
        command_line.run(aot.main, [f"--config={small}", "--tpu=v5litepod-16", *flags]) == EXIT_DONE
    )
    outcome = json.loads(result.read_text())
    assert list(outcome["programs"]) == ["train", "mask update", "validate"]
    sums = {name: p["collectives"] for name, p in outcome["programs"].items()}
    assert set(sums["train"]) == set(sums["mask update"]) == {"all-reduce"} and not sums["validate"]
    assert outcome["compared"]["differences"]["all_reduced_bytes"] == 0
    # Both gradients on the shared encoder by themselves, for Algorithm 1.
    assert sums["mask update"]["all-reduce"]["bytes"] > sums["train"]["all-reduce"]["bytes"]


@needs_compiler
@pytest.mark.slow
@pytest.mark.parametrize("task, kind", [("pets", "images"), ("mnli", "texts")])
def test_fine_tuning_is_compiled(small, tmp_path, task, kind):
    result = tmp_path / "result.json"
    flags = [f"--task={task}", f"--architecture={small}", f"--json={result}", "--config.batch=16"]
    if kind == "images":
        flags.append("--config.image_size=12")
    assert command_line.run(aot.main, ["--tpu=v4-8", *flags]) == EXIT_DONE
    outcome = json.loads(result.read_text())
    assert list(outcome["programs"]) == ["train", "evaluate"] and outcome["memory"]["fits"]
    assert outcome["replica_batch"] == {kind: 4}


@needs_compiler
def test_a_program_that_does_not_fit(tmp_path):
    path = tmp_path / "program.mlir"
    path.write_text(compiler._TOO_LARGE)
    found = compiler.start_compiling(str(path), find_slice("v6e-8"))()
    assert not found["fits"] and found["needed"] >= 2**42
    assert found["available"] == pytest.approx(31.25 * GIB, rel=1e-3)


@pytest.mark.parametrize(
    "text, expected",
    [
        ("Ran out of memory in memory space hbm. Used 55.97G of 15.48G hbm.", (55.97, 15.48)),
        ("HLO temporaries (8.00T) exceeds available HBM (512.0M).", (8192, 0.5)),
    ],
)
def test_what_the_compiler_says_of_memory(text, expected):
    found = compiler._refusal(RuntimeError(f"RESOURCE_EXHAUSTED: {text}"))
    assert found == pytest.approx([GIB * x for x in expected])
    with pytest.raises(ValueError, match="of another kind"):
        compiler._refusal(ValueError("of another kind"))
