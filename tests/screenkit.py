"""A server that answers what it is told to, for commands that ask the desk or the gate; and what it was asked."""

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from typer.testing import CliRunner

from service.cli import app
from service.console import out
from service.keyfiles import load_or_make_keys


@contextmanager
def answering(answer, status=200):
    """Yield the port of a server that gives *answer* to everything, and the list of the paths asked for."""
    paths = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            paths.append(self.path.partition("?")[0])
            body = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server.server_port, paths
        finally:
            server.shutdown()
            thread.join()


def impledger(*words, port, data_dir, columns=80):
    """Run a command whose desk and gate are on *port*, with their keys; an error of ours is its `exception`."""
    load_or_make_keys(data_dir)
    env = {
        "COLUMNS": str(columns),
        "IMPLEDGER_DATA_DIR": str(data_dir),
        "IMPLEDGER_DESK_PORT": str(port),
        "IMPLEDGER_GATE_PORT": str(port),
    }
    return CliRunner(env=env).invoke(app, words)


def printed(table):
    """Return what *table* looks like on the screen."""
    with out.capture() as captured:
        out.print(table)
    return captured.get()
