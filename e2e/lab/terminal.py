"""A person's terminal on a node's console: what they type goes in, what the guest's root shell says comes out."""

from __future__ import annotations

import os
import select
import socket
import sys
import termios
import tty
from pathlib import Path

from e2e.lab.errors import LabError

LEAVE = b"\x1d"
"""Ctrl-], as in telnet."""


def attach(console: Path) -> None:
    """Join the terminal and the console until Ctrl-], the end of input or the end of the guest."""
    with socket.socket(socket.AF_UNIX) as guest:
        try:
            guest.connect(str(console))
        except OSError as error:
            raise LabError(
                f"the node's console {console} does not answer ({error.strerror}); is the node up?"
            ) from error
        print("root's shell on the node; Ctrl-] leaves it", file=sys.stderr, flush=True)
        keyboard = sys.stdin.fileno()
        before = termios.tcgetattr(keyboard) if os.isatty(keyboard) else None
        try:
            if before:
                tty.setraw(keyboard, termios.TCSADRAIN)  # the usual TCSAFLUSH loses what was typed already
            guest.sendall(b"\n")  # for a prompt
            _copy(keyboard, guest)
        finally:
            if before:
                termios.tcsetattr(keyboard, termios.TCSADRAIN, before)


def _copy(keyboard: int, guest: socket.socket) -> None:
    while True:
        ready, _, _ = select.select([keyboard, guest.fileno()], [], [])
        if guest.fileno() in ready:
            said = guest.recv(65536)
            if not said:
                return
            os.write(sys.stdout.fileno(), said)
        if keyboard in ready:
            typed = os.read(keyboard, 4096)
            wanted, left, _ = typed.partition(LEAVE)
            guest.sendall(wanted)
            if left or not typed:
                return
