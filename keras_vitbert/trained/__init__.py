"""Trained models: found, opened, asked, exported and shared.

| module | holds |
| --- | --- |
| `places`, `finding` | whether a model is at a path, and of which kind |
| `loading`, `trained_model` | opens it, always as a `TrainedModel` |
| `weight_names` | the names of a BERT's or ViT's tensors in other projects' files |
| `hugging_face`, `google_and_keras_hub` | read those files, as `architectures.Imported` |
| `hugging_face_folder` | writes them for `transformers` |
| `hub` | keras-hub tasks, preprocessors and presets of this project |
| `sharing` | writes a folder to share, with its card |
| `served_model`, `exporting` | graphs from raw bytes and strings to answers, and their files |
| `predicting`, `prediction_formats` | asks a model about files and texts; its answers as text |
"""
