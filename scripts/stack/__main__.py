"""`make stack`: install the real components that tests/stack/ starts. What is there already is left alone."""

from __future__ import annotations

import subprocess
import sys
import time

from scripts.stack import cache, collector, debian, vllm

COMPONENTS = {"packages": debian, "collector": collector, "vllm": vllm}


def main() -> int:
    print(f"cache: {cache.ROOT}")
    failed = False
    for name, component in COMPONENTS.items():
        began = time.monotonic()
        if component.installed():
            print(f"{name}: ready")
            continue
        print(f"{name}: installing …", flush=True)
        try:
            component.install()
        except (cache.CannotInstallError, subprocess.CalledProcessError) as error:
            print(f"{name}: {error}", file=sys.stderr)
            failed = True
        else:
            print(f"{name}: ready after {time.monotonic() - began:.0f} s")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
