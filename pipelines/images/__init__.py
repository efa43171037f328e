"""Images: found in archives and folders, written as records, decoded and augmented."""

# Of the images in a folder, case-insensitive.
SUFFIXES = (".jpeg", ".jpg", ".png", ".gif", ".bmp", ".webp")
