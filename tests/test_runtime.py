"""Compiled networks where the cache cannot be written, and on an accelerator."""
import subprocess
import sys
from importlib.util import find_spec
from itertools import islice

import numpy as np
import pytest

from avmatch import runtime
from avmatch.config import ArtifactError, VideoFeaturesConfig
from avmatch.runtime import compile_network, run_torch
from avmatch.samples import clip_frames, plan_samples
from avmatch.video_encoders import efficientnet_lite0

PICTURES = np.random.default_rng(0).standard_normal((4, 3, 8, 8)).astype(np.float32)
NETWORK = {"name": "tiny", "version": "1", "outputs": ["features"]}


def tiny():
    "A network of one layer, always the same."
    import torch
    torch.manual_seed(0)
    return torch.nn.Conv2d(3, 2, 3)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    "An empty cache."
    monkeypatch.setenv("AVMATCH_CACHE", str(tmp_path))
    return tmp_path / "onnx"


@pytest.fixture
def on_processor(monkeypatch): monkeypatch.setattr(runtime, "accelerator", lambda: "")


def test_a_cache_that_can_only_be_read_is_read(cache, on_processor, caplog):
    wanted = compile_network(tiny, PICTURES[:1], **NETWORK)(PICTURES)
    (cache / ".lock").unlink(missing_ok=True)
    (cache / ".lock").mkdir()   # no lock can be had; root may write into any folder, so this stands for one that is read-only
    def never(): raise AssertionError("the network was built, though its graph is there")
    np.testing.assert_array_equal(compile_network(never, PICTURES[:1], **NETWORK)(PICTURES), wanted)
    np.testing.assert_allclose(compile_network(tiny, PICTURES[:1], **NETWORK | {"version": "2"})(PICTURES), wanted, atol=1e-6)
    assert "PyTorch" not in caplog.text


def test_a_full_disk_costs_the_cache_and_not_the_network(cache, on_processor, monkeypatch, caplog):
    def full(path, data): raise ArtifactError(f"{path} cannot be written (No space left on device); free some space and run again")
    monkeypatch.setattr(runtime, "write_atomic", full)
    found = compile_network(tiny, PICTURES[:1], **NETWORK)(PICTURES)
    np.testing.assert_allclose(found, run_torch(tiny())(PICTURES), atol=1e-5)
    assert "is not kept" in caplog.text and "No space left" in caplog.text and not list(cache.glob("*.onnx"))


@pytest.mark.gpu
def test_on_an_accelerator_a_network_sees_what_it_sees_on_a_processor(monkeypatch):
    "There it computes with bf16, where the accelerator has that."
    clip = plan_samples(1, 1, bad=False)[0]
    pictures = list(islice(clip_frames(clip, size=240), 0, 80, 10))
    def seen(bf16): return efficientnet_lite0(VideoFeaturesConfig(bf16=bf16)).encode(pictures, np.arange(len(pictures))).values
    there = seen(True)
    monkeypatch.setattr(runtime, "accelerator", lambda: "")
    here = seen(False)
    products = (there[:, :1280] * here[:, :1280]).sum(axis=1)
    cosines = products / np.linalg.norm(there[:, :1280], axis=1) / np.linalg.norm(here[:, :1280], axis=1)
    assert cosines.min() > 0.999
    np.testing.assert_allclose(there[:, 1280:], here[:, 1280:], atol=0.05)   # shares of classes


def test_without_16_bits_the_network_runs_with_32(on_processor, monkeypatch, caplog):
    def broken(graph, threads): raise RuntimeError("this processor is not supported")
    monkeypatch.setattr(runtime, "processor_has_bf16", lambda: True)
    monkeypatch.setattr(runtime, "_openvino", broken)
    monkeypatch.setattr(runtime, "package_version", lambda name: "1")
    np.testing.assert_allclose(compile_network(tiny, PICTURES[:1], **NETWORK, bf16=True)(PICTURES), run_torch(tiny())(PICTURES), atol=1e-5)
    assert "by ONNX Runtime" in caplog.text and "not supported" in caplog.text and "PyTorch" not in caplog.text


@pytest.mark.skipif(not find_spec("openvino"), reason="needs OpenVINO, which is installed on x86-64 alone")
def test_threads_that_begin_together_all_get_an_answer(on_processor):
    "Each in a process of its own, as only the first calls of a process can wait for each other."
    code = """
import numpy as np, torch
from concurrent.futures import ThreadPoolExecutor
from avmatch.runtime import export_graph, open_graph
x = np.ones((6, 3, 8, 8), np.float32)
graph = export_graph(torch.nn.Conv2d(3, 2, 3), x, outputs=["features"])
with ThreadPoolExecutor(4) as pool:
    calls = list(pool.map(lambda i: open_graph(graph, threads=3, bf16=True), range(4)))
    print({call(x)[0].tobytes() for call in pool.map(lambda i: calls[i % 4], range(8))} == {calls[0](x)[0].tobytes()})
"""
    done = [subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60) for _ in range(2)]
    assert [d.stdout.strip() for d in done] == ["True", "True"], done[0].stderr
