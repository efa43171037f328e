"""Images: found in archives and folders, written as records, decoded and augmented."""
