import subprocess
import sys


def test_statistics_load_no_model_library_and_no_network():
    heavy = ("torch", "transformers", "requests", "httpx")
    code = f"import sys, accord.stats; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
