"""A proxy before PostgreSQL that loses connections in the middle of a commit or a read."""

from __future__ import annotations

import contextlib
import random
import re
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

SOCKET = ".s.PGSQL.5432"
#: A read of a table's rows that lie in the catalogue.
INLINED = re.compile(rb"SELECT [^;]*ducklake_inlined_data_\d")


@dataclass
class Proxy:
    """Cuts `left` connections more at the COMMIT of a write, by `chance`: before the server has got
    it, or after the server has done it and before the client knows. `cut` counts both. Cuts `reads`
    connections more at a read of rows inside the catalogue.
    """

    folder: Path
    server: Path
    seed: int = 1
    chance: float = 0.3
    left: int = 0
    reads: int = 0
    cut: dict[str, int] = field(default_factory=lambda: {"before": 0, "after": 0})
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self._dice = random.Random(self.seed)

    def fate(self) -> str | None:
        """What becomes of this COMMIT."""
        with self._lock:
            if self.left <= 0 or self._dice.random() >= self.chance:
                return None
            self.left -= 1
            how = min(self.cut, key=lambda name: self.cut[name])  # both in turn
            self.cut[how] += 1
            return how

    def refuses(self, data: bytes) -> bool:
        """Whether this is a read that gets no answer."""
        with self._lock:
            if self.reads <= 0 or not INLINED.search(data):
                return False
            self.reads -= 1
            return True

    def serve(self, client: socket.socket) -> None:
        """One connection, to its end."""
        with client, socket.socket(socket.AF_UNIX) as server:
            server.connect(str(self.server / SOCKET))
            lost = threading.Event()

            def back() -> None:
                with contextlib.suppress(OSError):
                    while data := server.recv(65536):
                        if lost.is_set():
                            break  # the server has answered: it has committed
                        client.sendall(data)
                for end in (client, server):
                    with contextlib.suppress(OSError):
                        end.shutdown(socket.SHUT_RDWR)

            answers = threading.Thread(target=back, daemon=True)
            answers.start()
            writes = False
            with contextlib.suppress(OSError):
                while data := client.recv(65536):
                    # A read ends with COMMIT, too, and nothing is lost with it.
                    writes = writes or b"ducklake_snapshot VALUES" in data
                    how = None
                    if b"COMMIT" in data:
                        how, writes = self.fate() if writes else None, False
                    if how == "before" or self.refuses(data):
                        break
                    if how == "after":
                        lost.set()
                    server.sendall(data)
            with contextlib.suppress(OSError):
                server.shutdown(socket.SHUT_RDWR)
            answers.join()


@contextlib.contextmanager
def proxy(folder: Path, server: Path, seed: int = 1) -> Iterator[Proxy]:
    """A proxy whose socket is in `folder`, before the server whose socket is in `server`."""
    folder.mkdir()
    made = Proxy(folder, server, seed)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / SOCKET))
        listener.listen()

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    client, _ = listener.accept()
                    threading.Thread(target=made.serve, args=(client,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield made
        listener.shutdown(socket.SHUT_RDWR)
