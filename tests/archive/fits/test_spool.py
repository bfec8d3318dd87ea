"""Images that are unpacked as a whole lie on disk: each in its own part, and no longer than they are held."""

import os

import numpy as np

from ccdflow.archive.fits import spool
from ccdflow.archive.fits.spool import Room


def test_rooms_keep_what_was_written_apart_and_are_used_again() -> None:
    rooms = [Room(1000) for _ in range(5)]
    for number, room in enumerate(rooms):
        room.write(0, bytes([number]) * 400)
        room.write(400, np.full(300, number, np.uint16))
    for number, room in enumerate(rooms):
        assert bytes(room.read(0, 400)) == bytes([number]) * 400
        np.testing.assert_array_equal(room.read(400, 600).view(np.uint16), np.full(300, number, np.uint16))
    places = {room._start for room in rooms}
    del rooms[1:4], room
    assert {Room(1000)._start, Room(1000)._start} < places


def test_the_disk_is_free_again_once_nobody_holds_a_room() -> None:
    room = Room(100_000)
    room.write(0, bytes(100_000))
    handle = room._handle
    others = spool._SPOOL[0]._used - 1
    assert os.fstat(handle).st_size >= 100_000
    del room
    assert others or os.fstat(handle).st_size == 0
