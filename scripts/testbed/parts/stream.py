# SPDX-License-Identifier: Apache-2.0
"""One plain TCP stream: a program for each of its ends.

`stream.py receive ADDRESS` and `stream.py send ADDRESS PORT PAUSE_S BYTES...`.
"""
import json
import socket
import struct
import sys
import time

COUNT = struct.Struct("!Q")
MOMENT = struct.Struct("!d")  # of the machine's monotonic clock, which all nodes share
LIMIT_S = 60


def receive_exactly(connection, buffer):
    view = memoryview(buffer)
    while view:
        got = connection.recv_into(view)
        if not got:
            raise EOFError
        view = view[got:]


def receive(address):
    """Takes messages from one sender, and answers each with the moment at which it was complete."""
    listener = socket.create_server((address, 0))
    print(listener.getsockname()[1], flush=True)
    listener.settimeout(LIMIT_S)
    connection, _ = listener.accept()
    connection.settimeout(LIMIT_S)
    head, block = bytearray(COUNT.size), bytearray(1 << 20)
    try:
        while True:
            receive_exactly(connection, head)
            left = COUNT.unpack(head)[0]
            while left:
                part = min(left, len(block))
                receive_exactly(connection, memoryview(block)[:part])
                left -= part
            connection.sendall(MOMENT.pack(time.monotonic()))
    except EOFError:
        pass


def send(address, port, pause_s, sizes):
    """Sends a message of each size after a pause; prints the seconds that each took."""
    connection = socket.create_connection((address, port), timeout=LIMIT_S)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    answer, seconds = bytearray(MOMENT.size), []
    for bytes_ in sizes:
        message = COUNT.pack(bytes_) + bytes(bytes_)
        time.sleep(pause_s)
        begin = time.monotonic()
        connection.sendall(message)
        receive_exactly(connection, answer)
        seconds.append(MOMENT.unpack(answer)[0] - begin)
    print(json.dumps(seconds))


if __name__ == "__main__":
    if sys.argv[1] == "receive":
        receive(sys.argv[2])
    else:
        send(sys.argv[2], int(sys.argv[3]), float(sys.argv[4]), [int(word) for word in sys.argv[5:]])
