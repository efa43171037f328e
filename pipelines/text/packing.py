"""Packs texts into rows, one after another, so that few tokens are padding."""

import tensorflow as tf

_OF_ROWS = ("token_ids", "segment_ids")


def packed(batch, parts=1):
    """Packs the texts of a batch into rows as long as the longest text.

    Texts are placed from the longest on, each into the fullest row that has room for it. This
    best-fit-decreasing rule takes at most 11/9 of the fewest possible rows, plus four (Johnson et
    al. 1974, "Worst-case performance bounds for simple one-dimensional packing algorithms").

    Args:
        batch: dict of tensors, see `pipelines.text_stream.TextStream.parse`.
        parts: int, into how many equal parts a step divides the batch; each is packed separately.

    Returns:
        dict of tensors: `(rows, length)` int32 `token_ids`, `segment_ids`, `position_ids`, where
        each text begins with 0, and `padding_mask`, which holds the number of the text, from 1, and
        0 for padding; `(texts,)` int32 `text_starts`, the place of each text's first token in the
        rows of its part, counted over all of these; the other fields unchanged. `rows` is a
        multiple of `parts`.
    """
    texts, length = batch["token_ids"].shape
    real = tf.reshape(batch["padding_mask"], [parts, texts // parts, length]) > 0
    places = tf.range(length)
    sizes = tf.reduce_max(tf.where(real, places + 1, 1), -1)
    rows, offsets, needed = _best_fit(sizes, length)
    starts = rows * length + offsets
    # A part with fewer rows than another has empty ones at its end.
    shape = [parts, needed * length]
    part = tf.range(parts)[:, tf.newaxis, tf.newaxis]
    tokens = tf.stack([part + tf.zeros_like(real, tf.int32), starts[..., tf.newaxis] + places], -1)
    is_own = places < sizes[..., tf.newaxis]
    where = tf.boolean_mask(tokens, is_own)

    def spread(values):
        values = tf.reshape(values, [parts, texts // parts, length])
        found = tf.scatter_nd(where, tf.boolean_mask(values, is_own), shape)
        return tf.reshape(found, [-1, length])

    numbers = tf.range(1, texts // parts + 1)[:, tf.newaxis]
    return {
        **batch,
        **{name: spread(batch[name]) for name in _OF_ROWS},
        "position_ids": spread(tf.broadcast_to(places, [texts, length])),
        "padding_mask": spread(tf.where(real, numbers, 0)),
        "text_starts": tf.reshape(starts, [texts]),
    }


def _best_fit(sizes, length):
    """Assigns texts of given sizes to rows, each part separately.

    Args:
        sizes: `(parts, texts)` int32.
        length: int, of a row.

    Returns:
        `(parts, texts)` int32, the row of each text and its place there; scalar int32, the number
        of rows of the part that has the most.
    """
    parts, texts = sizes.shape
    order = tf.argsort(sizes, direction="DESCENDING", stable=True)
    in_order = tf.gather(sizes, order, batch_dims=1)

    def place(number, room, rows, offsets):
        size = in_order[:, number, tf.newaxis]
        row = tf.argmin(tf.where(room >= size, room, length + 1), -1, tf.int32)
        offset = length - tf.gather(room, row, batch_dims=1)
        room -= tf.one_hot(row, texts, dtype=tf.int32) * size
        return number + 1, room, rows.write(number, row), offsets.write(number, offset)

    arrays = [tf.TensorArray(tf.int32, texts, element_shape=(parts,)) for _ in range(2)]
    _, room, rows, offsets = tf.while_loop(
        lambda number, *_: number < texts, place, (0, tf.fill([parts, texts], length), *arrays)
    )
    back = tf.argsort(order)
    placed = [tf.gather(tf.transpose(x.stack()), back, batch_dims=1) for x in (rows, offsets)]
    return *placed, tf.reduce_max(tf.reduce_sum(tf.cast(room < length, tf.int32), -1))
