"""critpoints landscape patterns: pictures in loss landscapes, and how hard random masks are to find."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from . import options
from .output import number, print_json, print_table, say

if TYPE_CHECKING:
    import numpy as np

    from critpoints.landscape.pattern_settings import PatternSetting
    from critpoints.landscape.results import Result

SETTINGS = ("digits", "fashion-mnist", "cifar-10")
ICON = "heart"


class Fillings(click.ParamType):
    """Shares as 0.1,0.5,0.9."""

    name = "fillings"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[float, ...]:
        """See ``click.ParamType.convert``."""
        try:
            shares = sorted({float(part) for part in str(value).split(",")})
        except ValueError:
            self.fail(f"{value!r} is no list of shares; write 0.1,0.5,0.9", param, ctx)
        if not all(0 < share < 1 for share in shares):
            self.fail(f"{value!r}: shares lie between 0 and 1", param, ctx)
        return tuple(shares)


def _common(command: Any) -> Any:
    """Options of both commands."""
    for option in (
        options.as_json,
        click.option("--quiet", is_flag=True, help="No progress display."),
        click.option(
            "--evaluation",
            type=click.Choice(["fastest", "loop", "vmap"]),
            default="fastest",
            show_default=True,
            help="How cells are evaluated; fastest: measured at the start.",
        ),
        click.option(
            "--cells", type=click.IntRange(1), nargs=2, metavar="BLACK WHITE", help="Cells drawn for each step."
        ),
        click.option(
            "--white",
            type=click.Choice(["cut", "cut-samples", "unlikelihood"]),
            help="What white cells are trained by: minus the cross-entropy, the mean of a batch cut or that of each"
            " sample; or -log(1 - p), which opens small white parts. Not for --grey.",
        ),
        click.option(
            "--cut",
            type=click.FloatRange(0, min_open=True),
            help="The cross-entropy from which on a cell is white enough.",
        ),
        click.option("--steps", type=click.IntRange(1), help="Train for another number of steps."),
        click.option("--size", type=click.IntRange(3, 1000), help="Cells along an edge of the picture."),
        click.option("--out", metavar="DIR", type=click.Path(file_okay=False, path_type=Path), help="For all results."),
        click.option(
            "--data", metavar="DIR", type=click.Path(path_type=Path), help="Folder of FashionMNIST and CIFAR-10."
        ),
        click.option(
            "--experiment",
            "name",
            type=click.Choice(SETTINGS),
            default="digits",
            show_default=True,
            help="Network and data.",
        ),
    ):
        command = option(command)
    return command


@click.group(short_help="Pictures in a loss landscape (Skorokhodov and Burtsev 2019).")
def patterns() -> None:
    """Look for pictures in a loss landscape: planes of networks, trained so that their losses show them.

    Results are stored in --out as they are found; a later call with the same options reads them.
    """


@patterns.command("fit", short_help="Find one picture.")
@click.option("--icon", metavar="NAME", help=f"A built-in icon  [default: {ICON}]")
@click.option("--picture", metavar="FILE.png", type=click.Path(path_type=Path), help="Any picture, made small.")
@click.option("--grey", is_flag=True, help="Keep the grey levels of --picture.")
@click.option("--random", "filling", type=click.FloatRange(0, 1), help="A random mask of this share of black cells.")
@click.option(
    "--margin",
    type=click.IntRange(0, 1000),
    default=0,
    show_default=True,
    help="Cells around the picture to show in the maps as well.",
)
@click.option("--seed", type=click.IntRange(0, 2**40), default=0, show_default=True, help="Of plane and steps.")
@_common
def fit(
    *,
    icon: str | None,
    picture: Path | None,
    grey: bool,
    filling: float | None,
    seed: int,
    as_json: bool,
    **given: Any,
) -> None:
    """Train a plane of networks whose loss map shows a picture: black where the loss is small.

    Leaves a result file with the plane and its maps of loss and accuracy on training and test data, and a figure.
    """
    if sum(each is not None for each in (icon, picture, filling)) > 1:
        raise click.UsageError("choose one of --icon, --picture and --random")
    if grey and picture is None:
        raise click.UsageError("--grey belongs to --picture")
    if grey and given["white"]:
        raise click.UsageError("--white is for masks, --grey knows the --cut alone")
    from critpoints.landscape.pattern_settings import PICTURE_SETTINGS
    from critpoints.landscape.pattern_study import MAPS, contrasts, run_picture
    from critpoints.landscape.results import save_result
    from critpoints.plots.patterns import pattern_maps
    from critpoints.study.environment import provenance

    from .figures import save_figure
    from .progress import Progress

    setting = _setting(PICTURE_SETTINGS, **given)
    label, levels = _levels(icon, picture, grey, filling, seed, setting.size)
    folder = given["out"] or Path(f"critpoints-pattern-{given['name']}-{label}")
    with Progress(quiet=given["quiet"], unit="steps") as progress:
        result = run_picture(
            folder,
            setting,
            levels,
            seed=seed,
            root=given["data"],
            evaluation=given["evaluation"],
            picture=label,
            environment=provenance(),
            callback=progress.update,
        )
    save_result(folder / "pattern.npz", result)
    say(f"results {folder / 'pattern.npz'}")
    maps = {name: result.arrays[name] for name in MAPS}
    title = f"{given['name']}: {label}, {result.arrays['origin'].size} parameters on a plane"
    save_figure(pattern_maps(levels, result.arrays["trained"], maps, title=title), folder, "pattern_maps")
    found = contrasts(result)
    if as_json:
        measured = {name: each.item() for name, each in result.arrays.items() if each.ndim == 0}
        shown = {part: each.to_dict() for part, each in found.items()}
        print_json({"experiment": given["name"], "picture": label, **measured, "contrasts": shown})
        return
    rows = [(part, *map(number, (each.black, each.white, each.difference))) for part, each in found.items()]
    print_table(f"{given['name']}: {label}", ("accuracy", "black cells", "white cells", "difference"), rows)
    _print_measured(result)


def _print_measured(result: Result) -> None:
    found = {name: each.item() for name, each in result.arrays.items() if each.ndim == 0}
    cosine, deviation = (number(found[name], 2) for name in ("largest_cosine", "length_deviation"))
    print(f"axes of the plane: largest cosine {cosine}, lengths equal to {deviation}, in float64")
    if found["cells_per_second_loop"] is not None and found["cells_per_second_loop"] == found["cells_per_second_loop"]:
        loop, vmap = (f"{found[f'cells_per_second_{name}']:.0f}" for name in ("loop", "vmap"))
        print(f"cells a second, forward and backward: {loop} by loop, {vmap} by vmap; used: {found['evaluation']}")
    ratio = found["memory_separate"] / found["memory_plane"]
    print(
        f"memory: {found['memory_plane'] / 1e6:.3g} MB for the plane and its Adam,"
        f" {found['memory_separate'] / 1e6:.3g} MB for {result.arrays['levels'].size} separate networks: {ratio:.0f}"
        " times as much"
    )
    print(f"processor time: {found['cpu_seconds_fit']:.0f} s to train, {found['cpu_seconds_maps']:.0f} s for the maps")


@patterns.command("filling", short_help="Random masks, with and without BatchNorm.")
@click.option("--fillings", type=Fillings(), metavar="LIST", help="Shares of black cells  [default: 0.1 to 0.9]")
@click.option("--runs", type=click.IntRange(1), default=5, show_default=True, help="Masks of each filling.")
@click.option("--workers", type=click.IntRange(1), default=1, show_default=True, help="Processes.")
@_common
def filling_study(*, fillings: tuple[float, ...] | None, runs: int, workers: int, as_json: bool, **given: Any) -> None:
    """Fit random masks of every filling with and without BatchNorm, and say whether it makes them harder to find."""
    from critpoints.landscape.pattern_settings import FILLING_SETTINGS
    from critpoints.landscape.pattern_study import FILLINGS, run_filling
    from critpoints.landscape.results import save_result
    from critpoints.plots.patterns import filling_curves, random_pattern_maps
    from critpoints.study.environment import provenance

    from .figures import save_figure
    from .progress import Progress

    name = given["name"]
    setting = _setting(FILLING_SETTINGS, **given)
    folder = given["out"] or Path(f"critpoints-pattern-filling-{name}")
    with Progress(quiet=given["quiet"], unit="planes") as progress:
        study = run_filling(
            folder,
            setting,
            fillings=fillings or FILLINGS,
            runs=runs,
            root=given["data"],
            evaluation=given["evaluation"],
            workers=workers,
            environment=provenance(),
            callback=progress.update,
        )
    save_result(folder / "filling.npz", study.result)
    say(f"results {folder / 'filling.npz'}")
    title = f"{name}: random masks of {setting.size} x {setting.size} cells"
    save_figure(filling_curves(study.fillings, study.accuracies(), title=title), folder, "filling_curves")
    middle = int(abs(study.fillings - 0.5).argmin())
    masks, maps = study.array("levels"), study.array("test_accuracy")
    title = f"{title}, filling {study.fillings[middle]:g}, run 0"
    figure = random_pattern_maps(masks[0, middle, 0], maps[0, middle, 0], maps[1, middle, 0], title=title)
    save_figure(figure, folder, "random_pattern_maps")
    if as_json:
        print_json({"experiment": name, **study.to_dict()})
        return
    rows = [
        (f"{filling:g}", *(f"{each.mean():.3f} ± {each.std(ddof=1) if runs > 1 else 0:.3f}" for each in pair))
        for filling, pair in zip(study.fillings, study.differences().swapaxes(0, 1), strict=True)
    ]
    columns = ("filling", "without BatchNorm", "with BatchNorm")
    print_table(f"{name}: test accuracy of black minus white cells", columns, rows)
    print(study.sentence)


def _setting(settings: Any, name: str, size: int | None, margin: int = 0, **given: Any) -> PatternSetting:
    """The named setting with what was asked for instead."""
    from dataclasses import replace

    from critpoints.landscape.pattern_settings import get_pattern_setting

    setting = get_pattern_setting(name, settings)
    changes = {option: given[option] for option in ("steps", "cells", "white", "cut") if given[option]}
    return replace(setting, recipe=replace(setting.recipe, **changes), size=size or setting.size, margin=margin)


def _levels(
    icon: str | None, picture: Path | None, grey: bool, filling: float | None, seed: int, size: int
) -> tuple[str, np.ndarray]:
    """The name of the picture and its levels."""
    from critpoints.landscape.masks import as_levels, as_mask, draw_icon, random_mask

    if picture is not None:
        from critpoints.plots.pictures import read_picture

        brightness = read_picture(picture)
        return picture.stem, as_levels(brightness, size) if grey else as_mask(brightness, size)
    if filling is not None:
        return f"random-{filling:g}", random_mask((size, size), filling, seed=seed)
    return icon or ICON, draw_icon(icon or ICON, size)
