"""What is measured on raw frames is what was put in."""

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.wcs import WCS

from ccdflow.recipes.detector.amplifiers import Section
from ccdflow.simulate.camera import ADC_LIMIT, FULL_WELL, CameraTruth, bleed
from ccdflow.simulate.frames import FrameTruth, camera_truth, incident_light, simulate_frame
from ccdflow.simulate.headers import fits_section, raw_header
from ccdflow.simulate.nights import GOTO, SMALL
from ccdflow.simulate.schedule import Exposure, calibration_exposures, science_exposures
from ccdflow.simulate.sky import Stars, add_stars, star_field
from ccdflow.simulate.truth import load_camera, load_frame, save_camera, save_frame

SEED = 11
SHAPE = (320, 400)


@pytest.fixture(scope="module")
def camera() -> CameraTruth:
    return camera_truth(SEED, SMALL.cameras[0], SHAPE)


def _frames(
    camera: CameraTruth, imagetype: str, name: str = ""
) -> list[tuple[Exposure, np.ndarray, FrameTruth]]:
    exposures = calibration_exposures(SMALL) + science_exposures(SMALL, "none")
    chosen = [
        exposure
        for exposure in exposures
        if exposure.camera == SMALL.cameras[0] and exposure.imagetype == imagetype and exposure.filter == name
    ]
    return [(exposure, *simulate_frame(SEED, camera, exposure)) for exposure in chosen]


@pytest.fixture(scope="module")
def biases(camera):
    return _frames(camera, "bias")


@pytest.fixture(scope="module")
def flats(camera):
    return _frames(camera, "flat", "L")


@pytest.fixture(scope="module")
def lights(camera):
    return _frames(camera, "science", "L")[:4]


def _part(raw: np.ndarray, section: Section) -> np.ndarray:
    return raw[section.y0 : section.y1, section.x0 : section.x1].astype(float)


def _electrons(camera: CameraTruth, raw: np.ndarray) -> np.ndarray:
    """Electrons of the assembled image, by overscan and true bias structure and gain."""
    image = np.empty(camera.shape)
    for amplifier in camera.amplifiers:
        target = amplifier.target
        structure = _part(camera.structure, target)
        level = _part(raw, amplifier.overscan).mean()
        image[target.y0 : target.y1, target.x0 : target.x1] = (
            _part(raw, amplifier.data) - level - structure
        ) * amplifier.gain
    return image


def _variance(camera: CameraTruth) -> np.ndarray:
    """Read noise and rounding of each pixel of the assembled image, electron squared."""
    variance = np.empty(camera.shape)
    for amplifier in camera.amplifiers:
        variance[:, amplifier.target.x0 : amplifier.target.x1] = (
            amplifier.read_noise**2 + amplifier.gain**2 / 12
        )
    return variance


def _clean(camera: CameraTruth, raw: np.ndarray, truth: FrameTruth) -> np.ndarray:
    """Where nothing but light, dark current and noise stands: no bad pixel, cosmic ray, saturated column."""
    good = ~camera.bad
    good[truth.cosmic_rays.y, truth.cosmic_rays.x] = False
    for amplifier in camera.amplifiers:
        saturated = (_part(raw, amplifier.data) >= ADC_LIMIT).any(axis=0)
        good[:, amplifier.target.x0 : amplifier.target.x1][:, saturated] = False
    return good


def test_overscan_gives_level_drift_and_read_noise(camera, biases):
    for number, amplifier in enumerate(camera.amplifiers):
        parts = [_part(raw, amplifier.overscan) - truth.offsets[number] for _, raw, truth in biases]
        noise = np.hypot(amplifier.read_noise / amplifier.gain, 12**-0.5)
        assert np.mean(parts) == pytest.approx(amplifier.level, abs=5 * noise / np.sqrt(np.size(parts)))
        assert np.std(parts) == pytest.approx(noise, rel=0.01)


def test_levels_drift_from_frame_to_frame(biases):
    offsets = np.array([truth.offsets for _, _, truth in biases])
    assert np.all(np.std(offsets, axis=0) > 0.2)


def test_biases_hold_the_bias_structure_and_read_noise_only(camera, biases):
    pulls = np.array([_electrons(camera, raw) for _, raw, _ in biases]) / np.sqrt(_variance(camera))
    assert pulls.mean() == pytest.approx(0.0, abs=0.02)
    assert pulls.std() == pytest.approx(1.0, abs=0.01)


def test_bias_structure_is_there_to_be_subtracted(camera, biases):
    left = camera.amplifiers[0]
    mean = np.mean([_part(raw, left.data) for _, raw, _ in biases], axis=0)
    structure = _part(camera.structure, left.target)
    assert np.corrcoef(mean.mean(axis=0), structure.mean(axis=0))[0, 1] > 0.99
    assert np.corrcoef(mean.mean(axis=1), structure.mean(axis=1))[0, 1] > 0.95


