"""Images: found in archives and folders, written as records, decoded and augmented."""

SUFFIXES = (".jpeg", ".jpg", ".png", ".gif", ".bmp")  # of the images in a folder, case-insensitive
