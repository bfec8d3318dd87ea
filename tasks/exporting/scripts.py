"""The scripts that run a program on what was written for it, with the options that it needs.

They are POSIX shell, work from any folder, name the program under each name that it has, and say in one line where it
is not installed. Names of files hold no blanks and no signs of the shell (`ccdflow.tasks.exporting.writing.stem_of`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

Scripts = Mapping[str, str]
"""Name of a file to its text; ``run.sh`` is the one that is run."""


@dataclass(frozen=True)
class Frame:
    """One product among those that were written.

    Parameters
    ----------
    stem : str
        Name of its files without ending.
    group : str
        Frames of one group may be combined: camera, object, filter, exposure time, unit and shape are the same.
    grid : str
        Frames with equal ones lie on the sky alike, pixel by pixel; blank without coordinates.
    matrix : tuple of float
        Degrees of a step along x and y; empty without coordinates.
    scale : float
        What the data were divided by.
    """

    stem: str
    group: str
    grid: str
    matrix: tuple[float, ...] = ()
    scale: float = 1.0

    def is_shifted_only(self, other: "Frame") -> bool:
        """Tell whether it lies on the sky as another one does but for a shift: neither turned nor scaled."""
        scale = max(map(abs, self.matrix), default=0.0)
        pairs = zip(self.matrix, other.matrix, strict=False)
        return len(self.matrix) == len(other.matrix) and all(abs(a - b) <= TURNED * scale for a, b in pairs)


TURNED = 1e-3
"""Part of a pixel's step from which on frames count as turned or scaled: half a pixel over a thousand."""


def groups_of(frames: Sequence[Frame]) -> dict[str, list[Frame]]:
    """Return the frames that may be combined.

    Parameters
    ----------
    frames : sequence of Frame
        All.

    Returns
    -------
    dict of str to list of Frame
        By group, in the order in which they were given.
    """
    groups: dict[str, list[Frame]] = {}
    for frame in frames:
        groups.setdefault(frame.group, []).append(frame)
    return groups


def _script(what: str, names: Sequence[str], package: str, lines: Sequence[str]) -> str:
    """A script for a program of several names."""
    tried = " || ".join(f"command -v {name}" for name in names)
    begin = [
        "#!/bin/sh",
        f"# {what}. Written by ccdflow export; what each option is for stands in docs/peers.md of ccdflow.",
        "set -e",
        'cd "$(dirname "$0")"',
        f"program=$({tried}) || {{ echo '{names[0]} is not installed: {package}' >&2; exit 127; }}",
    ]
    return "\n".join([*begin, *lines, ""])


def _each(frames: Sequence[Frame], commands: Sequence[str]) -> list[str]:
    """Lines that do the same for each frame: one that fails does not end the others, and is named."""
    return [
        "failed=",
        f"for name in {' '.join(frame.stem for frame in frames)}; do",
        "    {",
        *(f"        {command}" for command in commands),
        '    } || failed="$failed $name"',
        "done",
        '[ -z "$failed" ] || { echo "nothing was made of:$failed" >&2; exit 1; }',
    ]


def _made(names: Sequence[str], program: str) -> list[str]:
    """Lines that say which files a program has not made that ends well whatever happens."""
    return [
        f"for name in {' '.join(names)}; do",
        f'    [ -s "$name" ] || {{ echo "{program} has not made $name" >&2; exit 1; }}',
        "done",
    ]


PARAMETERS = (
    "NUMBER X_IMAGE Y_IMAGE ALPHA_J2000 DELTA_J2000 FLUX_APER FLUXERR_APER FLUX_AUTO FLUXERR_AUTO"
    " FLAGS IMAFLAGS_ISO"
)
"""Columns of source-extractor's catalogue."""
APERTURE = 10
"""Diameter of the aperture of catalogues, pixels."""


def _sextractor(frames: Sequence[Frame]) -> Scripts:
    """A catalogue for each frame: fluxes with errors, and flags."""
    options = (
        f"-c /dev/null -PARAMETERS_NAME ccdflow.param -FILTER N -PHOT_APERTURES {APERTURE} -WEIGHT_TYPE MAP_WEIGHT"
        " -RESCALE_WEIGHTS N -GAIN_KEY NONE -GAIN 0 -SATUR_KEY SATURATE -FLAG_TYPE OR -CATALOG_TYPE ASCII_HEAD"
    )
    command = [
        f'"$program" "$name.fits" {options} \\',
        '    -WEIGHT_IMAGE "$name.weight.fits" -FLAG_IMAGE "$name.flag.fits" -CATALOG_NAME "$name.cat"',
    ]
    loop = _each(frames, command)
    names = ("source-extractor", "sex", "sextractor")
    script = _script("Catalogues by source-extractor", names, "apt install source-extractor", loop)
    return {"run.sh": script, "ccdflow.param": "\n".join([*PARAMETERS.split(), ""])}


