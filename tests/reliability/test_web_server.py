"""A real web server that loads a net before it forks its workers, under load from many clients."""

import contextlib
import hashlib
import http.client
import os
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from reliability.scripts import work
from scenarios import LAYERS, environment, needs_fork

pytestmark = needs_fork

N_WORKERS = 2
N_CLIENTS = 4
SECONDS = 60
"""After so long, a request hangs."""


@contextlib.contextmanager
def server(layer, n_threads, log):
    """Run gunicorn on a free port of this machine; give its process and the port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        command = [
            # Python 3.12 and newer say of every fork of a process with threads that it may fail.
            *(sys.executable, "-W", "error", "-W", "ignore:This process:DeprecationWarning"),
            *("-m", "gunicorn", "--preload", "--no-control-socket"),
            *("--workers", str(N_WORKERS), "--threads", str(n_threads)),
            *("--bind", f"fd://{listener.fileno()}", "--timeout", str(SECONDS), "web_app:app"),
        ]
        with open(log, "w") as output:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment(layer),
                pass_fds=[listener.fileno()],
                start_new_session=True,
            )
        try:
            yield process, listener.getsockname()[1]
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def ask(port, row, fit=None):
    """Return the words of an answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=SECONDS)
    try:
        connection.request("GET", f"/?row={row}" + ("" if fit is None else f"&fit={fit}"))
        return connection.getresponse().read().decode().split()
    finally:
        connection.close()


def load(layer, n_threads, n_requests, log):
    """Send requests from several clients to a new server; check each answer."""
    expected = work.shared.predict(work.X, n_threads=1)
    fits = [hashlib.sha256(b"".join(work.fit(k, n_threads=1))).hexdigest() for k in range(3)]

    def client(name):
        workers = set()
        for k in range(name, n_requests, N_CLIENTS):
            row, fit = k % len(expected), k % len(fits) if k % 11 == 0 else None
            worker, master, size, *answer = ask(port, row, fit)
            right = [expected[row].tobytes().hex()] * 2 + ([] if fit is None else [fits[fit]])
            assert answer == right
            assert int(master) == process.pid
            assert int(size) == 2, "the master must have used threads"
            workers.add(worker)
        return workers

    with server(layer, n_threads, log) as (process, port):
        try:
            with ThreadPoolExecutor(N_CLIENTS) as clients:
                workers = set().union(*clients.map(client, range(N_CLIENTS)))
            process.terminate()
            assert process.wait(SECONDS) == 0
        except BaseException:
            print(log.read_text())
            raise
    assert len(workers) == N_WORKERS
    assert log.read_text().count("Booting worker") == N_WORKERS, "one has died"


def test_every_answer_of_a_prefork_server_is_right(tmp_path):
    load("default", 2, 200, tmp_path / "log")


@pytest.mark.slow
@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("n_threads", [1, 4])
def test_every_answer_is_right_on_all_layers_and_under_a_long_load(layer, n_threads, tmp_path):
    load(layer, n_threads, 2000, tmp_path / "log")
