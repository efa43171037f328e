"""Trained models for onnxruntime, LiteRT and browsers: one folder that needs no TensorFlow.

| module | holds |
| --- | --- |
| `head_graphs` | a model's heads as TensorFlow functions, in the operations that converters know |
| `onnx_graphs`, `litert_graphs` | those functions as files, compared with the Keras model |
| `character_table` | the tokenizer's rules for characters, as data |
| `page` | the folder as one HTML page that runs in a browser |
| `folder` | writes the folder: graphs, settings, vocabulary, `predict.py`, card |
"""
