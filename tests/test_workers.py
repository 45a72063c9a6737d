"""Workers: what befalls one item, the others do not notice; nothing is left behind, however the parent ends."""
import ctypes
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

import avmatch.workers
from avmatch.config import AvmatchError, MediaError
from avmatch.workers import Workers

REPO = Path(__file__).parent.parent
linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is limited on Linux only")


def square(x): return x * x
def segfault(_): ctypes.string_at(0)
def leave(_): os._exit(4)
def ask_to_leave(_): sys.exit(5)
def kill_itself(_): os.kill(os.getpid(), signal.SIGKILL)
def hang(_): time.sleep(600)
def hang_with_the_lock(_): re.match("(a+)+$", "a" * 60 + "b")   # in C, and nothing else of Python runs meanwhile
def grow(_): return [bytearray(10_000_000) for _ in range(10_000)]
def refuse(_): raise MediaError("odd.mp4: is odd", reason="not_media")
def fail(_): raise OSError(28, "No space left on device")
def big(n): return bytes(n)
def pid(_): return os.getpid()


def chatter(x):
    print("to the standard output", flush=True)
    os.write(1, b"and past Python\n")
    return x


DEADLY = {segfault: "crashed", leave: "crashed", ask_to_leave: "crashed", kill_itself: "out_of_memory",
          hang: "timed_out", hang_with_the_lock: "timed_out"}


def apply(task):
    function, item = task
    return function(item)


def reasons(outcomes): return [o.reason if isinstance(o, MediaError) else o for o in outcomes]


def test_what_befalls_one_item_the_others_do_not_notice():
    tasks, expected = [], []
    for i, (deadly, reason) in enumerate(DEADLY.items()):
        tasks += [(square, i), (deadly, i), (square, -i)]
        expected += [i * i, reason, i * i]
    with Workers(2, timeout=2.0) as workers:
        assert reasons(workers.map(apply, tasks)) == expected
        assert workers.n_started >= len(DEADLY)


@linux
def test_memory_is_bounded_and_the_worker_lives_on():
    with Workers(1, memory_mb=300) as workers:
        first = workers.run(pid, None)
        with pytest.raises(MediaError) as caught: workers.run(grow, None)
        assert caught.value.reason == "out_of_memory"
        assert workers.run(pid, None) == first   # a MemoryError is an answer: the process need not die
        assert workers.run(big, 100_000_000) == bytes(100_000_000)


def test_errors_come_back_as_they_were():
    with Workers(1) as workers:
        with pytest.raises(MediaError, match="odd.mp4: is odd") as caught: workers.run(refuse, None)
        assert caught.value.reason == "not_media"
        with pytest.raises(OSError, match="No space left") as caught: workers.run(fail, None)
        assert caught.value.errno == 28
        assert workers.n_started == 1


def test_another_error_ends_the_iteration():
    with Workers(2) as workers:
        results = workers.map(apply, [(square, 3), (fail, None), *[(square, i) for i in range(100)]])
        assert next(results) == 9
        with pytest.raises(OSError, match="No space left"): next(results)


def test_what_is_printed_does_not_disturb():
    with Workers(1) as workers: assert list(workers.map(chatter, range(5))) == list(range(5))


def test_results_come_in_order_and_items_are_taken_as_needed():
    taken = []
    def items():
        for i in range(300):
            taken.append(i)
            yield i
    with Workers(2) as workers:
        for n, result in enumerate(workers.map(square, items())):
            assert result == n * n
            assert len(taken) <= n + 1 + 2 * workers.n_workers
    assert workers.n_started == 2


def test_workers_are_shared_by_threads():
    found = {}
    with Workers(2) as workers:
        threads = [threading.Thread(target=lambda i=i: found.update({i: workers.run(square, i)})) for i in range(20)]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
        assert workers.n_started <= 2
    assert found == {i: i * i for i in range(20)}


def test_nothing_is_left_when_they_are_closed():
    with Workers(2) as workers:
        pids = {workers.run(pid, None) for _ in range(2)}
        threading.Thread(target=lambda: pytest.raises(MediaError, workers.run, hang, None), daemon=True).start()
        time.sleep(0.5)
    assert not any(psutil.pid_exists(p) for p in pids)
    with pytest.raises(RuntimeError, match="closed"): workers.run(square, 1)


def test_a_worker_that_cannot_start_is_an_error_of_the_run(monkeypatch):
    monkeypatch.setattr(avmatch.workers, "_START", "raise SystemExit(9)")
    with Workers(1) as workers, pytest.raises(AvmatchError, match=r"did not start \(exit code"): list(workers.map(square, [1, 2]))


SCRIPT = """
import time
from avmatch.workers import Workers
workers = Workers(2)
print(workers.run(eval, "__import__('os').getpid()"), flush=True)
try: print(list(workers.map(time.sleep, [600.0] * 9)))
finally: workers.close()
"""


def start_script(tmp_path):
    "A script without a guard that hangs in its workers; and the children that it has by then."
    (tmp_path / "script.py").write_text(SCRIPT)
    parent = subprocess.Popen([sys.executable, tmp_path / "script.py"], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              env=os.environ | {"PYTHONPATH": str(REPO)}, start_new_session=True)
    assert int(parent.stdout.readline())
    time.sleep(1)
    return parent, psutil.Process(parent.pid).children()


def gone(processes):
    "Whether they end within ten seconds."
    return not psutil.wait_procs(processes, timeout=10)[1]


@pytest.mark.skipif(os.name != "posix", reason="signals")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_no_worker_outlives_its_parent(tmp_path, number):
    parent, children = start_script(tmp_path)
    assert len(children) == 2
    os.killpg(parent.pid, number) if number == signal.SIGINT else parent.send_signal(number)   # Ctrl-C reaches all of a terminal
    _, complaints = parent.communicate(timeout=20)
    assert gone(children)
    if number == signal.SIGINT: assert complaints.rstrip().endswith(b"KeyboardInterrupt") and complaints.count(b"Traceback") == 1


def test_from_code_that_is_piped_into_python():
    code = "from avmatch.workers import Workers\nimport math\nprint(Workers(1).run(math.sqrt, 9.0))"
    run = subprocess.run([sys.executable], input=code, text=True, capture_output=True, timeout=60, env=os.environ | {"PYTHONPATH": str(REPO)})
    assert (run.stdout, run.returncode) == ("3.0\n", 0), run.stderr
