"""What users of other programs do with a frame of ours, each as one number that can be held against a truth.

Programs are started as they are installed, with the options that their manuals show first; packages are called in this
process. `USES` has them all. Each use leaves what it writes in a folder of its own beside the frames.
"""

import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
import tempfile
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from astropy import log, nddata
from astropy.io import fits
from numpy.typing import NDArray

PATIENCE = 120.0
"""Seconds that a program may take for a frame of some hundred pixels."""
RADIUS = 5.0
"""Pixels, of apertures."""
PROGRAMS = {
    "Siril": "siril-cli",
    "source-extractor": "source-extractor",
    "SWarp": "SWarp",
    "gnuastro": "aststatistics",
    "IRAF": "irafcl",
    "ESO-MIDAS": "inmidas",
    "fitsverify": "fitsverify",
}
"""Peer to its program."""
DEBIAN = {"Siril": "siril", "SWarp": "swarp", "IRAF": "iraf", "ESO-MIDAS": "eso-midas"}
"""Peer to its package, where that has another name."""


class NotTaken(Exception):
    """A peer that stops and says why: one line of what it said."""


@dataclass(frozen=True)
class Wanted:
    """Truth about the first frame.

    Parameters
    ----------
    median, variance : float
        Of the data and of their variance, electron and electron squared.
    masked : int
        Pixels that are excluded.
    mean_error : float
        Standard deviation of the mean of all good pixels, electron.
    position : (float, float)
        x and y of a star, pixels from 0.
    sum_error : callable
        From weights of the pixels, shape (ny, nx), to the standard deviation of their weighted sum, electron.
    """

    median: float
    variance: float
    masked: int
    mean_error: float
    position: tuple[float, float]
    sum_error: Callable[[NDArray[np.float64]], float]


@dataclass(frozen=True)
class Use:
    """Something that a user does with a peer, and the number that comes out.

    Parameters
    ----------
    name : str
        The peer, and what is typed.
    run : callable
        From the files of frames and the truth to a number; raises `NotTaken`.
    truth : callable or None
        From the truth to what the number should be; None where it should be what the data alone give.
    """

    name: str
    run: Callable[[Sequence[Path], Wanted], float]
    truth: Callable[[Wanted], float] | None = None

    @property
    def peer(self) -> str:
        """Name of the program or package."""
        return self.name.split()[0].rstrip(":")


def version(peer: str) -> str | None:
    """Version of an installed peer, None if it is not installed."""
    if peer not in PROGRAMS:
        known = importlib.util.find_spec(peer) is not None
        return importlib.metadata.version(peer) if known else None
    if shutil.which(PROGRAMS[peer]) is None:
        return None
    asked = ["dpkg-query", "--showformat", "${Version}", "--show", DEBIAN.get(peer, peer)]
    # Several of them do not know their own version, or open a window to tell it.
    told = (
        subprocess.run(asked, capture_output=True, text=True, check=False) if shutil.which(asked[0]) else None
    )
    return told.stdout.strip() or "?" if told else "?"


def ready(peer: str) -> bool:
    """Return whether a peer can be run here."""
    return version(peer) is not None


# Programs


def _place(files: Sequence[Path]) -> Path:
    return Path(tempfile.mkdtemp(prefix="use-", dir=files[0].parent))


def _ran(argv: Sequence[str | Path], folder: Path) -> str:
    """What a program says; `NotTaken` where its exit code does."""
    home = folder / "home"
    home.mkdir(exist_ok=True)
    # IRAF wants a user's name, and keeps its settings at home, as Siril does: a user's own must not decide here.
    environment = {**os.environ, "HOME": str(home), "USER": "user", "MIDAS_OPTION": "PARALLEL"}
    ran = subprocess.run(
        [str(word) for word in argv],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=PATIENCE,
        check=False,
    )
    told = (ran.stdout + ran.stderr).decode(errors="replace")
    if ran.returncode:
        raise NotTaken(_complaint(told) or f"exit code {ran.returncode}")
    return told


def _complaint(told: str) -> str:
    plain = re.sub(r"\x1b\[[\d;]*[A-Za-z]", "", told)
    lines = [
        line.strip()
        for line in re.split(r"[\r\n]+", plain)
        if re.search(
            "error|cannot|must specify|only has one|dimensions|more than one column|not an image", line, re.I
        )
    ]
    return re.sub(r"\S*/", "", lines[0])[:90].replace("|", "/") if lines else ""


def _median(path: Path, told: str = "") -> float:
    if not path.exists():
        raise NotTaken(_complaint(told) or "nothing written")
    with fits.open(path) as hdus:
        return float(np.median(next(hdu.data for hdu in hdus if hdu.data is not None)))


def _siril(script: str, files: Sequence[Path]) -> tuple[Path, str]:
    place = _place(files)
    for file in files:
        (place / file.name).symlink_to(file)
    (place / "script.ssf").write_text(f"requires 1.0.0\nsetext fits\nset32bits\n{script}\n")
    return place, _ran(["siril-cli", "-d", place, "-s", place / "script.ssf"], place)