def _swarp(frames: Sequence[Frame]) -> Scripts:
    """One image of each group, weighted by the variances."""
    options = (
        "-c /dev/null -WEIGHT_TYPE MAP_WEIGHT -RESCALE_WEIGHTS N -COMBINE_TYPE WEIGHTED -SUBTRACT_BACK N"
        " -FSCALASTRO_TYPE NONE -WRITE_XML N"
    )
    lines = [
        "# EXPTIME of the images that come of it is the sum, while their data are at the level of one frame."
    ]
    for group, members in groups_of(frames).items():
        placed = [frame for frame in members if frame.grid]
        lines += [f"# {frame.stem} has no coordinates" for frame in members if not frame.grid]
        if placed:
            # On one grid nothing needs to be resampled, and not a pixel is lost.
            resample = " -RESAMPLE N" if len({frame.grid for frame in placed}) == 1 else ""
            files = " ".join(f"{frame.stem}.fits" for frame in placed)
            out = f"-IMAGEOUT_NAME coadd_{group}.fits -WEIGHTOUT_NAME coadd_{group}.weight.fits"
            lines.append(f'"$program" {files} {options}{resample} {out}')
    if not any(frame.grid for frame in frames):
        lines.append("echo 'no frame has coordinates (CTYPE1): SWarp has nothing to go by' >&2; exit 1")
    return {"run.sh": _script("Coadds by SWarp", ("SWarp", "swarp"), "apt install swarp", lines)}


def _siril(frames: Sequence[Frame]) -> Scripts:
    """A stack of each sequence, registered on its stars."""
    commands = ["requires 1.0.0", "setext fits", "set32bits"]
    # What an earlier run has made, and what Siril remembers of it.
    lines, told, made = [], [], []
    for group, members in groups_of(frames).items():
        if len(members) == 1:
            told.append(f"echo '{members[0].stem}: one frame alone is not stacked' >&2")
            continue
        # Siril drops the card that says what the data were divided by: so the result's name does.
        out = f"stack_{group}_times{members[0].scale:.0f}"
        commands += [f"register {group}_", f"stack r_{group}_ rej 3 3 -norm=none -out={out}"]
        lines.append(f"rm -f {group}_.seq r_{group}_.seq r_{group}_[0-9]*.fits {out}.fits")
        told.append(f"echo '{out}.fits: its data times {members[0].scale:.0f} are in the unit of the frames'")
        made.append(f"{out}.fits")
    if made:
        lines += ['"$program" -d "$PWD" -s ccdflow.ssf', *_made(made, "Siril"), *told]
    else:
        lines += [*told, "exit 1"]
    script = _script("Stacks by Siril", ("siril-cli", "siril"), "apt install siril", lines)
    return {"run.sh": script, "ccdflow.ssf": "\n".join([*commands, ""])}


def _iraf(frames: Sequence[Frame]) -> Scripts:
    """A mean of each group by imcombine, its masks heeded."""
    commands = ['set imtype = "fits"', "images", "immatch"]
    lists: dict[str, str] = {}
    turned: list[str] = []
    for group, every in groups_of(frames).items():
        members = [frame for frame in every if frame.is_shifted_only(every[0])]
        turned += [frame.stem for frame in every if frame not in members]
        # Whole pixels: IRAF does not resample.
        shifted = ', offsets="wcs"' if len({frame.grid for frame in members}) > 1 else ""
        masked = 'combine="average", masktype="goodvalue", maskvalue=0'
        commands.append(f'imcombine ("@{group}.list", "mean_{group}.fits", {masked}{shifted})')
        lists[f"{group}.list"] = "".join(f"{frame.stem}.fits\n" for frame in members)
    made = [f"mean_{group}.fits" for group in groups_of(frames)]
    lines = [
        *([f"echo 'left out, since they are turned or scaled: {' '.join(turned)}' >&2"] if turned else []),
        "# IRAF writes over nothing, stops without the name of a user, and ends well whatever it has done.",
        f"rm -f {' '.join(made)}",
        'USER="${USER:-iraf}" "$program" -x -f ccdflow.cl < /dev/null',
        *_made(made, "IRAF"),
    ]
    script = _script("Means by IRAF", ("irafcl", "cl"), "apt install iraf", lines)
    return {"run.sh": script, "ccdflow.cl": "\n".join([*commands, "logout", ""]), **lists}