def test_pairs_of_flats_give_the_gain(camera, flats):
    for number, amplifier in enumerate(camera.amplifiers):
        noise = (amplifier.read_noise / amplifier.gain) ** 2 + 1 / 12
        gains = []
        for (_, first, a), (_, second, b) in combinations(flats, 2):
            good = _clean(camera, first, a) & _clean(camera, second, b) & ~camera.hot
            own = good[:, amplifier.target.x0 : amplifier.target.x1]
            x = _part(first, amplifier.data)[own] - amplifier.level - a.offsets[number]
            y = _part(second, amplifier.data)[own] - amplifier.level - b.offsets[number]
            ratio = x.mean() / y.mean()
            # var(x - r y) = (1 + r) mean(x) / gain + (1 + r²) noise, with r y at the level of x
            photon = np.var(x - ratio * y) - (1 + ratio**2) * noise
            gains.append((1 + ratio) * x.mean() / photon)
        assert np.mean(gains) == pytest.approx(amplifier.gain, rel=0.015)


def test_darks_hold_the_dark_current_with_its_hot_pixels(camera):
    frames = _frames(camera, "dark")
    pulls = []
    for exposure, raw, truth in frames:
        good = _clean(camera, raw, truth)
        expected = camera.dark * exposure.exptime
        pull = (_electrons(camera, raw) - expected) / np.sqrt(_variance(camera) + expected)
        pulls.append(pull[good])
        assert pull[good & camera.hot].mean() == pytest.approx(0.0, abs=0.3)
    joined = np.concatenate(pulls)
    assert joined.mean() == pytest.approx(0.0, abs=0.02)
    assert joined.std() == pytest.approx(1.0, abs=0.02)
    assert np.median(camera.dark[camera.hot]) > 20 * np.median(camera.dark[~camera.hot & ~camera.bad])


def test_flats_show_the_response_under_the_gradient_of_the_twilight(camera, flats):
    for exposure, raw, truth in flats:
        expected = incident_light(truth, SHAPE) * camera.response["L"] + camera.dark * exposure.exptime
        good = _clean(camera, raw, truth)
        pull = ((_electrons(camera, raw) - expected) / np.sqrt(_variance(camera) + expected))[good]
        assert pull.mean() == pytest.approx(0.0, abs=0.04)
        assert pull.std() == pytest.approx(1.0, abs=0.02)
        top, bottom = incident_light(truth, SHAPE)[[-1, 0]].mean(axis=1)
        assert top / bottom == pytest.approx(1.006, abs=1e-4)


