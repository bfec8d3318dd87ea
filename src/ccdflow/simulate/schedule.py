"""Work out what is exposed when: the observing programme of a night, as the cameras of its mounts carry it out."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from math import ceil, exp
from typing import Literal

ImageType = Literal["bias", "dark", "flat", "science"]
CloudCover = Literal["first", "all", "none"]


@dataclass(frozen=True)
class Camera:
    """One camera of a mount and the filters in its wheel.

    Parameters
    ----------
    telescope, name, instrument : str
        As its headers name them.
    filters : tuple of str
        Filters of its wheel; it skips sequences in others.
    """

    telescope: str
    name: str
    instrument: str
    filters: tuple[str, ...]

    @property
    def label(self) -> str:
        """Telescope and camera, as folders are named."""
        return f"{self.telescope}-{self.name}"


@dataclass(frozen=True)
class Target:
    """What a mount points at, and the sequences to be taken of it.

    Parameters
    ----------
    name : str
        As the header's ``OBJECT`` names it.
    ra, dec : float
        Degrees, ICRS.
    sequences : tuple of (filter, number of exposures, seconds)
        In the order in which they are taken; a sequence in a filter that a camera lacks is skipped.
    """

    name: str
    ra: float
    dec: float
    sequences: tuple[tuple[str, int, float], ...]


@dataclass(frozen=True)
class Twilight:
    """How the flats of the evening twilight are exposed.

    Parameters
    ----------
    level : float
        Electron per pixel that is aimed at.
    first : float
        Seconds that the first flat of each filter takes: the observer waits until the sky is dark enough.
    decay : float
        Seconds in which the sky fades by a factor e.
    """

    level: float
    first: float
    decay: float


@dataclass(frozen=True)
class Calibrations:
    """Calibration frames of every camera: how many of each kind, and when they begin.

    Parameters
    ----------
    biases, darks : int
        Number of each.
    dark_exptime : float
        Seconds.
    flats : int
        Number for each filter.
    bias_start, dark_start, flat_start : datetime
        UTC.
    twilight : Twilight
        How long flats are exposed.
    """

    biases: int
    darks: int
    dark_exptime: float
    flats: int
    bias_start: datetime
    dark_start: datetime
    flat_start: datetime
    twilight: Twilight


@dataclass(frozen=True)
class Clouds:
    """A moment (UTC) at which clouds stop all exposing, and how long they stay."""

    at: datetime
    duration: timedelta


@dataclass(frozen=True)
class Programme:
    """One night: who observes what, from when on.

    `readout` is the time in seconds from the end of an exposure to the start of the next; changes of filter
    and of target happen within it. Each item of `site` becomes a header card.
    """

    name: str
    cameras: tuple[Camera, ...]
    targets: tuple[Target, ...]
    start: datetime
    readout: float
    calibrations: Calibrations
    clouds: Clouds
    shape: tuple[int, int]
    site: Mapping[str, float | str]


@dataclass(frozen=True)
class Exposure:
    """One frame to be taken.

    `start` is UTC. `target` is None for calibrations. `twilight` is the mean light of a twilight flat in
    electron per pixel, 0 for other frames.
    """

    camera: Camera
    imagetype: ImageType
    filter: str
    exptime: float
    start: datetime
    iobs: int
    nobs: int
    target: Target | None = None
    twilight: float = 0.0

    @property
    def obsdate(self) -> str:
        """Start of the exposure, ISO, UTC."""
        return self.start.isoformat()

    @property
    def object(self) -> str:
        """Name of what is observed."""
        return self.target.name if self.target else self.imagetype

    @property
    def stem(self) -> str:
        """Name of the frame's file without suffix."""
        return f"{self.camera.label}_{self.start:%Y%m%dT%H%M%S}_{self.imagetype}"