def _siril_stack(files: Sequence[Path], _: Wanted) -> float:
    place, told = _siril("convert l -out=process\ncd process\nstack l sum -out=../stack", files)
    if not (place / "stack.fits").exists():
        raise NotTaken(_complaint(told))
    return float(fits.getval(place / "stack.fits", "STACKCNT"))


def _siril_load(files: Sequence[Path], _: Wanted) -> float:
    place, told = _siril(f"load {files[0].name}\nsave saved", files)
    return _median(place / "saved.fits", told)


def _extracted(hdu: str) -> Callable[[Sequence[Path], Wanted], float]:
    def run(files: Sequence[Path], _: Wanted) -> float:
        place = _place(files)
        (place / "columns.param").write_text("NUMBER\n")
        options = [
            "-c",
            "/dev/null",
            "-PARAMETERS_NAME",
            "columns.param",
            "-FILTER",
            "N",
            "-CATALOG_NAME",
            "catalogue",
        ]
        _ran(["source-extractor", f"{files[0]}{hdu}", *options], place)
        rows = (place / "catalogue").read_text().splitlines()
        return sum(not row.startswith("#") for row in rows)

    return run


def _coadded(files: Sequence[Path], _: Wanted) -> float:
    place = _place(files)
    options = [
        "-c",
        "/dev/null",
        "-SUBTRACT_BACK",
        "N",
        "-RESAMPLE",
        "N",
        "-WRITE_XML",
        "N",
        "-NTHREADS",
        "1",
    ]
    # Averaged: the median of a frame, its variance and its mask is the frame's by chance.
    options += ["-COMBINE_TYPE", "AVERAGE"]
    told = _ran(["SWarp", *files, *options, "-IMAGEOUT_NAME", "coadd.fits"], place)
    return _median(place / "coadd.fits", told)


def _gnuastro(*options: str) -> Callable[[Sequence[Path], Wanted], float]:
    def run(files: Sequence[Path], _: Wanted) -> float:
        told = _ran(["aststatistics", *options, "--median", files[0]], _place(files))
        return float(told.split()[-1])

    return run


def _iraf(script: str, files: Sequence[Path]) -> tuple[Path, str]:
    place = _place(files)
    for file in files:
        (place / file.name).symlink_to(file)
    (place / "script.cl").write_text(f'set imtype = "fits"\nimages\nimutil\nimmatch\n{script}\nlogout\n')
    return place, _ran(["irafcl", "-x", "-f", "script.cl"], place)


def _iraf_statistics(hdu: str) -> Callable[[Sequence[Path], Wanted], float]:
    def run(files: Sequence[Path], _: Wanted) -> float:
        told = _iraf(f'imstat ("{files[0].name}{hdu}", fields="midpt", format-)', files)[1]
        numbers = re.findall(r"^\s*(-?\d[\d.eE+-]*)\s*$", told, re.M)
        if not numbers:
            raise NotTaken(_complaint(told))
        return float(numbers[-1])

    return run


def _iraf_combined(files: Sequence[Path], _: Wanted) -> float:
    names = ",".join(path.name for path in files)
    place, told = _iraf(f'imcombine ("{names}", "combined.fits", combine="average")', files)
    return _median(place / "combined.fits", told)


def _midas(files: Sequence[Path], _: Wanted) -> float:
    place = _place(files)
    (place / "frame.fits").symlink_to(files[0])
    typed = "indisk/fits frame.fits first; outdisk/fits first.bdf out.fits; bye"
    told = _ran(["inmidas", "-P", "-j", typed], place)
    return _median(place / "out.fits", told)


def _verified(files: Sequence[Path], _: Wanted) -> float:
    place = _place(files)
    # Its exit code counts what it complains of; the last line says it.
    found = subprocess.run(
        ["fitsverify", str(files[0])], cwd=place, capture_output=True, text=True, check=False
    )
    counts = re.search(r"found (\d+) warning\(s\) and (\d+) error", found.stdout)
    return float(int(counts[1]) + int(counts[2])) if counts else float("nan")


# Packages


def _called(function: Callable[[Path, Wanted], float]) -> Callable[[Sequence[Path], Wanted], float]:
    """A use of a package, whose warnings and notes are told to nobody: here only numbers count."""

    def run(files: Sequence[Path], wanted: Wanted) -> float:
        try:
            log.setLevel("ERROR")
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return function(files[0], wanted)
        except Exception as error:  # packages raise whatever they stumble over
            told = str(error).strip().splitlines()
            raise NotTaken(
                f"{type(error).__name__}: {told[0] if told else ''}"[:50].replace("|", "/")
            ) from None

    return run


def _ccd(path: Path) -> nddata.CCDData:
    ccd = nddata.CCDData.read(path)
    if ccd.uncertainty is None or ccd.mask is None:
        missing = "uncertainty" if ccd.uncertainty is None else "mask"
        raise ValueError(f"CCDData.read finds no {missing}")
    return ccd


