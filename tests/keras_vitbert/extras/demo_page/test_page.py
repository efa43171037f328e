"""The page in a browser, with real clicks; and that it asks no other host for anything."""

import contextlib
import shutil
import urllib.parse

import pytest

from tests.keras_vitbert.extras.demo_page.ports import free_port
from tests.pipelines.image_fixtures import encoded, picture

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
PATIENCE = 60_000  # milliseconds

pytestmark = pytest.mark.slow


class Visit:
    """A page in a browser, with what it asked for and complained about."""

    def __init__(self, page, port):
        self.page, self.port, self.asked, self.errors = page, port, set(), []
        page.set_default_timeout(PATIENCE)
        page.on("request", lambda request: self.asked.add(urllib.parse.urlsplit(request.url)))
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", lambda it: it.type == "error" and self.errors.append(it.text))

    def texts(self, selector):
        """The letters of all elements that are to be seen, once there is one."""
        self.page.locator(f"{selector}:visible").first.wait_for()
        return self.page.locator(f"{selector}:visible").all_inner_texts()

    def plot(self, other=None):
        """The picture of the blocks, once it is another one."""
        images = self.page.locator("img[src^='data:image/png']:visible")
        for _ in range(PATIENCE // 100):
            found = [image.get_attribute("src") for image in images.all()]
            if found and found[-1] != other:
                return found[-1]
            self.page.wait_for_timeout(100)
        raise AssertionError("no other picture")


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        pytest.skip(f"needs a browser: none of {', '.join(BROWSERS)} is installed")
    with playwright.sync_playwright() as running:
        # Without a proxy a request to another host would show up in `asked`, and fail.
        options = ["--no-sandbox", "--no-proxy-server"]
        browser = running.chromium.launch(executable_path=path, args=options)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def models(make_network, classifier):
    """One for images and texts, and a classifier of texts with one block less."""
    from keras_vitbert.extras.demo_page.answers import ShownModel
    from keras_vitbert.trained.trained_model import TrainedModel
    from tests.keras_vitbert.trained.served_models import VOCABULARY

    both = make_network(num_classes=6, max_sequence_length=12)
    heads = {"image": both.image_head, "mlm": both.mlm_head}
    classes = ["cat", "dog", "<b>ox</b>", "été", "tench", "bird"]
    trained = TrainedModel("runs/both", "vitbert", both.backbone, heads, classes, VOCABULARY)
    return [ShownModel(trained), ShownModel(classifier)]


@pytest.fixture
def visit(browser, monkeypatch):
    """`visit(models)` serves a page and opens it."""
    from keras_vitbert.demo import serving

    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # nobody is there
    for name in ("NO_PROXY", "no_proxy", "GRADIO_TEMP_DIR", "GRADIO_ANALYTICS_ENABLED"):
        monkeypatch.setenv(name, "")  # and restore them behind what the server sets
    with contextlib.ExitStack() as stack:

        def visit(models):
            port = free_port()
            address = stack.enter_context(serving(models, port))
            assert address == f"http://127.0.0.1:{port}/"
            visit = Visit(stack.enter_context(contextlib.closing(browser.new_page())), port)
            visit.page.goto(address)
            return visit

        yield visit


def test_an_image_and_a_sentence(visit, models, tmp_path):
    it = visit(models)
    assert "It takes no images." in it.page.get_by_label("runs/it").input_value()
    assert it.texts('[role="tab"]') == ["Image", "Text"]
    it.page.get_by_role("button", name="Model card").first.click()
    it.page.get_by_text("Limits and biases").first.wait_for()
    image = tmp_path / "photo.png"
    image.write_bytes(encoded(picture(3), "PNG"))
    it.page.locator("input[type=file]").set_input_files(str(image))
    [answers] = models[0].image(str(image)).answers.values()
    assert [name.strip() for name in it.texts(".label-text, dt, .text")][:5] == list(answers)
    # The slider begins at the last block that both have; a step on shows another picture.
    first = it.plot()
    slider = it.page.get_by_role("slider").first
    slider.focus()
    slider.press("ArrowRight")
    last = it.plot(first)
    it.page.get_by_label("activation").first.check()
    assert it.plot(last) != first

    it.page.get_by_role("tab", name="Text").click()
    sentence = it.page.get_by_label("Sentence", exact=True)
    sentence.fill("the [MASK] sat [MASK]")
    sentence.press("Enter")
    it.page.get_by_text("mask 2").first.wait_for()
    sentence.fill("the cat sat")
    it.page.get_by_role("button", name="Ask", exact=True).click()
    it.page.get_by_text("Nothing to predict").wait_for()
    sentence.fill("the cat " * 6 + "[MASK]")
    it.page.get_by_role("button", name="Ask", exact=True).click()
    error = it.page.get_by_label("Error").first
    error.wait_for()
    assert "[MASK] beyond the 12 tokens" in error.input_value()
    # Only the page itself was asked, and nothing went wrong in the browser.
    hosts = {url.netloc for url in it.asked if url.scheme not in ("data", "blob")}
    assert hosts == {f"127.0.0.1:{it.port}"}
    assert it.errors == []
