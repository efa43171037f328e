"""Trained models from elsewhere: Hugging Face's, keras-hub's and Google's.

Whatever comes is brought to one form first: a config and float32 tensors by the names that Hugging
Face's transformers write (`BertWeights`, `VitWeights`), each of which is accounted for.

| module | holds |
| --- | --- |
| `sources` | what a path is |
| `hugging_face`, `google` | the readers |
| `tensors`, `bert_weights`, `vit_weights` | the one form, and its checks |
| `trunks` | keras-hub's backbones from it |
| `image_teachers`, `text_teachers` | networks with heads, as teachers answer |
| `keras_hub_presets` | tasks of keras-hub, and of this project's `hub` |
| `class_names` | whether two lists of classes mean the same |
"""

from keras_vitbert.importing.sources import find_source
from keras_vitbert.importing.vit_weights import VitWeights, import_vit

__all__ = ["VitWeights", "find_source", "import_vit"]
