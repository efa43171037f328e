"""BERTs and ViTs of other projects: Hugging Face's, keras-hub's and Google's.

Every reader returns the same form, `Weights`: a config, and float32 tensors under the names of
Hugging Face's transformers, which must match the config exactly. It becomes a network of this
project, to the bit.

| module | holds |
| --- | --- |
| `sources` | what a reader is given |
| `hugging_face`, `google`, `keras_hub_presets` | the readers, each with a table of names |
| `architectures` | the common form, its checks, and its network |
| `layout` | where each tensor stands in our networks |
| `configs`, `tensors` | whether a config is supported, and tensors match it |
| `class_names` | whether two lists name the same classes |
"""
