"""A wedge model that every experiment on the large-scale structure runs through in a moment."""

import dataclasses

from critpoints.landscape.subjects import Subject, wedge_subject


def quick_wedges() -> Subject:
    """The wedge model with few steps."""
    return dataclasses.replace(
        wedge_subject(),
        dims=(3, 20),
        section_steps=60,
        tunnel_steps=60,
        radii=(1.0, 10.0),
        knobs={"learning rate": (0.05, 0.2)},
    )
