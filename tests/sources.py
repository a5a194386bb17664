"""Sources of live pictures on this machine: servers that stall, die and come back."""

import socketserver
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import av


class Content:
    """What a server has at one path, and what goes wrong with it, once.

    Args:
        data: all of it.
        fault_at: bytes after which something goes wrong with the first request that comes so far.
        stalls: whether the server is silent from then on; else it closes the connection.
        has_length: whether it tells how long it is, and serves parts.
    """

    def __init__(
        self,
        data: bytes,
        *,
        fault_at: int | None = None,
        stalls: bool = False,
        has_length: bool = True,
    ) -> None:
        self.data = data
        self.fault_at = fault_at
        self.stalls = stalls
        self.has_length = has_length
        self.num_requests = 0


@contextmanager
def serve(contents: Mapping[str, Content], *, port: int = 0) -> Iterator[str]:
    """Serve contents by name on the loopback; yields the address that their names go behind."""
    closing = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            content = contents.get(self.path.removeprefix("/"))
            if content is None:
                self.send_error(404)
                return
            content.num_requests += 1
            with suppress(OSError):
                self._send(content)
            self.close_connection = True

        def _send(self, content: Content) -> None:
            first, _, last = self.headers.get("Range", "bytes=0-")[6:].partition("-")
            start = int(first) if content.has_length else 0
            end = int(last) + 1 if last and content.has_length else len(content.data)
            self.send_response(206 if content.has_length else 200)
            self.send_header("Connection", "close")
            if content.has_length:
                whole = len(content.data)
                self.send_header("Content-Length", str(end - start))
                self.send_header("Content-Range", f"bytes {start}-{end - 1}/{whole}")
                self.send_header("Accept-Ranges", "bytes")
            self.end_headers()
            if content.fault_at is not None and start <= content.fault_at < end:
                end, content.fault_at = content.fault_at, None
                self.wfile.write(content.data[start:end])
                self.wfile.flush()
                closing.wait(60 if content.stalls else 0)
                return
            self.wfile.write(content.data[start:end])

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        closing.set()
        server.shutdown()
        thread.join()
        server.server_close()


_SDP = b"""v=0\r
o=- 0 0 IN IP4 127.0.0.1\r
s=numbers\r
t=0 0\r
a=control:*\r
m=video 0 RTP/AVP 96\r
a=rtpmap:96 H264/90000\r
a=fmtp:96 packetization-mode=1\r
a=control:streamid=0\r
"""
_SENDER_REPORT = 200


class _Packets:
    """A file to which a muxer writes one RTP or RTCP packet at a time."""

    def __init__(self) -> None:
        self.packets: list[bytes] = []

    def write(self, content: bytes) -> int:
        self.packets.append(bytes(content))
        return len(content)


def rtp_packets(stream: Path) -> list[bytes]:
    """Return a transport stream of H.264 as RTP and RTCP packets."""
    sink = _Packets()
    options = {"packetsize": "1200", "payload_type": "96"}
    with (
        av.open(str(stream)) as reader,
        av.open(sink, "w", format="rtp", options=options) as writer,
    ):
        copy = writer.add_stream_from_template(reader.streams.video[0])
        for packet in reader.demux(video=0):
            if packet.size:
                packet.stream = copy
                writer.mux(packet)
    return sink.packets


@contextmanager
def serve_rtsp(stream: Path, *, stall_after: int) -> Iterator[str]:
    """Serve a transport stream as a camera does, over TCP; yields its address.

    The first connection falls silent after some packets; the others end with the stream.
    """
    packets = rtp_packets(stream)
    closing = threading.Event()
    connections: list[object] = []

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            with suppress(OSError):
                self._serve()

        def _serve(self) -> None:
            while (request := self.rfile.readline()).strip():
                headers = dict[str, str]()
                while line := self.rfile.readline().strip().decode():
                    name, _, value = line.partition(":")
                    headers[name.lower()] = value.strip()
                method = request.split()[0]
                self._answer(method, headers)
                if method == b"PLAY":
                    self._play()
                    return

        def _answer(self, method: bytes, headers: Mapping[str, str]) -> None:
            lines, body = ["RTSP/1.0 200 OK", f"CSeq: {headers['cseq']}", "Session: 1"], b""
            if method == b"DESCRIBE":
                lines += ["Content-Type: application/sdp", f"Content-Length: {len(_SDP)}"]
                body = _SDP
            if method == b"OPTIONS":
                lines.append("Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN")
            if method == b"SETUP":
                lines.append(f"Transport: {headers['transport']}")
            self.wfile.write("\r\n".join([*lines, "", ""]).encode() + body)

        def _play(self) -> None:
            connections.append(self)
            is_first = len(connections) == 1
            for packet in packets[:stall_after] if is_first else packets:
                channel = int(packet[1] == _SENDER_REPORT)
                self.wfile.write(b"$" + bytes([channel]) + len(packet).to_bytes(2) + packet)
            if is_first:
                closing.wait(60)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield f"rtsp://127.0.0.1:{server.server_address[1]}/numbers"
        finally:
            closing.set()
            server.shutdown()
            thread.join()