def _ccd_variance(path: Path, _: Wanted) -> float:
    return float(np.median(_ccd(path).uncertainty.represent_as(nddata.VarianceUncertainty).array))


def _ccd_masked(path: Path, _: Wanted) -> float:
    return float(_ccd(path).mask.sum())


def _ccd_world(path: Path, _: Wanted) -> float:
    ccd = _ccd(path)
    return float(ccd.wcs is not None and ccd.unit == "electron")


def _ccd_mean(path: Path, _: Wanted) -> float:
    return float(_ccd(path).mean().uncertainty.represent_as(nddata.StdDevUncertainty).array)


def _ccd_sum(path: Path, _: Wanted) -> float:
    ccd = _ccd(path)
    return float(np.median(ccd.add(ccd).uncertainty.represent_as(nddata.VarianceUncertainty).array)) / 2


def _combiner(path: Path, _: Wanted) -> float:
    import ccdproc

    frames = [_ccd(frame) for frame in sorted(path.parent.glob("light_0000?.fits"))]
    return float(ccdproc.Combiner(frames).average_combine().mask.sum())


def _photometry(path: Path, wanted: Wanted) -> float:
    from photutils.aperture import CircularAperture, aperture_photometry

    found = aperture_photometry(_ccd(path), CircularAperture(wanted.position, RADIUS))
    error = (
        float(found["aperture_sum_err"][0].value) if "aperture_sum_err" in found.colnames else float("nan")
    )
    return error / _true_error(wanted)


def _aperture_statistics(path: Path, wanted: Wanted) -> float:
    from photutils.aperture import ApertureStats, CircularAperture

    found = ApertureStats(_ccd(path), CircularAperture(wanted.position, RADIUS)).sum_err
    return float(np.squeeze(getattr(found, "value", found))) / _true_error(wanted)


def _true_error(wanted: Wanted) -> float:
    from photutils.aperture import CircularAperture

    return wanted.sum_error(CircularAperture(wanted.position, RADIUS).to_mask().to_image((256, 256)))


def _sep(path: Path, _: Wanted) -> float:
    import sep

    return float(sep.Background(fits.getdata(path).astype(np.float32)).globalback)


def _reprojected(path: Path, _: Wanted) -> float:
    from reproject import reproject_interp

    header = fits.getheader(path)
    header["NAXIS"], header["NAXIS1"], header["NAXIS2"] = 2, 256, 256
    pixels, _footprint = reproject_interp(str(path), header)
    return float(np.nanmedian(pixels))


def _fitsio(path: Path, _: Wanted) -> float:
    import fitsio

    return float(np.median(fitsio.read(str(path))))


def _one(_: Wanted) -> float:
    return 1.0


def _none(_: Wanted) -> float:
    return 0.0


def _data_median(wanted: Wanted) -> float:
    return wanted.median


def _variance(wanted: Wanted) -> float:
    return wanted.variance


def _masked(wanted: Wanted) -> float:
    return float(wanted.masked)


def _mean_error(wanted: Wanted) -> float:
    return wanted.mean_error


USES: Sequence[Use] = (
    Use("Siril convert, stack: images", _siril_stack),
    Use("Siril load, save: median", _siril_load),
    Use("source-extractor FILE: rows", _extracted("")),
    Use("source-extractor FILE[0]: rows", _extracted("[0]")),
    Use("SWarp FILES: median", _coadded),
    Use("gnuastro aststatistics FILE: median", _gnuastro(), _data_median),
    Use("gnuastro aststatistics -h0 FILE: median", _gnuastro("-h0"), _data_median),
    Use("IRAF imstat FILE: midpt", _iraf_statistics("")),
    Use("IRAF imstat FILE[0]: midpt", _iraf_statistics("[0]")),
    Use("IRAF imcombine FILES: median", _iraf_combined),
    Use("ESO-MIDAS indisk/fits: median", _midas),
    Use("fitsverify: complaints", _verified, _none),
    Use("astropy CCDData.read: variance", _called(_ccd_variance), _variance),
    Use("astropy CCDData.read: masked", _called(_ccd_masked), _masked),
    Use("astropy CCDData.read: WCS and unit", _called(_ccd_world), _one),
    Use("astropy CCDData.mean: error", _called(_ccd_mean), _mean_error),
    Use("astropy CCDData.add: variance", _called(_ccd_sum), _variance),
    Use("ccdproc Combiner: masked", _called(_combiner), _masked),
    Use("photutils aperture_photometry: error / truth", _called(_photometry), _one),
    Use("photutils ApertureStats: error / truth", _called(_aperture_statistics), _one),
    Use("sep: background of fits.getdata", _called(_sep)),
    Use("reproject reproject_interp(FILE): median", _called(_reprojected)),
    Use("fitsio read(FILE): median", _called(_fitsio)),
)
"""All uses, peer by peer."""