def science_exposures(programme: Programme, clouds: CloudCover) -> list[Exposure]:
    """Return every science frame of the night.

    The cameras of a mount work side by side, each through the whole list of targets. When clouds come the
    exposure that is running is finished and read out, but none is begun any more until they are gone; the
    sequence that they cut is then taken again from its first frame, and what was to follow it follows.

    Parameters
    ----------
    programme : Programme
        The night.
    clouds : {"first", "all", "none"}
        Whom the clouds concern: the first camera alone, all of them, or none.

    Returns
    -------
    list of Exposure
        In order of time, telescope and camera.
    """
    exposures: list[Exposure] = []
    for position, camera in enumerate(programme.cameras):
        covered = clouds == "all" or (clouds == "first" and position == 0)
        exposures += _observe(programme, camera, programme.clouds if covered else None)
    return _in_order(exposures)


def _observe(programme: Programme, camera: Camera, clouds: Clouds | None) -> Iterator[Exposure]:
    """Yield the exposures of one camera in order of time; `clouds` cut one sequence at most."""
    moment = programme.start
    for target in programme.targets:
        for name, count, exptime in target.sequences:
            # Nobody waits: a camera that lacks a filter is ahead of the others from then on.
            if name not in camera.filters:
                continue
            template = Exposure(camera, "science", name, exptime, moment, 1, count, target)
            frames = _sequence(template, programme.readout)
            # Only a sequence of which a frame would begin under clouds is cut, and only the first such.
            if clouds is not None and frames[-1].start >= clouds.at:
                yield from (frame for frame in frames if frame.start < clouds.at)
                frames = _sequence(replace(template, start=clouds.at + clouds.duration), programme.readout)
                clouds = None
            yield from frames
            moment = _next(frames[-1], programme.readout)


def _sequence(template: Exposure, readout: float) -> list[Exposure]:
    # From start to start.
    step = timedelta(seconds=template.exptime + readout)
    return [
        replace(template, iobs=number + 1, start=template.start + number * step)
        for number in range(template.nobs)
    ]


def _next(exposure: Exposure, readout: float) -> datetime:
    """Return the first full second at which the next exposure can begin."""
    return exposure.start + timedelta(seconds=ceil(exposure.exptime + readout))


def calibration_exposures(programme: Programme) -> list[Exposure]:
    """Return biases and darks of the afternoon, flats of the evening.

    Parameters
    ----------
    programme : Programme
        The night.

    Returns
    -------
    list of Exposure
        In order of time, telescope and camera.
    """
    wanted = programme.calibrations
    exposures: list[Exposure] = []
    for camera in programme.cameras:
        bias = Exposure(camera, "bias", "", 0.0, wanted.bias_start, 1, wanted.biases)
        dark = Exposure(camera, "dark", "", wanted.dark_exptime, wanted.dark_start, 1, wanted.darks)
        exposures += _sequence(bias, programme.readout)
        exposures += _sequence(dark, programme.readout)
        moment = wanted.flat_start
        for name in camera.filters:
            flats = _twilight_flats(camera, name, moment, programme)
            exposures += flats
            moment = _next(flats[-1], programme.readout)
    return _in_order(exposures)


def _twilight_flats(camera: Camera, name: str, moment: datetime, programme: Programme) -> list[Exposure]:
    """Return flats of one filter, exposed ever longer as the sky fades; times are chosen to half a second."""
    wanted, sky = programme.calibrations, programme.calibrations.twilight
    start, flats = moment, []
    for number in range(wanted.flats):
        # The sky fades exponentially: its light over an exposure is the integral of rate * exp(-t / decay). The
        # exposure time aims at the level with the rate at its beginning, as an observer does, and gets a little less.
        elapsed = (moment - start).total_seconds()
        rate = sky.level / sky.first * exp(-elapsed / sky.decay)
        exptime = max(0.5, round(2 * sky.level / rate) / 2)
        light = rate * sky.decay * (1 - exp(-exptime / sky.decay))
        flats.append(
            Exposure(camera, "flat", name, exptime, moment, number + 1, wanted.flats, twilight=light)
        )
        moment = _next(flats[-1], programme.readout)
    return flats


def _in_order(exposures: Sequence[Exposure]) -> list[Exposure]:
    return sorted(
        exposures, key=lambda exposure: (exposure.start, exposure.camera.telescope, exposure.camera.name)
    )
