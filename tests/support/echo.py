"""What JupyterHub's mock of a server answers, from a server that does not import JupyterHub."""

import json
import os
from http.server import BaseHTTPRequestHandler

from .server import serve


class Echo(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        answer = json.dumps(dict(os.environ)) if self.path.endswith("/env") else self.path
        self.wfile.write(answer.encode())


if __name__ == "__main__":
    serve(Echo)
