"""The vector index against a plain dictionary, under any order of changes; and versions that are replaced while others read."""
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avmatch.config import ArtifactError
from avmatch.nearest import unit_vectors
from avmatch.vector_index import VectorIndex, publish

DIM, NAMES = 4, [f"t{i}" for i in range(12)]
numbers = st.integers(-3, 3).map(float)
vectors = st.lists(numbers, min_size=DIM, max_size=DIM)
steps = st.lists(st.tuples(st.sampled_from(["upsert", "add", "remove"]), st.dictionaries(st.sampled_from(NAMES), vectors, max_size=5)), max_size=12)


def apply(index: VectorIndex, known: dict, step: str, pairs: dict) -> None:
    "Change the index and the dictionary in the same way."
    if step == "remove":
        assert index.remove(pairs) == [i for i in pairs if i in known]
        for i in pairs: known.pop(i, None)
        return
    ids, rows = list(pairs), np.array(list(pairs.values()), np.float32).reshape(len(pairs), DIM)
    if step == "add" and set(ids) & set(known):
        with pytest.raises(ValueError, match="more than once"): index.add(ids, rows)
        return
    getattr(index, step)(ids, rows)
    for i in ids: known.pop(i, None)
    if ids: known.update(zip(ids, unit_vectors(rows)))


def brute(known: dict, query: list[float]) -> dict[str, float]:
    "The cosine of each vector with a query."
    return {i: float(unit_vectors(query)[0] @ row) for i, row in known.items()}


def check(index: VectorIndex, known: dict, query: list[float], k: int, allowed: set[str] | None, atol: float = 1e-5) -> None:
    "The index answers as the dictionary does."
    cosines = {i: c for i, c in brute(known, query).items() if allowed is None or i in allowed}
    ids, scores = index.search(np.array(query), k, filter=allowed)
    assert len(ids[0]) == len(set(ids[0])) == min(k, len(cosines)) and set(ids[0]) <= set(cosines)
    np.testing.assert_allclose(scores[0], sorted(cosines.values(), reverse=True)[:k], atol=atol)
    np.testing.assert_allclose([cosines[i] for i in ids[0]], scores[0], atol=atol)


@settings(max_examples=150, deadline=None)
@given(steps, vectors, st.integers(1, 15), st.none() | st.sets(st.sampled_from([*NAMES, "never there"])))
def test_it_answers_as_a_dictionary_does(changes, query, k, allowed):
    index, known = VectorIndex(DIM), {}
    for step, pairs in changes: apply(index, known, step, pairs)
    assert index.ids == list(known) and len(index) == len(known) == index.stats()["count"]
    check(index, known, query, k, allowed)
    if known: np.testing.assert_allclose(index.take(list(known)), list(known.values()), atol=1e-6)


@settings(max_examples=30, deadline=None)
@given(steps, vectors, st.integers(1, 15), st.none() | st.sets(st.sampled_from(NAMES)))
def test_lists_that_are_all_searched_answer_as_a_dictionary_does(changes, query, k, allowed):
    "The other engine, among many that point away; 16 bits keep three digits."
    index, known = VectorIndex(DIM, exact_up_to=100), {}
    apply(index, known, "add", {f"far {i}": row for i, row in enumerate(np.random.default_rng(0).standard_normal((150, DIM)).tolist())})
    for step, pairs in changes: apply(index, known, step, pairs)
    assert index.stats()["engine"] == "lists"
    index.engine.faiss.nprobe = index.engine.faiss.nlist
    check(index, known, query, k, allowed, atol=3e-3)


@settings(max_examples=40, deadline=None)
@given(changes=steps, query=vectors)
def test_it_comes_back_from_the_disk(changes, query, tmp_path_factory):
    index, known, folder = VectorIndex(DIM, model="m"), {}, tmp_path_factory.mktemp("index")
    for step, pairs in changes: apply(index, known, step, pairs)
    index.save(folder)
    again = VectorIndex.load(folder, model="m")
    assert again.ids == index.ids
    check(again, known, query, 5, None)
    apply(again, known, "upsert", {"t0": [1.0, 0, 0, 0], "t11": [0, 1.0, 0, 0]})
    check(again, known, query, 5, None)


@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "gone"])
@pytest.mark.parametrize("name", ["vectors.faiss", "index.json"])
def test_a_damaged_file_is_refused_with_the_remedy(tmp_path, name, damage):
    index = VectorIndex(DIM)
    index.add(NAMES, np.eye(12, DIM))
    path = index.save(tmp_path) / name
    whole = path.read_bytes()
    harmed = {"cut": whole[:-5], "flip": whole[:50] + bytes([whole[50] ^ 1]) + whole[51:], "empty": b""}
    if damage == "gone": path.unlink()
    else: path.write_bytes(harmed[damage])
    with pytest.raises(ArtifactError, match="`avmatch run --from recommend` builds it again"): VectorIndex.load(tmp_path)


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"version": 3, "files": {}}', '{"version": "v0001", "files": {"vectors.faiss": null}}'])
def test_a_damaged_pointer_is_refused(tmp_path, content):
    VectorIndex(DIM).save(tmp_path)
    (tmp_path / "current").write_text(content)
    with pytest.raises(ArtifactError, match="avmatch run --from recommend"): VectorIndex.load(tmp_path)


def test_a_pointer_leads_nowhere_else(tmp_path):
    publish(tmp_path / "secret", {"vectors.faiss": b"", "index.json": b"{}"})
    VectorIndex(DIM).save(tmp_path / "index")
    (tmp_path / "index/current").write_text('{"version": "../secret/v0001", "files": {}}')
    with pytest.raises(ArtifactError): VectorIndex.load(tmp_path / "index")


def test_readers_see_whole_versions_while_they_are_replaced(tmp_path):
    "Every version holds as many vectors as its first id says; a reader keeps the one it has opened."
    def version(n: int) -> VectorIndex:
        index = VectorIndex(DIM)
        index.add([f"{n}-{i}" for i in range(n)], np.ones((n, DIM)))
        return index
    version(1).save(tmp_path)
    kept, wrong, done = VectorIndex.load(tmp_path), [], threading.Event()

    def read():
        while not done.is_set():
            index = VectorIndex.load(tmp_path)
            if index.ids[0] != f"{len(index)}-0" or kept.search(np.ones(DIM), 1)[0] != [["1-0"]]: wrong.append(index.ids)
    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers: reader.start()
    for n in range(2, 30): version(n).save(tmp_path)
    assert all(reader.is_alive() for reader in readers)
    done.set()
    for reader in readers: reader.join()
    assert wrong == [] and len(VectorIndex.load(tmp_path)) == 29
    assert sorted(p.name for p in tmp_path.iterdir()) == ["current", "v0028", "v0029"]
