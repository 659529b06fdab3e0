"""Plots for pages that hold everything in one file."""

import base64
import io

from matplotlib.figure import Figure


def as_base64(figure: Figure) -> str:
    """The figure as a PNG for `<img src="data:image/png;base64,...">`."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return base64.b64encode(buffer.getvalue()).decode("ascii")
