"""The reading process: ``python -m workers.video.live.reader``, ordered by a line on its stdin.

It decodes every picture, keeps one at a time, and writes those that are sampled to its stdout (see
:mod:`workers.video.live.wire`). Whatever hangs in here can be killed.
"""

import os
import sys
import threading

from workers.errors import ResourceError, VideoError
from workers.process import limit_memory
from workers.video.live.address import parse_address
from workers.video.live.connection import Connection
from workers.video.live.opening import open_live
from workers.video.live.order import ReadOrder
from workers.video.live.wire import send


def main() -> None:
    """Read what is ordered, and write to what stdout was."""
    order = ReadOrder.from_text(sys.stdin.readline())
    out = os.dup(1)
    os.dup2(2, 1)  # whatever a library prints is no message
    threading.Thread(target=_die_with_parent, daemon=True).start()
    address = parse_address(order.source)
    try:
        if order.max_bytes:
            limit_memory(order.max_bytes)
        with open_live(address, order.pipe) as opened:
            Connection(order, address, opened, out).run()
    except VideoError as error:
        send(out, {"kind": "failed", "text": str(error), "is_final": not address.is_live})
    except ResourceError as error:
        send(out, {"kind": "failed", "text": str(error), "is_final": True})
    except MemoryError:
        text = f"{address.name}: reading it takes more memory than it may"
        send(out, {"kind": "failed", "text": text, "is_final": True})
    except BrokenPipeError:
        pass
    os._exit(0)  # closing a connection may hang as well


def _die_with_parent() -> None:
    """End this process with the one that holds the other end of its stdin."""
    while os.read(0, 4096):
        pass
    os._exit(1)


if __name__ == "__main__":
    main()
