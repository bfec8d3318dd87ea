"""Frames by where their files lie."""

from ccdflow.archive.registry.doors import Registry
from ccdflow.archive.registry.frames.files import NewFrame, add_frame
from ccdflow.archive.registry.frames.places import frames_at, last_paths


def test_frames_lie_at_files_and_below_folders(registry: Registry) -> None:
    names = [
        "/raw/a/1.fits",
        "/raw/a/b/2.fits",
        "/raw/a.fits",
        "/raw/ab/3.fits",
        "/raw/a/%/4.fits",
        "/raw/c/copy.fits",
    ]
    for number, name in enumerate(names):
        digest = "0" if name.endswith("copy.fits") else str(number)
        new = NewFrame(path=name, sha256=digest * 64, size=1, changed_ns=1, obsdate="2026-03-01T20:00:00")
        registry.write(add_frame, new, moves=False)
    assert registry.read(frames_at, ["/raw/a"]) == {1, 2, 5}
    assert registry.read(frames_at, ["/raw/a/"]) == {1, 2, 5}
    assert registry.read(frames_at, ["/raw/a.fits", "/raw/a/b"]) == {2, 3}
    assert registry.read(frames_at, ["/raw/c"]) == {1}  # a copy stands for the frame that holds its content
    assert registry.read(frames_at, ["/raw/a/b/2.fits/x", "/elsewhere", "/ra"]) == set()
    assert registry.read(frames_at, [f"/raw/a/{number}.fits" for number in range(5000)]) == {1}
    assert registry.read(last_paths, 2) == ["/raw/a/%/4.fits", "/raw/ab/3.fits"]
