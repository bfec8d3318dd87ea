import subprocess
import sys

HEAVY = ("sqlalchemy", "prefect", "numpy", "astropy", "numba")


def test_the_command_line_starts_without_what_only_some_commands_need() -> None:
    """`ccdflow --help`, and the completion of a word, wait for whatever is imported here."""
    code = f"import sys, ccdflow.cli; print(*[name for name in {HEAVY} if name in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == []


def test_a_recipe_by_hand_starts_without_database_and_prefect() -> None:
    code = f"import sys, ccdflow.commands.byhand; print(*[name for name in {HEAVY} if name in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["numpy"]
