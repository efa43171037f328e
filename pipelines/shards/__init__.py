"""Sharded data on disk: TFRecord files, their manifests and their damage, read in any order."""
