"""`taxlt` and `mergekit-yaml` for scripts and notebooks, by `hosts.forked`."""

import contextlib
import json
import socketserver
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

from tests.helpers.hosts import forked

# Says what was typed where, and prints and ends as the command did. Isolated: it starts in milliseconds.
SHIM = """#!{python} -IS
import json, os, socket, sys
with socket.socket(socket.AF_UNIX) as wire:
    wire.connect({socket!r})
    typed = [os.path.basename(sys.argv[0]), sys.argv[1:], os.getcwd(), dict(os.environ)]
    wire.sendall(json.dumps(typed).encode() + b"\\n")
    code, out, err = json.loads(wire.makefile().readline())
sys.stdout.write(out)
sys.stderr.write(err)
sys.exit(code)
"""


class _Handler(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        program, arguments, folder, environment = json.loads(self.rfile.readline())
        done = forked(program, *arguments, cwd=Path(folder), **environment)
        self.wfile.write(json.dumps([done.code, done.stdout, done.stderr]).encode() + b"\n")


@contextlib.contextmanager
def commands_in(folder: Path) -> Iterator[Path]:
    """Put both commands into a folder for PATH; they answer for as long as the block runs."""
    with tempfile.TemporaryDirectory() as short:  # a socket's path has a hundred characters at most
        socket = f"{short}/socket"
        folder.mkdir()
        for name in ("taxlt", "mergekit-yaml"):
            (folder / name).write_text(SHIM.format(python=sys.executable, socket=socket), encoding="utf-8")
            (folder / name).chmod(0o755)
        with socketserver.ThreadingUnixStreamServer(socket, _Handler) as server:
            thread = threading.Thread(target=server.serve_forever)
            thread.start()
            try:
                yield folder
            finally:
                server.shutdown()
                thread.join()
