"""A single-user server that shows its environment and its token files, and runs commands."""

import json
import os
import signal
import subprocess
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit


def files():
    directory = Path(os.environ.get("SPAWNER_TOKENS_DIR", "/nonexistent"))
    if not directory.exists():
        return {}
    found = {".": describe(directory)}
    for path in directory.iterdir():
        if path.name[0] == ".":  # just being written
            continue
        try:
            found[path.name] = describe(path)
        except FileNotFoundError:  # just removed
            pass
    return found


def describe(path):
    stat = path.stat()
    return {
        "contents": path.read_bytes().hex() if path.is_file() else None,
        "uid": stat.st_uid,
        "mode": oct(stat.st_mode & 0o7777),
    }


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path.endswith("/env"):
            # the bytes as they are, since a token need not be what the locale can decode
            answer = {name.decode(): value.hex() for name, value in os.environb.items()}
        elif self.path.endswith("/files"):
            answer = files()
        else:
            answer = {"uid": os.getuid()}
        self.answer(answer)

    def do_POST(self):
        """Run a command in the server's environment, as jupyterlab-git does."""
        arguments = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        done = subprocess.run(arguments, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        self.answer({"code": done.returncode, "out": done.stdout, "error": done.stderr})

    def answer(self, answer):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(answer).encode())

    def log_message(self, *args):
        pass


def serve(handler):
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(
        signal.SIGTERM, lambda *args: os._exit(0)
    )  # as the first process of a container, too
    url = urlsplit(os.environ["JUPYTERHUB_SERVICE_URL"])
    ThreadingHTTPServer((url.hostname, url.port), handler).serve_forever()


if __name__ == "__main__":
    serve(Handler)
