"""Trained models from elsewhere: Hugging Face's, keras-hub's and Google's.

Whatever comes is brought to one form first: a config and float32 tensors by the names that Hugging
Face's transformers write (`BertWeights`, `VitWeights`), each of which is accounted for.

| module | holds |
| --- | --- |
| `sources` | what a reader is given |
| `hugging_face`, `google` | the readers |
| `tensors`, `bert_weights`, `vit_weights` | the one form, and its checks |
| `trunks`, `vit_backbone` | keras-hub's backbones from it, and ours |
| `image_teachers`, `text_teachers` | networks with heads, as teachers answer |
| `keras_hub_presets` | tasks of keras-hub, and of this project's `hub` |
| `class_names` | whether two lists of classes mean the same |
"""
