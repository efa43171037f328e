"""Images, files and tar files as users have them, and independent readers of both."""

import glob
import io
import tarfile

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

needs_webp = pytest.mark.skipif(
    not hasattr(tf.io, "decode_webp"), reason="this TensorFlow decodes no WebP"
)
PILLOWS_ROUNDING = 1.01 / 255  # its resize rounds to 8 bits after each direction


def picture(seed, size=(40, 30)):
    """A smooth image of bright colours."""
    random = np.random.default_rng(seed)
    corners = random.integers(0, 256, (3, 3, 3), dtype=np.uint8)
    return Image.fromarray(corners).resize(size, Image.BICUBIC)


def textured(seed=0, size=40):
    """An array: waves, an edge and noise, from 20 to 235 in one channel and less in the others."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size] / size
    waves = np.stack([np.sin(x * a + y * b) for a, b in random.uniform(-9, 9, (3, 2))], -1)
    image = 120 + [80, 60, 40] * waves + random.normal(0, 12, (size, size, 3))
    image[: size // 3, : size // 2] += 30
    return np.clip(image, 20, 235).astype(np.uint8)


def smooth(height, width, seed=0, one_hue=False):
    """An array: waves with a bright top left corner: a wave a colour, or one for all."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width] / max(height, width)
    waves = [np.sin(x * a + y * b) for a, b in random.uniform(-6, 6, (3, 2))]
    image = 110 + 50 * np.stack(waves[:1] * 3 if one_hue else waves, -1)
    image[: height // 3, : width // 3] += 40
    return (image + [30, 0, -30]).astype(np.uint8)


def encoded(image, kind="JPEG", **options):
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def jpeg(seed, size=(40, 30)):
    return encoded(picture(seed, size), quality=95)


def cmyk(image, **options):
    return encoded(image.convert("CMYK"), quality=100, subsampling=0, **options)


def pixels(data):
    """What Pillow reads, as signed integers."""
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)


def pillow(encoded, size, box=None):
    """The independent reader: another decoder, another resize (a triangle filter as well)."""
    image = Image.open(io.BytesIO(encoded)).convert("RGB")
    image = image.crop(box) if box else image
    return np.asarray(image.resize((size, size), Image.Resampling.BILINEAR), np.float64) / 255


def tar(members, form=tarfile.PAX_FORMAT):
    """A tar file of `(name, bytes)`, as bytes; None instead of bytes makes a folder."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=form) as archive:
        for name, data in members:
            member = tarfile.TarInfo(name)
            if data is None:
                member.type = tarfile.DIRTYPE
            else:
                member.size = len(data)
            archive.addfile(member, io.BytesIO(data or b""))
    return stream.getvalue()


def train_tar(classes):
    """A tar file of tar files: `classes` is a dict of name to dict of file name to bytes."""
    return tar([(f"{name}.tar", tar(files.items())) for name, files in classes.items()])


def read_records(pattern):
    """The records of all files, in order, parsed by TensorFlow: a list of dicts."""
    found = []
    for record in tf.data.TFRecordDataset(sorted(glob.glob(str(pattern)))):
        fields = tf.train.Example.FromString(record.numpy()).features.feature
        values = {name: (f.bytes_list.value or f.int64_list.value)[0] for name, f in fields.items()}
        found.append({name.removeprefix("image/"): value for name, value in values.items()})
    return found
