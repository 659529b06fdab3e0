"""Environments of their own for the peers, made below `build/` when first asked for."""

import subprocess
import venv
from pathlib import Path

PEERS = Path(__file__).parent


def python_of(name: str) -> Path:
    """The Python of the environment that has what `NAME.txt` lists."""
    folder = Path("build") / "bench" / name
    python = folder / "bin" / "python"
    if not python.is_file():
        venv.create(folder, with_pip=True)
        subprocess.run(
            [python, "-m", "pip", "install", "-q", "-r", PEERS / f"{name}.txt"], check=True
        )
    return python.absolute()
