"""Linear transforms between the pixel grids of two frames, and their fits to matched positions."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Model = Literal["shift", "similarity", "affine"]


@dataclass(frozen=True)
class Transform:
    """Where pixel ``(x, y)`` of the reference lies in a frame: ``(a x + b y + dx, c x + d y + dy)``.

    Positions count from 0 at the centre of the first pixel.
    """

    dx: float = 0.0
    dy: float = 0.0
    a: float = 1.0
    b: float = 0.0
    c: float = 0.0
    d: float = 1.0

    def __call__(self, points: Floats) -> Floats:
        """Return the frame positions of reference positions, both of shape (n, 2)."""
        x, y = points[:, 0], points[:, 1]
        return np.column_stack([self.a * x + self.b * y + self.dx, self.c * x + self.d * y + self.dy])

    @property
    def area(self) -> float:
        """Area in pixels of the frame that one pixel of the reference covers."""
        return abs(self.a * self.d - self.b * self.c)

    @property
    def is_mirrored(self) -> bool:
        """True where the frame shows the sky as in a mirror: what turns left in the reference turns right in it."""
        return self.a * self.d - self.b * self.c < 0

    @property
    def rotation(self) -> float:
        """Angle in degrees, from the x axis towards the y axis; of a mirrored frame, after x was reversed."""
        a, c = (-self.a, -self.c) if self.is_mirrored else (self.a, self.c)
        return float(np.degrees(np.arctan2(c - self.b, a + self.d)))

    @property
    def scale(self) -> float:
        """Pixels of the frame along what one pixel of the reference is long; the square root of `area`."""
        return float(np.sqrt(self.area))

    def after_flip(self, flip: tuple[int, int]) -> "Transform":
        """Return the transform of positions that are flipped first.

        Parameters
        ----------
        flip : tuple of int
            Factors of x and y, each 1 or -1.

        Returns
        -------
        Transform
            Of positions ``(x, y)``, what this one is of ``(flip[0] x, flip[1] y)``.
        """
        x, y = flip
        return Transform(self.dx, self.dy, self.a * x, self.b * y, self.c * x, self.d * y)

    @property
    def shift(self) -> tuple[int, int] | None:
        """Whole columns and rows, where the transform is a shift by whole pixels; otherwise None."""
        whole = (self.a, self.b, self.c, self.d) == (1, 0, 0, 1)
        if whole and float(self.dx).is_integer() and float(self.dy).is_integer():
            return int(self.dx), int(self.dy)
        return None

    def snapped(self, shape: tuple[int, int], tolerance: float) -> "Transform":
        """Return itself, or a shift by whole pixels that is nearly the same.

        Parameters
        ----------
        shape : tuple of int
            Rows and columns ``(ny, nx)`` of the reference.
        tolerance : float
            How far the shift may be away from the transform anywhere in `shape`, in pixels.

        Returns
        -------
        Transform
            With a shift no pixel need be interpolated.
        """
        # Of linear transforms the largest difference lies in a corner.
        ny, nx = shape
        corners = np.array([[0, 0], [nx - 1, 0], [0, ny - 1], [nx - 1, ny - 1]], dtype=float)
        moved = self(corners) - corners
        dx, dy = np.rint(moved.mean(axis=0))
        near = np.abs(moved - (dx, dy)).max() <= tolerance
        return Transform(float(dx), float(dy)) if near else self


def fit_shift(reference: Floats, frame: Floats) -> Transform:
    """Fit a shift: the median difference of matched positions.

    Parameters
    ----------
    reference, frame : float arrays, shape (n, 2)
        Positions ``(x, y)`` in pixels of the same stars.

    Returns
    -------
    Transform
        Reference pixels to frame pixels.
    """
    dx, dy = np.median(frame - reference, axis=0)
    return Transform(float(dx), float(dy))


def fit_similarity(reference: Floats, frame: Floats) -> Transform:
    """Fit shift, rotation and scale by least squares: in complex numbers, frame = p · reference + q.

    Parameters
    ----------
    reference, frame : float arrays, shape (n, 2)
        Positions ``(x, y)`` in pixels of the same stars.

    Returns
    -------
    Transform
        Reference pixels to frame pixels.
    """
    # z = x + iy. A product with p turns by its argument and scales by its modulus, and cannot mirror.
    z, w = reference @ [1, 1j], frame @ [1, 1j]
    away = z - z.mean()
    spread = float(np.sum(np.abs(away) ** 2))
    p = np.sum(np.conj(away) * (w - w.mean())) / spread if spread > 0 else 1.0
    q = w.mean() - p * z.mean()
    return Transform(
        float(q.real), float(q.imag), float(p.real), float(-p.imag), float(p.imag), float(p.real)
    )


def fit_affine(reference: Floats, frame: Floats) -> Transform:
    """Fit a general linear transform by least squares.

    Parameters
    ----------
    reference, frame : float arrays, shape (n, 2)
        Positions ``(x, y)`` in pixels of the same stars.

    Returns
    -------
    Transform
        Reference pixels to frame pixels.
    """
    design = np.column_stack([reference, np.ones(len(reference))])
    (a, c), (b, d), (dx, dy) = np.linalg.lstsq(design, frame, rcond=None)[0].tolist()
    return Transform(dx, dy, a, b, c, d)


FITS: Mapping[Model, Callable[[Floats, Floats], Transform]] = {
    "shift": fit_shift,
    "similarity": fit_similarity,
    "affine": fit_affine,
}
"""How each model is fitted."""
