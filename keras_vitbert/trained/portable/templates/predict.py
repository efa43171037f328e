"""Classifies an image or a text, or fills in [MASK], with the model in this folder.

    python predict.py photo.jpg
    python predict.py --text="A [MASK] day." [--text_pair="..."] [--top_k=5]

Prints the likeliest classes with their probabilities in one line; of [MASK], a line for each one.
A text that is too long loses its end, as in training, and stderr says so.
Needs numpy, onnxruntime (for .tflite files ai_edge_litert) and, for images, Pillow.
"""

import argparse
import itertools
import json
import pathlib
import re
import sys
import unicodedata

import numpy as np

HERE = pathlib.Path(__file__).parent
HEADS = {path.stem for path in HERE.glob("*.*")}
MASK = "[MASK]"
MASK_MARK = "\ufdd0"  # stands for it; a character that no text holds


def main():
    """Runs the command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("image", nargs="?")
    parser.add_argument("--text", "--text_pair", "--text_b", action="append")
    parser.add_argument("--top_k", type=int, default=5)
    given = parser.parse_args()
    settings = json.loads((HERE / "settings.json").read_bytes())
    kind = "text" if given.image is None else "image"
    is_one = (given.image is None) != (given.text is None) and len(given.text or ()) <= 2
    if not is_one or kind not in settings:
        parser.error(f"give one {' or '.join(sorted(settings.keys() & {'image', 'text'}))}")
    try:
        names, logits = (of_text if kind == "text" else of_image)(settings[kind], given)
    except (ValueError, OSError) as error:
        parser.exit(2, f"predict.py: {error}\n")
    for row in np.exp(logits - logits.max(-1, keepdims=True)):
        best = np.argsort(-row[: len(names)], kind="stable")[: given.top_k]
        print(*(f"{names[i]} {row[i] / row.sum():.4f}" for i in best), sep="  ")


def of_image(about, given):
    """The names of the classes of an image, if any, and their logits (1, classes)."""
    from PIL import Image, ImageOps

    with Image.open(given.image, formats=("JPEG", "PNG", "GIF", "BMP", "WEBP")) as stored:
        picture = ImageOps.exif_transpose(stored)  # as its Exif data say
        side = max(round(np.float32(min(picture.size)) * np.float32(about["central_crop"])), 1)
        left, top = ((length - side) // 2 for length in picture.size)
        window = picture.crop((left, top, left + side, top + side))
    if window.mode.startswith("I"):  # 16 bits
        window = Image.fromarray((np.asarray(window) >> 8).astype(np.uint8))
    # As floats: Pillow's resize of bytes rounds twice.
    size, linear = [about["size"]] * 2, Image.Resampling.BILINEAR
    bands = [one.convert("F").resize(size, linear) for one in window.convert("RGB").split()]
    images = np.rint([np.stack([*map(np.asarray, bands)], -1)]).astype(np.uint8)
    return about.get("classes"), run("image", images=images)


def of_text(about, given):
    """The names of classes or tokens, and their logits (1, classes) or (masks, vocabulary)."""
    vocabulary = (HERE / "vocabulary.txt").read_bytes().decode().removesuffix("\n").split("\n")
    ids = {token: number for number, token in enumerate(vocabulary)}
    texts, sep, mask = given.text, ids["[SEP]"], ids[MASK]
    if fills := "mlm" in HEADS and (any(MASK in text for text in texts) or "text" not in HEADS):
        texts = [text.replace(MASK, f" {MASK_MARK} ") for text in texts]
    found = [list(tokenize(text, {**ids, MASK_MARK: mask})) for text in texts]
    whole, masks = sum(map(len, found)) + len(found) + 1, sum(each.count(mask) for each in found)
    for _ in range(whole - about["max_length"]):  # of the longer one, or else of the second
        max(reversed(found), key=len).pop()
    tokens = [ids["[CLS]"], *itertools.chain.from_iterable([*each, sep] for each in found)]
    tokens = np.array([tokens], np.int32)
    if fills and not 0 < masks == (tokens == mask).sum():
        raise ValueError(f"write {MASK} in place of a word, early in the text")
    if whole > tokens.size:
        cut = f"{whole} tokens, and the model takes {tokens.size}"
        print(f"The text's end is cut off: {cut}.", file=sys.stderr)
    segments = np.cumsum(tokens == sep, 1, np.int32) - (tokens == sep)
    inputs = {"token_ids": tokens, "segment_ids": segments, "padding_mask": np.ones_like(tokens)}
    if not fills:
        return about.get("classes"), run("text", **inputs)
    return vocabulary, run("mlm", **inputs)[tokens == mask]


def tokenize(text, ids):
    """The ids of a text's WordPiece tokens, by the table of characters."""
    table = json.loads((HERE / "characters.json").read_bytes())
    text = re.sub(table["removed"], "", text)
    text = re.sub(table["hangul"], lambda one: unicodedata.normalize("NFD", one[0]), text)
    text = text.translate(str.maketrans(*table["folded"]) | str.maketrans(table["expanded"]))
    text = re.sub(table["spaces"], " ", re.sub(table["words"], r" \g<0> ", text))
    for word in text.split():
        is_long = len(word.encode(errors="surrogatepass")) > table["longest_word"]
        found = [None] if is_long else pieces(word, ids)
        yield from [ids["[UNK]"]] if None in found else found


def pieces(word, ids, prefix=""):
    """The longest piece that a word begins with, and the pieces of the rest; None if unknown."""
    for end in range(len(word), 0, -1):
        if prefix + word[:end] in ids:
            return [ids[prefix + word[:end]], *pieces(word[end:], ids, "##")]
    return [None] * bool(word)


def run(head, **inputs) -> np.ndarray:
    """The logits of a head."""
    if (path := HERE / f"{head}.tflite").exists():
        from ai_edge_litert.interpreter import Interpreter

        return Interpreter(str(path)).get_signature_runner()(**inputs)[f"{head}_logits"]
    import onnxruntime

    return np.asarray(onnxruntime.InferenceSession(HERE / f"{head}.onnx").run(None, inputs)[0])


if __name__ == "__main__":
    main()
