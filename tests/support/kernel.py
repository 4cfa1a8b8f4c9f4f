"""A single-user server that also runs programs, as a notebook's kernel does."""

import json
import subprocess
import sys

from server import Handler, serve


class Kernel(Handler):
    def do_POST(self):
        program = self.rfile.read(int(self.headers["Content-Length"])).decode()
        ran = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, timeout=60
        )
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps([ran.returncode, ran.stdout, ran.stderr]).encode())


if __name__ == "__main__":
    serve(Kernel)
