"""BERTs and ViTs of other projects: Hugging Face's, keras-hub's and Google's.

Every reader returns the same form, `Weights`: a config, and float32 tensors under the names of
Hugging Face's transformers, which must match the config exactly. A network of this project is made
from it, the same to the bit.

| module | holds |
| --- | --- |
| `sources` | what a reader is given |
| `hugging_face`, `google`, `keras_hub_presets` | the readers, each with a table of names |
| `readers` | chooses the reader; names the model where one fails |
| `architectures` | the common form, its checks, and its network |
| `layout` | which variable of our networks holds each tensor |
| `tensors` | checks that tensors match a config |
| `class_names` | checks whether two lists name the same classes |
"""