def _gnuastro(frames: Sequence[Frame]) -> Scripts:
    """A catalogue for each frame."""
    # --variance: without it a standard deviation is taken for what it is not (gnuastro 0.19).
    columns = "--ids --x --y --brightness --brightnesserr"
    given = '--instd="$name.fits" --stdhdu=VAR --variance'
    # Of a frame of 512 x 512 pixels with stars there are fewer tiles than the 15 neighbours that it wants by default.
    commands = [
        'astnoisechisel "$name.fits" -hSCI --interpnumngb=5 --output="${name}_detected.fits" &&',
        'astsegment "${name}_detected.fits" --output="${name}_segments.fits" &&',
        f'"$program" "${{name}}_segments.fits" {given} {columns} --output="${{name}}_catalogue.fits"',
    ]
    lines = _each(frames, commands)
    return {"run.sh": _script("Catalogues by gnuastro", ("astmkcatalog",), "apt install gnuastro", lines)}


def _ds9(frames: Sequence[Frame]) -> Scripts:
    """All frames in DS9."""
    lines = [f'exec "$program" -zscale -tile {" ".join(f"{frame.stem}.fits" for frame in frames)}']
    return {"run.sh": _script("Frames in DS9", ("ds9",), "apt install saods9", lines)}


def _aij(frames: Sequence[Frame]) -> Scripts:
    """All frames in AstroImageJ."""
    lines = [f'exec "$program" {" ".join(f"{frame.stem}.fits" for frame in frames)}']
    names = ("AstroImageJ", "astroimagej")
    return {"run.sh": _script("Frames in AstroImageJ", names, "see astroimagej.com", lines)}


_SEP = """\
\"\"\"Fluxes with errors by sep, of data, standard deviation and mask; flag 32: a masked pixel in the aperture.\"\"\"
import sys
import numpy as np, sep
from astropy.io import fits

for name in sys.argv[1:]:
    data, error = (fits.getdata(f"{name}{end}.fits").astype("f4") for end in ("", ".std"))
    mask = fits.getdata(f"{name}.mask.fits") != 0
    data[~np.isfinite(data)] = 0
    # The sky once more without the stars and what is around them, or their wings would be taken for sky.
    sky = sep.Background(data, mask=mask)
    _, light = sep.extract(data - sky.back(), 1.5, err=error, mask=mask, segmentation_map=True)
    for _ in range(4):
        light = np.maximum.reduce([np.roll(light, step, axis) for axis in (0, 1) for step in (-1, 0, 1)])
    free = ~mask & (light == 0)
    data -= sep.Background(data, mask=~free).back()
    # Its level is a mode, which lies below the mean of photons: by a quarter of an electron here and there.
    data -= data[free].mean()
    stars = sep.extract(data, 5.0, err=error, mask=mask)
    flux, fluxerr, flag = sep.sum_circle(data, stars["x"], stars["y"], RADIUS, err=error, mask=mask)
    rows = np.column_stack([stars["x"], stars["y"], flux, fluxerr, flag | stars["flag"]])
    np.savetxt(f"{name}.cat", rows, "%.4f %.4f %.6g %.6g %d", header="x y flux fluxerr flag")
    print(f"{name}: {len(rows)} stars")
"""


def _plain(frames: Sequence[Frame]) -> Scripts:
    """Fluxes with errors by sep, as an example of what the three files are for."""
    wanted = "import astropy, numpy, sep"
    lines = [
        f'"$program" -c "{wanted}" || {{ echo "photometry.py wants: pip install sep astropy" >&2; exit 127; }}',
        f'"$program" photometry.py {" ".join(frame.stem for frame in frames)}',
    ]
    script = _script("Photometry by sep, an example", ("python3",), "pip install sep astropy", lines)
    return {"run.sh": script, "photometry.py": _SEP.replace("RADIUS", f"{APERTURE / 2:g}")}


SCRIPTS: Mapping[str, Callable[[Sequence[Frame]], Scripts]] = {
    "siril": _siril,
    "sextractor": _sextractor,
    "swarp": _swarp,
    "iraf": _iraf,
    "gnuastro": _gnuastro,
    "aij": _aij,
    "ds9": _ds9,
    "plain": _plain,
}
"""Program to what runs it."""