def test_response_has_vignetting_dust_and_a_mean_of_one_over_good_pixels(camera):
    response = camera.response["L"]
    ny, nx = SHAPE
    corner, centre = response[:40, :40], response[ny // 2 - 20 : ny // 2 + 20, nx // 2 - 20 : nx // 2 + 20]
    assert response[~camera.bad].mean() == pytest.approx(1.0, abs=1e-12)
    assert np.median(corner) / np.median(centre) == pytest.approx(0.88, abs=0.05)
    assert np.all(response[camera.bad] == 0)


def test_science_frames_are_light_times_response_plus_dark_within_their_noise(camera, lights):
    pulls = []
    for exposure, raw, truth in lights:
        expected = incident_light(truth, SHAPE) * camera.response["L"] + camera.dark * exposure.exptime
        pull = (_electrons(camera, raw) - expected) / np.sqrt(_variance(camera) + expected)
        pulls.append(pull[_clean(camera, raw, truth)])
    joined = np.concatenate(pulls)
    assert joined.mean() == pytest.approx(0.0, abs=0.02)
    assert joined.std() == pytest.approx(1.0, abs=0.02)


def test_stars_stand_at_their_true_places_with_their_true_light(camera, lights):
    offsets, ratios = [], []
    for _, raw, truth in lights:
        image = (
            _electrons(camera, raw) / np.where(camera.bad, np.nan, camera.response["L"])
            - truth.sky.background
        )
        image[camera.hot] = np.nan
        image[truth.cosmic_rays.y, truth.cosmic_rays.x] = np.nan
        for x, y, light in _lonely(truth.stars):
            row, column = round(y), round(x)
            stamp = image[row - 6 : row + 7, column - 6 : column + 7]
            if np.isnan(stamp).any():
                continue
            dy, dx = np.indices(stamp.shape) - 6.0
            offsets.append(
                ((dx * stamp).sum() / stamp.sum() + column - x, (dy * stamp).sum() / stamp.sum() + row - y)
            )
            ratios.append(stamp.sum() / light)
    assert len(ratios) >= 8
    assert np.abs(offsets).max() < 0.15
    assert np.abs(np.mean(offsets, axis=0)).max() < 0.05
    # The wings beyond 6.5 pixels hold 1.3 to 1.8 % of the light; stars below 1 % may add to it.
    assert np.mean(ratios) == pytest.approx(0.985, abs=0.015)


def _lonely(stars: Stars) -> list[tuple[float, float, float]]:
    """Bright unsaturated stars that have no other near that matters."""
    sources = []
    for x, y, light in zip(stars.x, stars.y, stars.electrons, strict=True):
        distance = np.hypot(stars.x - x, stars.y - y)
        near = stars.electrons[(distance < 16) & (distance > 0)].sum()
        far = stars.electrons[distance >= 16] / distance[distance >= 16] ** 2
        inside = 8 < x < SHAPE[1] - 9 and 8 < y < SHAPE[0] - 9
        if inside and 3e4 < light < 4e5 and near < 0.01 * light and far.max() < 0.01 * light:
            sources.append((float(x), float(y), float(light)))
    return sources


def test_exposures_of_a_sequence_are_dithered_and_their_stars_shift_alike(lights):
    (_, _, first), (_, _, second), *_ = lights
    shift = np.subtract(second.sky.shift, first.sky.shift)
    assert 0.2 < np.abs(shift).max() <= 8
    np.testing.assert_allclose(second.stars.y - first.stars.y, shift[0], atol=1e-9)
    np.testing.assert_allclose(second.stars.x - first.stars.x, shift[1], atol=1e-9)


def test_cameras_of_a_mount_share_pointing_and_weather_but_not_stars():
    exposures = [
        exposure
        for exposure in science_exposures(SMALL, "none")
        if exposure.object == "Nebula" and exposure.iobs == 1
    ]
    start = {exposure.camera.name: exposure for exposure in exposures}
    same = replace(start["CAM2"], start=start["CAM1"].start)
    (_, first), (_, second) = (
        simulate_frame(SEED, camera_truth(SEED, exposure.camera, (64, 64)), exposure)
        for exposure in (start["CAM1"], same)
    )
    assert first.sky == second.sky
    assert not np.array_equal(first.stars.x, second.stars.x)


def test_cosmic_rays_stand_where_the_truth_says(camera):
    residuals = []
    for exposure, raw, truth in _frames(camera, "dark"):
        hits = truth.cosmic_rays
        seen = ~camera.bad[hits.y, hits.x]
        above = (_electrons(camera, raw) - camera.dark * exposure.exptime)[hits.y, hits.x]
        residuals += ((above - hits.electrons) / hits.electrons)[seen].tolist()
    assert len(residuals) > 10
    assert np.median(np.abs(residuals)) < 0.05


def test_bad_columns_give_nothing_but_bias(camera, flats):
    assert 0 < camera.bad.mean() < 0.02
    for _, raw, _ in flats:
        dead = _electrons(camera, raw)[camera.bad]
        assert dead.mean() == pytest.approx(0.0, abs=0.8)
        assert np.abs(dead).max() < 6 * 8


def test_a_full_well_is_always_beyond_the_converter():
    for seed in range(20):
        for amplifier in camera_truth(seed, SMALL.cameras[0], (64, 64)).amplifiers:
            assert FULL_WELL / amplifier.gain + amplifier.level > ADC_LIMIT + 100


def test_bright_stars_saturate_at_the_limit_of_the_converter(lights):
    saturated = [(raw >= ADC_LIMIT).sum() for _, raw, _ in lights]
    assert sum(saturated) > 0
    assert max(raw.max() for _, raw, _ in lights) == ADC_LIMIT


def test_charge_above_the_full_well_flows_along_its_column_and_is_kept():
    electrons = np.full((41, 3), 100.0)
    electrons[20, 1] = 5 * FULL_WELL
    result = bleed(electrons)
    assert result.sum() == pytest.approx(electrons.sum())
    assert result.max() == FULL_WELL
    assert np.array_equal(result[:, [0, 2]], electrons[:, [0, 2]])
    assert np.array_equal(result, result[::-1])
    assert (result[:, 1] == FULL_WELL).sum() == 5


def test_bleeding_leaves_unsaturated_frames_alone():
    electrons = np.random.default_rng(1).uniform(0, FULL_WELL, (20, 30))
    assert np.array_equal(bleed(electrons), electrons)


def test_star_profile_is_the_integral_over_each_pixel():
    image, fine = np.zeros((33, 33)), np.zeros((33 * 15, 33 * 15))
    star = Stars(np.array([16.3]), np.array([15.8]), np.array([1e6]))
    add_stars(image, star, 2.2)
    # The same star on a grid 15 times finer, summed: an integration that shares nothing but the profile.
    scaled = Stars((star.x + 0.5) * 15 - 0.5, (star.y + 0.5) * 15 - 0.5, star.electrons)
    add_stars(fine, scaled, 2.2 * 15)
    summed = fine.reshape(33, 15, 33, 15).sum(axis=(1, 3))
    np.testing.assert_allclose(image, summed, atol=5e-4 * image.max())


def test_a_star_keeps_its_light():
    image = np.zeros((201, 201))
    add_stars(image, Stars(np.array([100.2]), np.array([99.6]), np.array([1e6])), 2.6)
    assert image.sum() == pytest.approx(1e6, rel=2e-3)


def test_there_are_many_more_faint_stars_than_bright_ones():
    magnitude = star_field(np.random.default_rng(2), (2000, 2000)).magnitude
    ratio = (magnitude < 17).sum() / (magnitude < 16).sum()
    assert ratio == pytest.approx(10**0.3, rel=0.1)
    assert magnitude.min() > 10.4
    assert magnitude.max() < 18.6


def _header(camera, frame):
    exposure, _, truth = frame
    return raw_header(SMALL, SEED, exposure, camera, truth)


def test_header_sections_cover_the_raw_array_once_and_rebuild_the_image(camera, lights):
    header, raw = _header(camera, lights[0]), lights[0][1]
    covered = np.zeros(raw.shape, dtype=int)
    image = np.full(SHAPE, np.nan)
    for name, amplifier in zip(header["AMPLIST"].split(), camera.amplifiers, strict=True):
        data, overscan, target, trim, all_pixels = (
            Section.parse(header[f"{kind}SEC{name}"]) for kind in ("D", "B", "C", "T", "A")
        )
        assert (data, overscan, target, trim) == (
            amplifier.data,
            amplifier.overscan,
            amplifier.target,
            amplifier.data,
        )
        for section in (data, overscan):
            covered[section.y0 : section.y1, section.x0 : section.x1] += 1
        assert (all_pixels.x1 - all_pixels.x0) == data.shape[1] + overscan.shape[1]
        level = _part(raw, overscan).mean()
        image[target.y0 : target.y1, target.x0 : target.x1] = (_part(raw, data) - level) * header[
            f"GTGAIN{name}"
        ]
        assert header[f"GTRON{name}"] == amplifier.read_noise
    assert np.all(covered == 1)
    seam = np.median(image[:, 200]) / np.median(image[:, 199])
    assert seam == pytest.approx(1.0, abs=0.05)


def test_a_section_is_written_as_it_is_parsed():
    assert fits_section(Section.parse("[33:64,2:512]")) == "[33:64,2:512]"


def test_the_world_coordinates_put_the_target_where_the_field_has_shifted(camera, lights):
    for frame in lights:
        exposure, _, truth = frame
        x, y = WCS(_header(camera, frame)).world_to_pixel(
            SkyCoord(exposure.target.ra, exposure.target.dec, unit="deg")
        )
        dy, dx = truth.sky.shift
        assert (float(x), float(y)) == pytest.approx(
            ((SHAPE[1] - 1) / 2 + dx, (SHAPE[0] - 1) / 2 + dy), abs=1e-3
        )


@pytest.mark.parametrize("night", [SMALL, GOTO], ids=["small", "goto"])
def test_targets_are_observed_above_the_horizon(night, camera, lights):
    for exposure in science_exposures(night, "first"):
        header = raw_header(night, SEED, exposure, camera, lights[0][2])
        assert 1.0 <= header["AIRMASS"] < 3.0


def test_calibrations_have_no_pointing(camera, biases):
    header = _header(camera, biases[0])
    assert not {"RA", "DEC", "AIRMASS", "CRVAL1", "FILTER"} & set(header)


def test_the_truth_of_a_camera_comes_back_from_its_file(camera, tmp_path):
    save_camera(tmp_path / "camera.npz", camera)
    loaded = load_camera(tmp_path / "camera.npz")
    assert (loaded.shape, loaded.amplifiers) == (camera.shape, camera.amplifiers)
    assert list(loaded.response) == ["L", "R"]
    for name in ("structure", "dark", "hot", "bad"):
        np.testing.assert_allclose(getattr(loaded, name), getattr(camera, name), rtol=1e-6)
    np.testing.assert_allclose(loaded.response["R"], camera.response["R"], rtol=1e-6)


def test_the_truth_of_a_frame_comes_back_from_its_file(lights, biases, tmp_path):
    for number, (_, _, truth) in enumerate((lights[0], biases[0])):
        save_frame(tmp_path / f"{number}.npz", truth)
        loaded = load_frame(tmp_path / f"{number}.npz")
        assert (loaded.sky, loaded.offsets) == (truth.sky, truth.offsets)
        assert np.array_equal(incident_light(loaded, SHAPE), incident_light(truth, SHAPE))
        assert np.array_equal(loaded.cosmic_rays.y, truth.cosmic_rays.y)
        assert np.array_equal(loaded.cosmic_rays.electrons, truth.cosmic_rays.electrons)
