"""Data in and out: from raw files to TFRecords, and from TFRecords to the training stream."""
