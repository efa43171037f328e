"""Trained models of other projects: Hugging Face's, keras-hub's and Google's.

Every reader returns the same form: a config, and float32 tensors under the names of Hugging Face's
transformers (`BertWeights`, `VitWeights`). The tensors must match the config exactly.

| module | holds |
| --- | --- |
| `sources` | what a reader is given |
| `hugging_face`, `google` | the readers |
| `tensors`, `bert_weights`, `vit_weights` | the common form, and its checks |
| `keras_hub_backbones`, `vit_backbone` | keras-hub's backbones with such weights, and ours |
| `image_teachers`, `text_teachers` | frozen teacher networks with heads |
| `keras_hub_presets` | tasks of keras-hub, and of this project's `hub` |
| `class_names` | whether two lists name the same classes |
"""
