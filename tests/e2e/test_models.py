"""Several models in one server: routed by name, loaded and unloaded while it runs."""

import json
import pathlib
import shutil
import threading
import urllib.error
import urllib.request

import pytest

from conftest import model_path, running


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model folder with one model under two names, a link that leads out of it and a file that is no model."""
    root = tmp_path_factory.mktemp("models")
    models = root / "dir"
    models.mkdir()
    (models / "smol.gguf").hardlink_to(model_path()) if same_device(models) else shutil.copy(model_path(), models / "smol.gguf")
    (models / "broken.gguf").write_bytes(b"GGUF\x03\0\0\0 and nothing else")
    (models / "out.gguf").symlink_to(model_path())
    spec = f'''
[[model]]
model = "{model_path()}"
served-model-name = "first"
kv-cache-mib = 64

[[model]]
model = "{model_path()}"
served-model-name = "second"
model-alias = ["other"]
kv-cache-mib = 32
max-rows = 4
max-model-len = 256
'''
    (root / "models.toml").write_text(spec)
    return root


def same_device(path: pathlib.Path) -> bool:
    return path.stat().st_dev == pathlib.Path(model_path()).stat().st_dev


@pytest.fixture(scope="module")
def server(folder):
    with running("--models", str(folder / "models.toml"), "--model-dir", str(folder / "dir"), "--admin-port", "0", model=None) as s:
        yield s


def post(url: str, body: dict, timeout: float = 120):
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=timeout) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def complete(server, model: str, **fields):
    body = {"model": model, "prompt": "The capital of France is", "max_tokens": 8, "temperature": 0, **fields}
    return post(f"{server.url}/v1/completions", body)


def admin(server, action: str, **fields):
    return post(f"http://127.0.0.1:{server.admin_port}/admin/models/{action}", fields)


def names(server) -> list[str]:
    return [m["id"] for m in json.load(urllib.request.urlopen(f"{server.url}/v1/models", timeout=10))["data"]]


def test_requests_are_routed_by_name_and_alias(server):
    assert names(server)[:2] == ["first", "second"]
    texts = set()
    for model in ("first", "default", "second", "other"):
        status, answer = complete(server, model)
        assert status == 200, answer
        texts.add(answer["choices"][0]["text"])
    assert len(texts) == 1  # the same weights
    status, error = complete(server, "third")
    assert status == 404 and "first, default, second, other" in error["error"]["message"]


def test_each_model_has_its_own_limits_and_metrics(server):
    status, error = complete(server, "second", max_tokens=300)
    assert status == 400 and "256" in error["error"]["message"]
    assert complete(server, "first", max_tokens=1)[0] == 200
    page = urllib.request.urlopen(f"{server.url}/metrics", timeout=10).read().decode()
    for model in ("first", "second"):
        assert f'sluice_output_tokens_total{{model_name="{model}"}}' in page
    assert page.count("sluice_orphaned_requests{") == 1


def test_models_run_side_by_side(server):
    results = {}

    def ask(model: str):
        results[model] = complete(server, model, max_tokens=64, ignore_eos=True)

    threads = [threading.Thread(target=ask, args=(m,)) for m in ("first", "second")]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert all(status == 200 and a["usage"]["completion_tokens"] == 64 for status, a in results.values())


def test_a_model_is_loaded_served_and_unloaded(server):
    status, answer = admin(server, "load", name="third", path="smol.gguf", settings={"kv-cache-mib": 32, "max-rows": 2})
    assert (status, answer) == (200, {"loaded": "third"})
    assert names(server)[-1] == "third"
    status, answer = complete(server, "third")
    assert status == 200
    assert any('model_name="third"' in name for name in server.metrics())
    assert admin(server, "load", name="third", path="smol.gguf")[0] == 409
    assert admin(server, "load", name="default", path="smol.gguf", settings={"kv-cache-mib": 32})[0] == 409
    assert admin(server, "unload", name="third") == (200, {"unloaded": "third", "drained": True})
    assert complete(server, "third")[0] == 404
    assert not any('model_name="third"' in name for name in server.metrics())
    assert admin(server, "unload", name="third")[0] == 404


def test_unloading_lets_running_work_finish(server):
    assert admin(server, "load", name="brief", path="smol.gguf", settings={"kv-cache-mib": 32})[0] == 200
    body = {"model": "brief", "prompt": "Once", "max_tokens": 200, "temperature": 0, "stream": True, "ignore_eos": True}
    request = urllib.request.Request(f"{server.url}/v1/completions", json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=120) as stream:
        first = stream.readline()
        assert first.startswith(b"data: ")
        answers = []
        unloading = threading.Thread(target=lambda: answers.append(admin(server, "unload", name="brief")))
        unloading.start()
        rest = stream.read().decode()
    unloading.join()
    assert '"finish_reason":"length"' in rest and rest.rstrip().endswith("data: [DONE]")
    assert answers == [(200, {"unloaded": "brief", "drained": True})]
    server.wait_idle()


@pytest.mark.parametrize("path", ["../models.toml", "/etc/passwd", "out.gguf", "nothing.gguf", "."])
def test_nothing_is_loaded_from_outside_the_folder(server, path):
    status, error = admin(server, "load", name="x", path=path, settings={"kv-cache-mib": 32})
    assert status in (400, 403, 404), error
    assert "x" not in names(server)


@pytest.mark.parametrize(
    "fields, status, says",
    [
        ({"name": "x", "path": "broken.gguf"}, 400, "broken.gguf"),
        ({"name": "x", "path": "smol.gguf", "settings": {"host": "0.0.0.0"}}, 400, "setting of the server"),
        ({"name": "x", "path": "smol.gguf", "settings": {"nope": 1}}, 400, "unknown key"),
        ({"name": "x", "path": "smol.gguf", "settings": {"max-rows": 0}}, 400, "between"),
        ({"name": "", "path": "smol.gguf"}, 400, "name"),
        ({"name": "x"}, 400, "path"),
    ],
)
def test_a_refused_load_says_why(server, fields, status, says):
    got, error = admin(server, "load", **fields)
    assert got == status and says in error["error"]["message"], error


def test_loading_is_not_a_public_route(server):
    assert post(f"{server.url}/admin/models/load", {"name": "x", "path": "smol.gguf"})[0] == 404
