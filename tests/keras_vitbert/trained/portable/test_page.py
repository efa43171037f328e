"""The page of a model: what stands in it, and what it answers in a browser without a network."""

import html.parser
import json
import os
import pathlib
import shutil
import subprocess
import tarfile

import pytest
from PIL import Image

from keras_vitbert.trained.portable import page
from tests.keras_vitbert.extras.demo_page.test_page import browser  # noqa: F401
from tests.keras_vitbert.trained.portable.conftest import HOSTILE
from tests.keras_vitbert.trained.portable.test_predict_images import TURNED
from tests.pipelines.image_fixtures import encoded, smooth

PATIENCE = 120_000  # milliseconds
CHECKED = "1.30.0"  # of onnxruntime-web


class Elements(html.parser.HTMLParser):
    """All elements of a page, with their text."""

    def __init__(self, text):
        super().__init__()
        self.found = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs), []))

    def handle_endtag(self, tag):
        self.found.append(("/" + tag, {}, []))

    def handle_data(self, data):
        if self.found:
            self.found[-1][2].append(data)


def test_names_of_classes_are_data(tmp_path):
    settings = {"name": "<b>", "image": {"size": 6, "central_crop": 1.0, "classes": HOSTILE}}
    (tmp_path / "settings.json").write_text(json.dumps(settings))
    for file in ("image.onnx", "weights.bin"):
        (tmp_path / file).write_bytes(b"some")
    text = page._page(tmp_path, "<1.0>", {"wasm": "AAAA"})
    elements = Elements(text).found
    assert not {"img", "h1", "b"} & {tag for tag, attrs, _ in elements if not attrs.get("id")}
    [content] = [text for _, attrs, text in elements if attrs.get("id") == "model"]
    assert json.loads("".join(content))["settings"] == settings
    policies = [attrs["content"] for _, attrs, _ in elements if "http-equiv" in attrs]
    [program] = ["".join(t) for _, attrs, t in elements if attrs.get("type") == "module"]
    assert page._digest(program) in policies[0] and "default-src 'none'" in policies[0]


def test_another_folder_is_no_runtime(tmp_path):
    with pytest.raises(ValueError, match="onnxruntime-web"):
        page._read_runtime(str(tmp_path))


@pytest.fixture(scope="module")
def runtime(request):
    """The npm package, from $ONNXRUNTIME_WEB or by npm, of which the cache keeps what is needed."""
    if path := os.environ.get("ONNXRUNTIME_WEB"):
        return path
    folder = pathlib.Path(request.config.cache.mkdir("onnxruntime-web"))
    if not (folder / "package" / "package.json").exists():
        if shutil.which("npm") is None:
            pytest.skip("needs npm, or the package onnxruntime-web at $ONNXRUNTIME_WEB")
        words = ["npm", "pack", "--silent", f"onnxruntime-web@{CHECKED}"]
        if subprocess.run(words, cwd=folder).returncode:
            pytest.skip("npm does not give onnxruntime-web")
        [archive] = folder.glob("*.tgz")
        with tarfile.open(archive) as tar:
            for name in (*page._RUNTIME.values(), "package.json"):
                tar.extract(f"package/{name}", folder, filter="data")
        archive.unlink()
    return str(folder / "package")


@pytest.fixture(scope="module")
def visit(browser, all_heads, runtime, tmp_path_factory):  # noqa: F811
    """The page, opened with the network off, and what it complains of."""
    pytest.importorskip("tf2onnx", reason="needs tf2onnx")
    folder, errors, asked = tmp_path_factory.mktemp("page"), [], []
    page.write_page(all_heads, str(folder), runtime, "<i>it")
    opened = browser.new_context(offline=True).new_page()
    opened.set_default_timeout(PATIENCE)
    opened.on("pageerror", lambda error: errors.append(str(error)))
    opened.on("console", lambda it: it.type in ("error", "warning") and errors.append(it.text))
    opened.on("request", lambda request: asked.append(request.url.partition(":")[0]))
    opened.goto((folder / "index.html").as_uri())
    opened.get_by_text("Ready.").wait_for()
    yield opened
    assert not errors and set(asked) == {"file", "blob"}


def shown(visit, place):
    """The answers of each list."""
    visit.locator(f"#{place} li").first.wait_for()
    lists = [
        [row.locator("span, output").all_text_contents() for row in some.locator("li").all()]
        for some in visit.locator(f"#{place} ol").all()
    ]
    return [[(name, float(share)) for name, share in some] for some in lists]


def close(found, expected):
    for ours, theirs in zip(found, expected, strict=True):
        assert [name for name, _ in ours[:3]] == [name for name, _ in theirs]
        shares = [share for _, share in theirs]
        assert [share for _, share in ours[:3]] == pytest.approx(shares, abs=2e-3)


@pytest.mark.slow
def test_images(visit, expected, tmp_path):
    picture = Image.fromarray(smooth(61, 83))
    for name, data in {
        "photo.jpg": encoded(picture, quality=95, exif=TURNED),
        "small.png": encoded(Image.fromarray(smooth(5, 6)), "PNG"),
        "grey.png": encoded(picture.convert("L"), "PNG"),
    }.items():
        (tmp_path / name).write_bytes(data)
        visit.locator("#file").set_input_files(str(tmp_path / name))
        visit.get_by_text("Answered").wait_for()
        close(shown(visit, "image_answers"), expected(tmp_path / name))
    assert visit.title() == "<i>it" and visit.locator("#image_answers img, h1 *").count() == 0


@pytest.mark.slow
def test_texts(visit, expected):
    for first, second in (("The cats sat.", ""), ("the cat", "sat"), ("[MASK] CAT[MASK].", "")):
        visit.locator("#text").fill(first)
        visit.locator("#pair").fill(second)
        visit.get_by_role("button", name="Ask").click()
        visit.get_by_text("Answered").wait_for()
        close(shown(visit, "text_answers"), expected([first, *filter(None, [second])]))
    visit.locator("#text").fill("the cat sat on the cat.")
    visit.locator("#text").press("Enter")
    visit.get_by_text("9 tokens, and the model takes 7").wait_for()
    close(shown(visit, "text_answers"), expected(["the cat sat on the cat."]))
