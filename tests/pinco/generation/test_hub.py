"""What is fetched of a repository, from a server on loopback that speaks the hub's protocol."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from huggingface_hub.errors import LocalEntryNotFoundError, RepositoryNotFoundError

from pinco.generation.hub import download, wanted
from pinco.generation.settings import ModelSettings
from pinco.generation.weights import MissingWeightsError, find_weights
from pinco.weight_files import PickledWeightsError

COMMIT = "c" * 40
INDEX = json.dumps(
    {
        "_class_name": "FluxPipeline",
        "transformer": ["diffusers", "FluxTransformer2DModel"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "image_encoder": [None, None],
    }
)
LOADED = {
    "model_index.json": INDEX,
    "pinco.json": "{}",
    "transformer/config.json": "{}",
    "transformer/diffusion_pytorch_model.safetensors.index.json": "{}",
    "transformer/diffusion_pytorch_model-00001-of-00002.safetensors": "one",
    "transformer/diffusion_pytorch_model-00002-of-00002.safetensors": "two",
    "text_encoder/config.json": "{}",
    "text_encoder/model.fp16.safetensors": "half",
    "tokenizer/tokenizer.json": "{}",
    "tokenizer/spiece.model": "pieces",
    "tokenizer/merges.txt": "a b",
}
LEFT = {
    "single-file.safetensors": "everything again",
    "README.md": "a card",
    "teaser.jpg": "a picture",
    "pipeline.py": "print('run')",
    "transformer/diffusion_pytorch_model.fp16.safetensors": "half",
    "transformer/diffusion_pytorch_model.bin": "a pickle",
    "text_encoder/model.non_ema.safetensors": "other",
    "text_encoder/flax_model.msgpack": "flax",
    "image_encoder/model.safetensors": "not a part of it",
    "onnx/model.onnx": "onnx",
}


class Hub(BaseHTTPRequestHandler):
    """One repository, `shop/backbone`, and what was fetched of it."""

    files: dict[str, str]
    fetched: list[str]
    gated = False

    def log_message(self, *_: object) -> None:
        pass

    def _answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        if path.startswith("/api/models/shop/backbone"):
            if self.gated:
                self._answer(403, b"{}", X_Error_Code="GatedRepo", X_Error_Message="accept the licence")
                return
            entries = [
                {"type": "file", "path": name, "size": len(text), "oid": hashlib.sha1(text.encode()).hexdigest()}
                for name, text in self.files.items()
            ]
            info = {"id": "shop/backbone", "sha": COMMIT, "siblings": [{"rfilename": name} for name in self.files]}
            body = json.dumps(entries if "/tree/" in path else info).encode()
            self._answer(200, body, Content_Type="application/json")
            return
        name = path.partition("/resolve/")[2].partition("/")[2]
        if not path.startswith("/shop/backbone/") or name not in self.files:
            self._answer(404, b"{}", X_Error_Code="RepoNotFound")
            return
        body = self.files[name].encode()
        if self.command == "GET":
            self.fetched.append(name)
        self._answer(200, body, ETag=f'"{hashlib.sha1(body).hexdigest()}"', X_Repo_Commit=COMMIT)

    do_HEAD = do_GET  # noqa: N815


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Hub]]:
    handler = type("OwnHub", (Hub,), {"files": dict(LOADED | LEFT), "fetched": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    address = f"http://127.0.0.1:{server.server_address[1]}"
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", address)
    monkeypatch.setattr("huggingface_hub.hf_api.api.endpoint", address)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr(
        "huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}"
    )
    yield handler
    server.shutdown()
    server.server_close()
    thread.join()


def _fetched(folder: str) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): path.read_text() for path in Path(folder).rglob("*") if path.is_file()}


def test_only_the_files_of_the_pipeline_are_fetched_and_once(hub: type[Hub]) -> None:
    folder = download("shop/backbone")
    assert _fetched(folder) == LOADED
    assert len(hub.fetched) == len(set(hub.fetched)) and set(hub.fetched) <= set(LOADED), "equal files once"
    hub.fetched.clear()
    assert download("shop/backbone") == folder and hub.fetched == []


def test_without_a_connection_it_is_the_copy_that_is_there(hub: type[Hub], monkeypatch: pytest.MonkeyPatch) -> None:
    folder = download("shop/backbone")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert download("shop/backbone") == folder
    with pytest.raises(LocalEntryNotFoundError):
        download("shop/other")


def test_an_adapter_is_fetched_as_it_lies(hub: type[Hub]) -> None:
    adapter = {"config.json": "{}", "diffusion_pytorch_model.safetensors": "weights"}
    hub.files = adapter | {"README.md": "a card", "diffusion_pytorch_model.fp16.safetensors": "half"}
    assert _fetched(download("shop/backbone")) == adapter


def test_weights_that_are_pickles_are_refused_before_they_are_fetched(hub: type[Hub]) -> None:
    hub.files = {name: text for name, text in hub.files.items() if not name.startswith("text_encoder/model.")}
    hub.files["text_encoder/pytorch_model.bin"] = "a pickle"
    with pytest.raises(PickledWeightsError, match=r"shop/backbone/text_encoder has its weights in pytorch_model\.bin"):
        download("shop/backbone")
    assert hub.fetched == ["model_index.json"]


def test_a_repository_that_is_not_there_or_not_open_is_said(hub: type[Hub]) -> None:
    with pytest.raises(RepositoryNotFoundError):
        download("shop/nothing")
    with pytest.raises(MissingWeightsError, match=r"neither as a folder nor on the hub .*\(RepositoryNotFoundError\)"):
        find_weights(ModelSettings(backbone="shop/nothing"))
    hub.gated = True
    with pytest.raises(MissingWeightsError, match="accepted its licence there: accept it, log in with `hf auth"):
        find_weights(ModelSettings(backbone="shop/backbone"))


def test_a_whole_model_in_folders_is_fetched_as_it_lies() -> None:
    files = ["backbone/model_index.json", "backbone/vae/model.safetensors", "adapter/config.json", "notes.md"]
    assert wanted(files, None, "shop/model") == sorted(files[:3])
