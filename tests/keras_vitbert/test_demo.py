import importlib.util
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request

import pytest

from keras_vitbert import demo
from pipelines import command_line
from tests.keras_vitbert.extras.demo_page.ports import free_port

ROOT = pathlib.Path(__file__).parents[2]
SAVED = ROOT / "tests" / "keras_vitbert" / "trained" / "saved"


def test_what_is_refused_before_anything_is_loaded(monkeypatch, capsys):
    monkeypatch.setattr(demo, "load_tensorflow", lambda: pytest.fail("TensorFlow is loaded"))
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
        assert command_line.run(demo.main, ["--checkpoint=none", f"--port={port}"]) == 2
    assert port in capsys.readouterr().err
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert command_line.run(demo.main, ["--checkpoint=none"]) == 2
    assert "gradio" in capsys.readouterr().err


@pytest.mark.slow
def test_it_serves_until_ctrl_c_and_leaves_nothing(tmp_path):
    shutil.copytree(SAVED / "fine_tuned_texts", tmp_path / "texts")
    (tmp_path / "temporary").mkdir()
    port = free_port()
    environment = {
        **os.environ,
        "HTTP_PROXY": "http://127.0.0.1:9",  # nobody is there
        "NO_PROXY": "example.org",
        "GRADIO_SHARE": "True",
        "GRADIO_SERVER_NAME": "0.0.0.0",
        "TMPDIR": str(tmp_path / "temporary"),
        "PYTHONPATH": str(ROOT),
    }
    words = (sys.executable, "-m", "keras_vitbert.demo", "--checkpoint=texts", f"--port={port}")
    options = {"cwd": tmp_path, "env": environment, "text": True}
    with subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options
    ) as process:
        try:
            line = process.stdout.readline()
            address = f"http://127.0.0.1:{port}/"
            assert line == f"{address} shows texts; Ctrl-C ends it\n", process.stderr.read()
            opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
            page = opener.open(address).read().decode()
            assert "It takes no images." in page and "Sentence" in page
            assert "France" not in page  # no example of what it does not know
            assert '"analytics_enabled":false' in page.replace(" ", "")
            for more in ({"Host": f"evil.example:{port}"}, {"Origin": "http://evil.example"}):
                with pytest.raises(urllib.error.HTTPError, match="403"):
                    opener.open(urllib.request.Request(address, headers=more))
            process.send_signal(signal.SIGINT)
            assert process.wait(60) == 0
        finally:
            process.kill()
    assert os.listdir(tmp_path / "temporary") == []
