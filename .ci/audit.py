"""Known vulnerabilities among locked dependencies: exits 1 if there is one that nobody has judged.

Where the vulnerability database cannot be reached it says that nothing was audited, and exits 0.
Judged ones stand in KNOWN with the reason why they do no harm here.

Usage: python .ci/audit.py LOCK
"""

import json
import subprocess
import sys

# {id: why it does no harm here}
KNOWN: dict[str, str] = {}
SECONDS = 300


def main() -> int:
    lock = sys.argv[1]
    try:
        done = subprocess.run(
            [
                *(sys.executable, "-m", "pip_audit", "--requirement", lock, "--disable-pip"),
                *("--require-hashes", "--format", "json", "--progress-spinner", "off"),
            ],
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        audited = json.loads(done.stdout)["dependencies"]
    except (subprocess.TimeoutExpired, ValueError, KeyError):
        print("audit: the vulnerability database cannot be reached; nothing was audited")
        return 0
    reached = [one for one in audited if "skip_reason" not in one]
    open_ones = {
        vulnerability["id"]: f"{one['name']} {one['version']}: {vulnerability['id']},"
        f" fixed in {', '.join(vulnerability['fix_versions']) or 'no release'}"
        for one in reached
        for vulnerability in one["vulns"]
        if vulnerability["id"] not in KNOWN
    }
    print(f"audit: {len(reached)} of {len(audited)} locked packages audited", end="")
    print("" if reached else " (the vulnerability database cannot be reached)")
    for line in open_ones.values():
        print(f"audit: {line}")
    return 1 if open_ones else 0


if __name__ == "__main__":
    sys.exit(main())
